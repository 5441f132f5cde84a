#!/usr/bin/env bash
# A network of type routed over two racks: h1 and h3 on one L2, h2 on another, a router that speaks BGP between them. Ports
# reach each other by VXLAN across and without it within a rack (encapsulation crossSubnet), then by way of the router (never).

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh"
# shellcheck source=scripts/lab-tenants.sh
. "$here/../../scripts/lab-tenants.sh"
# shellcheck source=test/support/traffic.sh
. "$here/../support/traffic.sh"
# shellcheck source=test/support/tenants.sh
. "$here/../support/tenants.sh"

LAB_NAME="rk$$"
lab_alone "$LAB_NAME"

objects() {
  local n
  cat <<YAML
---
{ apiVersion: warren/v1, kind: Tenant, metadata: { name: red } }
---
{ apiVersion: warren/v1, kind: Network, metadata: { name: r, tenant: red }, spec: { type: routed, subnets: [{ cidr: 10.60.0.0/24 }, { cidr: "fd00:60::/64" }] } }
YAML
  for n in 1 2 3; do
    cat <<YAML
---
apiVersion: warren/v1
kind: Port
metadata: { name: a$n, tenant: red }
spec: { network: r, node: h$n, fixedIPs: [10.60.0.1$n, "fd00:60::1$n"], device: { kind: veth, netns: $(tenant_ns red "a$n" "$n"), name: eth0 } }
YAML
  done
}

# way HOST ADDRESS WORDS: the kernel of that host leads there so
way() {
  local family=-4
  [[ $2 != *:* ]] || family=-6
  in_ns "$1" ip $family route show "$2" proto 87 | grep -q "$3"
}

# all_reach WHAT FAMILY...: every port pings every other one
all_reach() {
  local what=$1 family from to
  shift
  for family in "$@"; do
    for from in 1 2 3; do
      for to in 1 2 3; do
        ((from == to)) && continue
        local address=10.60.0.1$to
        [[ $family == ipv4 ]] || address=fd00:60::1$to
        tap_ok "$what: red/a$from pings red/a$to by $family" busywait 20 reaches red "a$from" "$from" "$address"
      done
    done
  done
}

objects >"$TRAFFIC_DIR/objects.yaml"
tap_ok 'racks: three hosts come up' lab_run up --hosts 3 --pods 1 --family dual --underlay dual --backend bgp --racks 2 --encapsulation crossSubnet --tenants-from "$TRAFFIC_DIR/objects.yaml"
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1

tap_ok 'crossSubnet: VXLAN to the other rack' busywait 30 way h1 10.60.0.12 'via 10.244.2.0 dev wrn-ovl'
tap_ok 'crossSubnet: by IPv6, too' busywait 30 way h1 fd00:60::12 'dev wrn-ovl'
tap_ok 'crossSubnet: none within the rack' busywait 30 way h1 10.60.0.13 "via $(host_addr4 3) "
all_reach crossSubnet ipv4 ipv6

# The lab's router peers by IPv4 alone, and leads to no IPv6 of the other rack.
sed -i 's/encapsulation: crossSubnet/encapsulation: never/' "$LAB_DIR/cluster/cluster.yaml"
tap_ok 'never: to the other rack by the router' busywait 30 way h1 10.60.0.12 "via $ETCD4 "
tap_ok 'never: from there, too' busywait 30 way h2 10.60.0.13 'via 203.0.113.'
tap_ok 'never: within the rack by its host' busywait 30 way h1 10.60.0.13 "via $(host_addr4 3) "
all_reach never ipv4

sed -i 's/encapsulation: never/encapsulation: crossSubnet/' "$LAB_DIR/cluster/cluster.yaml"
tap_ok 'crossSubnet again: by VXLAN' busywait 30 way h1 10.60.0.12 'via 10.244.2.0 dev wrn-ovl'
tap_ok 'crossSubnet again: red/a1 pings red/a2 by IPv6' busywait 20 reaches red a1 1 fd00:60::12
tap_done
