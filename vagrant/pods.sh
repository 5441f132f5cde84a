#!/usr/bin/env bash
# What a container runtime would do on a host of the lab, at every boot: /usr/local/sbin/lab-pods, run by units of provision.sh.
#
#   lab-pods up         two pods plugged into wrn0, by subnet.env; and the namespaces of the tenants' ports
#   lab-pods register   tells the model of them: the Service "web" selects them
#
# A pod is a network namespace: pod1, pod2. Ports of tenants are in red and blue, on h2 in only-blue, too.

set -o errexit -o nounset -o pipefail

readonly SUBNET=/run/flannel/subnet.env
readonly PODS=2

# value KEY: of subnet.env; empty as long as warrend has not written it.
value() { sed -n "s/^$1=//p" "$SUBNET" 2>/dev/null || :; }

namespace() {
  [[ -e /run/netns/$1 ]] || ip netns add "$1"
  ip -n "$1" link set lo up
}

up() {
  local pod name gateway mtu
  for name in red blue only-blue; do namespace "$name"; done
  until gateway=$(value FLANNEL_SUBNET) && [[ -n $gateway && -d /sys/class/net/wrn0 ]]; do sleep 0.5; done
  mtu=$(value FLANNEL_MTU)
  for ((pod = 1; pod <= PODS; pod++)); do
    name=pod$pod
    namespace "$name"
    [[ -d /sys/class/net/veth-$name ]] || ip link add "veth-$name" type veth peer name eth0 netns "$name"
    ip link set "veth-$name" mtu "$mtu" master wrn0 up
    ip -n "$name" link set eth0 mtu "$mtu" up
    # 10.244.3.1/24 is the bridge's; its pods come next.
    ip -n "$name" address replace "${gateway%.*}.$((pod + 1))/${gateway#*/}" dev eth0
    ip -n "$name" route replace default via "${gateway%/*}"
  done
}

register() {
  local pod address
  for ((pod = 1; pod <= PODS; pod++)); do
    address=$(ip -n "pod$pod" -o -4 address show dev eth0 | sed -n 's/.* inet \([0-9.]*\).*/\1/p')
    cat <<YAML
---
apiVersion: warren/v1
kind: Pod
metadata: { name: $(hostname)-pod$pod, labels: { app: web } }
spec:
  nodeName: $(hostname)
  addresses: [$address]
  ports: [{ name: http, port: 8080 }, { name: echo, protocol: UDP, port: 8080 }]
YAML
  done | warren apply -f -
}

case ${1-} in
  up | register) "$1" ;;
  *)
    echo 'Usage: lab-pods up|register' >&2
    exit 2
    ;;
esac
