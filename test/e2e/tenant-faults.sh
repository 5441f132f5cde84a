#!/usr/bin/env bash
# Tenants on two hosts, what else befalls them: containers that are not there yet, connections and VIPs that move, DHCP that
# cannot start, groups in a circle, a store that is lost, a host that boots again.

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

lab_alone "tf$$"
tap_ok 'tenants: two hosts come up' lab_run up --hosts 2 --pods 0 --tenants
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1
VNI=$(port_json h1 a1 | jq .port.vni)
ROUTER=$(router_of h1 "$VNI")
apply() { on h1 apply -f - >/dev/null; }

# --- a container that is not there ----------------------------------------------------------------------------------------------

# events_of HOST ID KEY: how many since, with an error and without
events_of() {
  on "$1" events -o json | jq -s -c --argjson id "$2" --arg key "$3" \
    '[flatten[] | select(.id > $id and .table == "fabric-link" and (.key | contains($key)))] | [map(select(.error)), map(select(.error | not))] | map(length)'
}
events_are() { [[ $(events_of "${@:1:3}") == "$4" ]] || { events_of "${@:1:3}" && return 1; }; }
gone=$(tenant_ns red b1 1)
link=$(port_json h1 b1 | jq -r '.port.link | split(" ")[0]')
id=$(last_event h1)
ip netns delete "$gone"
tap_ok 'container: gone, and the port says so' within 2000 port_is h1 b1 'DOWN NO_NETNS'
sleep 3 # tried again after 0.1, 0.2, 0.4, 0.8 and 1.6 s
tap_ok 'container: one event, however often it is tried' events_are h1 "$id" "$link" '[1,0]'
ip netns add "$gone"
tap_ok 'container: back, and so is its port' within 2000 reaches red a1 1 10.0.2.11
tap_ok 'container: and one event when it is over' events_are h1 "$id" "$link" '[1,1]'

# --- what is dropped --------------------------------------------------------------------------------------------------------------

c red a1 1 ip address add 10.0.1.77/32 dev eth0
c red a1 1 ping -n -q -c 2 -i 0.2 -W 0.2 -I 10.0.1.77 10.0.1.12 >/dev/null 2>&1 || :
c red a1 1 ip address delete 10.0.1.77/32 dev eth0
tap_ok 'drops: describe says what was dropped of a port, and why' \
  grep -Eq '^dropped +[1-9][0-9]*: (ARP that is not its own|from a MAC or an address that is not its own)$' <(on h1 describe port red/a1)
tap_ok 'drops: and nothing of a port of which nothing was' fails grep -q '^dropped' <(on h2 describe port red/a2)

# --- a connection over a move -------------------------------------------------------------------------------------------------------

# The server's container stays where it is, its port goes to the other host: conntrack there never saw the connection.
server red b1 1
cat >"$TRAFFIC_DIR/talk" <<'BASH'
exec 3<>"/dev/tcp/$1/8080"
while echo >&3; do read -r -t 20 -u 3 && echo "$REPLY"; sleep 0.05; done
BASH
run_in red a1 1 moving-on bash "$TRAFFIC_DIR/talk" 10.0.2.11
answers() { wc -l <"$TRAFFIC_DIR/moving-on"; }
more_than() { (($(answers) > $1)); }
tap_ok 'move: a connection stands, client and server on one host' busywait 5 more_than 5
before=$(identity b1)
tap_ok 'move: the server goes to the other host' on h2 port attach red/b1 --netns "/run/netns/$gone"
tap_ok 'move: ACTIVE there' within 3000 port_is h2 b1 ACTIVE
# TCP asks again after 0.2, 0.4, 0.8 ... s: what was lost during a slow move comes as late as that.
tap_ok 'move: its connection goes on' within 10000 more_than $(($(answers) + 5))
tap_is 'move: MAC and addresses are the same' "$(identity b1)" "$before"
tap_ok 'move: its new host tracks it' grep -q 'dport=8080' <(ip netns exec "$(fabric h2)" conntrack -L -p tcp --orig-dst 10.0.2.11 2>/dev/null)
tap_ok 'move: and back' on h1 port attach red/b1 --netns "/run/netns/$gone"
tap_ok 'move: ACTIVE again' within 3000 port_is h1 b1 ACTIVE
tap_ok 'move: it goes on still' within 10000 more_than $(($(answers) + 5))
tap_ok 'move: it is one connection' proc_alive "$TRAFFIC_DIR/moving-on.pid"
proc_kill "$TRAFFIC_DIR/moving-on.pid" KILL

# --- a VIP behind the router ----------------------------------------------------------------------------------------------------------

for port in a1 a2; do
  on h1 get port "red/$port" -o json |
    jq '.spec.allowedAddressPairs = [{ ip: "10.0.1.100" }, { ip: "fd00:0:0:1::100" }]' | apply
done
on h1 get network red/b -o json | jq '.spec.subnets += [{ cidr: "fd00:0:0:2::/64" }]' | apply
VIPS=(10.0.1.100/32 fd00:0:0:1::100/128)
for port in 'a1 1' 'a2 2'; do c red "${port% *}" "${port#* }" sysctl -qw net.ipv6.conf.eth0.accept_dad=0; done
# holds PORT HOST-NUMBER: takes the VIPs, and says so as a node of VRRP does
holds() {
  local vip mac
  mac=$(port_json "h$2" "$1" | jq -r .port.mac)
  for vip in "${VIPS[@]}"; do c red "$1" "$2" ip address add "$vip" dev eth0 preferred_lft forever; done
  for vip in "${VIPS[@]}"; do
    node --no-warnings --import "$WARREN_ROOT/test/support/register.mjs" "$WARREN_ROOT/test/support/announce.ts" \
      "/run/netns/$(tenant_ns red "$1" "$2")" eth0 "$mac" "${vip%/*}"
  done
}
lets_go() {
  local vip
  for vip in "${VIPS[@]}"; do c red "$1" "$2" ip address delete "$vip" dev eth0; done
}
routed() {
  local vip
  for vip in "${VIPS[@]}"; do reaches red b1 1 "${vip%/*}" && reaches red b2 2 "${vip%/*}" || return 1; done
}
tap_ok 'VIP: all is well' all_converged
holds a1 1
tap_ok "VIP: clients behind the router reach its holder, from its host and the other, both families" within 3000 routed
lets_go a1 1
holds a2 2
tap_ok 'VIP: it has moved, and both find it within a second of its announcement' within 1000 routed
lets_go a2 2
tap_ok 'VIP: held by nobody it is nobody' fails routed
tap_ok 'VIP: plan is empty' plan_is_empty h1

# --- DHCP ---------------------------------------------------------------------------------------------------------------------------

# heard HOST-NUMBER PORT: DHCP, router solicitations and advertisements of others in that container
c red a2 2 nft 'table inet heard { chain in { type filter hook prerouting priority -300; udp dport { 67, 68, 546, 547 } counter; icmpv6 type { nd-router-solicit } counter; }; }'
heard() { c red a2 2 nft -j list chain inet heard in | jq '[.nftables[].rule.expr[]?.counter.packets // empty] | add'; }
cat >"$TRAFFIC_DIR/lease.sh" <<'SH'
#!/bin/sh
[ "$1" != bound ] || echo "$ip $router $mtu $dns $hostname $lease"
SH
chmod +x "$TRAFFIC_DIR/lease.sh"
asks_lease() { c red a1 1 busybox udhcpc -i eth0 -f -q -n -t 2 -T 1 -O mtu -O hostname -s "$TRAFFIC_DIR/lease.sh" 2>/dev/null; }
if command -v busybox >/dev/null; then
  tap_is 'DHCP: a container that asks gets its address, gateway, MTU, DNS and name' \
    "$(asks_lease)" "10.0.1.11 10.0.1.1 $(port_json h1 a1 | jq .port.mtu) 10.0.1.1 a1 86400"
else
  tap_skip 'DHCP: a container that asks gets its address' 'no busybox'
fi
c red a1 1 sysctl -qw net.ipv6.conf.eth0.accept_ra=1 net.ipv6.conf.eth0.autoconf=1
c red a1 1 ip link set eth0 down
c red a1 1 ip link set eth0 up
advertised() { c red a1 1 ip -6 route show default | grep -q 'proto ra'; }
tap_ok 'RA: a container that solicits one has a default route by it' within 5000 advertised
tap_ok 'RA: and the address of its MAC' grep -q 'fd00:.*dynamic' <(c red a1 1 ip -6 address show dev eth0 scope global)
c red a1 1 sysctl -qw net.ipv6.conf.eth0.accept_ra=0
c red a1 1 ip -6 route flush proto ra
tap_is 'DHCP, RA: nothing of it was heard on the other host' "$(heard)" 0
tap_ok 'RA: what Warren gave is back' within 3000 reaches red a1 1 10.0.1.12

dhcp_note() { jq .pid "$LAB_DIR/h1/state/dhcp/$VNI/running"; }
network_says() { on h1 describe network red/a | grep -q "$1"; }
status_says() { problems h1 | grep -q "$1"; }
dhcp_state() { [[ $(status_of h1 | jq -r '.tables[] | select(.name == "dhcp").state') == "$1" ]]; }
lab_run stop h1 >/dev/null
kill -s KILL "$(dhcp_note)"
nsenter --net="/run/netns/$ROUTER" socat -u UDP4-RECV:53,bind=10.0.1.1 STDOUT </dev/null >/dev/null 2>&1 &
disown $!
proc_save "$TRAFFIC_DIR/taker.pid" $!
taken() { nsenter --net="/run/netns/$ROUTER" ss -lnu | grep -q '10.0.1.1:53'; }
tap_ok 'DHCP: killed, and somebody has taken its port' busywait 3 taken
lab_run start h1 >/dev/null || :
tap_ok 'DHCP: the network says so' within 5000 network_says 'already in use'
tap_ok 'DHCP: the ports forward on' reaches red a1 1 10.0.1.12
tap_ok 'DHCP: so does status' dhcp_state degraded
proc_kill "$TRAFFIC_DIR/taker.pid" KILL
tap_ok 'DHCP: the port is free, and it is back' within 35000 dhcp_state converged
tap_ok 'DHCP: the network has nothing to say' fails network_says '^DHCP '
routes=$(jq -cn '[range(40) | { destination: "10.\(. + 100).0.0/16", nextHop: "10.0.1.12" }]')
on h1 get network red/a -o json | jq --argjson routes "$routes" '.spec.subnets[0].hostRoutes = $routes' | apply
tap_ok 'DHCP: more host routes than an option holds: status says what guests are not told' within 3000 status_says 'DHCP network/red/a: Guests are not told'
on h1 get network red/a -o json | jq 'del(.spec.subnets[0].hostRoutes)' | apply
tap_ok 'DHCP: and no more' within 3000 fails status_says 'DHCP network/red/a'

# --- what subnets say of themselves -------------------------------------------------------------------------------------------------

# d1 has an address by DHCP of each family, q1 one of a subnet without DHCP: clients of their own ask, through bridge and rules.
for port in d1 q1; do ip netns add "$(tenant_ns red "$port" 1)" && ip -n "$(tenant_ns red "$port" 1)" link set lo up; done
apply <<YAML
apiVersion: warren/v1
kind: Network
metadata: { name: d, tenant: red }
spec:
  subnets:
    - { cidr: 10.0.4.0/24, dnsServers: [10.0.4.53, 10.0.4.54], hostRoutes: [{ destination: 10.77.0.0/16, nextHop: 10.0.4.9 }] }
    - { cidr: "fd00:0:0:4::/64", pools: [{ start: "fd00:0:0:4::100", end: "fd00:0:0:4::1ff" }], dnsServers: ["fd00:0:0:4::53"] }
    - { name: quiet, cidr: 10.0.5.0/24, dhcp: false }
---
apiVersion: warren/v1
kind: Port
metadata: { name: d1, tenant: red }
spec: { network: d, node: h1, fixedIPs: [10.0.4.11, "fd00:0:0:4::111"], device: { kind: veth, netns: $(tenant_ns red d1 1), name: eth0 } }
---
apiVersion: warren/v1
kind: Port
metadata: { name: q1, tenant: red }
spec: { network: d, node: h1, fixedIPs: [10.0.5.11], device: { kind: veth, netns: $(tenant_ns red q1 1), name: eth0 } }
YAML
tap_ok 'subnets: ACTIVE' within 5000 port_is h1 d1 ACTIVE
tap_ok 'subnets: the other, too' within 5000 port_is h1 q1 ACTIVE
cat >"$TRAFFIC_DIR/told.sh" <<'SH'
#!/bin/sh
[ "$1" != bound ] || echo "$ip $dns $staticroutes"
SH
chmod +x "$TRAFFIC_DIR/told.sh"
told() { c red "$1" 1 busybox udhcpc -i eth0 -f -q -n -t 3 -T 1 -O staticroutes -s "$TRAFFIC_DIR/told.sh" 2>/dev/null; }
told_is() { [[ $(told d1) == "$1" ]] || { told d1 && return 1; }; }
ask6() {
  node --no-warnings --import "$WARREN_ROOT/test/support/register.mjs" "$WARREN_ROOT/test/support/dhcp6-ask.ts" \
    "/run/netns/$(tenant_ns red "$1" 1)" "$(port_json h1 "$1" | jq -r .port.mac)"
}
asked6() { ask6 d1 | grep -Fx '{"addresses":["fd000000000000040000000000000111"],"dns":["fd000000000000040000000000000053"]}'; }
if command -v busybox >/dev/null; then
  tap_ok "subnets: DHCP: its subnet's DNS servers and host routes" busywait 20 told_is \
    '10.0.4.11 10.0.4.53 10.0.4.54 0.0.0.0/0 10.0.4.1 10.0.5.0/24 0.0.0.0 10.77.0.0/16 10.0.4.9'
  tap_is 'subnets: dhcp: false, and nobody answers' "$(told q1)" ''
else
  tap_skip 'subnets: DHCP: its subnet'"'"'s DNS servers and host routes' 'no busybox'
fi
tap_ok 'subnets: DHCPv6: its address, and its DNS server' busywait 20 asked6
tap_ok 'subnets: what Warren gave: the host route is in the container' grep -q '^10.77.0.0/16 via 10.0.4.9 ' <(c red d1 1 ip route)

# A route of the router, by way of a port on the other host that has what is there.
on h1 get port red/a2 -o json | jq '.spec.allowedAddressPairs = [{ ip: "10.9.0.0/16" }]' | apply
on h1 get router red/r -o json | jq '.spec.networks += ["d"] | .spec.routes = [{ destination: "10.9.0.0/16", nextHop: "10.0.1.12" }]' | apply
c red a2 2 ip address add 10.9.0.1/32 dev lo
# It asks for its gateway as itself, as it does for what it forwards.
c red a2 2 sysctl -qw net.ipv4.conf.all.arp_announce=2
tap_ok "routes: the router's route leads a port of another network there, from that host" within 3000 reaches red b2 2 10.9.0.1
tap_ok 'routes: and from the other host' within 3000 reaches red b1 1 10.9.0.1
tap_ok 'routes: a network that came behind the router, too' within 3000 reaches red d1 1 10.9.0.1
on h1 get router red/r -o json | jq 'del(.spec.routes)' | apply
tap_ok 'routes: it goes, and leads nowhere any more' within 3000 misses red b1 1 10.9.0.1
on h1 get port red/a2 -o json | jq 'del(.spec.allowedAddressPairs)' | apply

# A pair with a MAC of its own: frames for that MAC reach its port.
PAIR_MAC=0a:7a:00:00:00:07
on h1 get port red/a2 -o json | jq --arg mac "$PAIR_MAC" '.spec.allowedAddressPairs = [{ ip: "10.0.1.200", mac: $mac }]' | apply
c red a2 2 nft "table netdev pair { chain in { type filter hook ingress device eth0 priority 0; ether daddr $PAIR_MAC counter; }; }"
c red a1 1 ip neigh replace 10.0.1.200 lladdr "$PAIR_MAC" dev eth0 nud permanent
pair_heard() {
  reaches red a1 1 10.0.1.200 || :
  (($(c red a2 2 nft -j list chain netdev pair in | jq '[.nftables[].rule.expr[]?.counter.packets // empty] | add') > 0))
}
tap_ok 'pairs: a frame for the MAC of a pair is heard by its port on the other host' within 3000 pair_heard
c red a1 1 ip neigh delete 10.0.1.200 dev eth0
c red a2 2 nft delete table netdev pair
on h1 get port red/a2 -o json | jq 'del(.spec.allowedAddressPairs)' | apply
for port in d1 q1; do on h1 delete "port/red/$port" >/dev/null; done
on h1 get router red/r -o json | jq '.spec.networks = ["a", "b"]' | apply
on h1 delete network/red/d >/dev/null
tap_ok 'subnets: all of it is gone again' all_converged

# --- groups in a circle -----------------------------------------------------------------------------------------------------------------

for pair in 'one two' 'two one'; do
  printf '{ apiVersion: warren/v1, kind: SecurityGroup, metadata: { name: %s, tenant: red }, spec: { rules: [{ direction: ingress, remoteGroup: %s }, { direction: egress }] } }\n---\n' \
    "${pair% *}" "${pair#* }"
done | apply
for pair in 'a1 one' 'a2 two'; do
  on h1 get port "red/${pair% *}" -o json | jq --arg group "${pair#* }" '.spec.securityGroups = [$group]' | apply
done
tap_ok 'groups in a circle: each lets the other in' within 2000 reaches red a1 1 10.0.1.12
tap_ok 'groups in a circle: both ways' reaches red a2 2 10.0.1.11
tap_ok 'groups in a circle: and nobody else' misses red b1 1 10.0.1.12
tap_ok 'groups in a circle: plan is empty' plan_is_empty h1
tap_ok 'groups in a circle: none of them can go' fails on h1 delete securitygroup/red/one
for port in a1 a2; do on h1 get port "red/$port" -o json | jq 'del(.spec.securityGroups)' | apply; done
tap_ok 'groups in a circle: left behind' within 2000 reaches red b1 1 10.0.1.12

# --- the store is lost ----------------------------------------------------------------------------------------------------------------------

run_in red a1 1 ping-lost ping -n -q -i 0.02 10.0.1.12
run_in red b1 1 ping-routed ping -n -q -i 0.02 10.0.1.12
mv "$LAB_DIR/cluster" "$LAB_DIR/cluster.away"
sleep 3
tap_ok 'store lost: ports answer, same network' reaches red a1 1 10.0.1.12
tap_ok 'store lost: routed' reaches red b1 1 10.0.1.12
lab_run kill h1 >/dev/null
lab_run start h1 >/dev/null || :
sleep 1
tap_ok 'store lost: warrend killed and started without it: they answer' reaches red a1 1 10.0.2.12
mv "$LAB_DIR/cluster.away" "$LAB_DIR/cluster"
tap_ok 'store lost: it is back, and all is well' all_converged
for name in lost routed; do
  kill -s INT "$(proc_alive "$TRAFFIC_DIR/ping-$name.pid")"
  busywait 3 lib_proc_gone "$TRAFFIC_DIR/ping-$name.pid"
  tap_ok "store lost: not a packet was ($name)" grep -Eq ' 0(\.[0-9]+)?% packet loss' "$TRAFFIC_DIR/ping-$name"
done

# --- the host boots again -------------------------------------------------------------------------------------------------------------------

lab_run kill h1 >/dev/null
for pid in "$LAB_DIR"/h1/state/dhcp/*/running; do kill -s KILL "$(jq .pid "$pid")" 2>/dev/null || :; done
for space in $(ip netns list | cut -d ' ' -f 1 | grep -E "^$(ns h1)-(fabric|r-|s-)"); do ip netns delete "$space"; done
in_ns h1 nft flush ruleset
for port in a1 b1; do
  for tenant in red blue; do
    ip netns delete "$(tenant_ns "$tenant" "$port" 1)"
    ip netns add "$(tenant_ns "$tenant" "$port" 1)"
    ip -n "$(tenant_ns "$tenant" "$port" 1)" link set lo up
  done
done
lab_run start h1 >/dev/null
tap_ok 'boot: the host that had nothing has all again' converged h1
tap_ok 'boot: every port answers' lab_run tenants
tap_ok 'boot: DHCP is there' dhcp_state converged
tap_ok 'boot: plan is empty' plan_is_empty h1
tap_ok 'boot: blue is not red' fails asks red-b1 blue a1 1 10.0.2.11

tap_ok 'delete: a Tenant with objects is refused' fails on h1 delete tenant/red
refusal=$(on h1 delete tenant/red 2>&1 || :)
tap_ok 'delete: the first five that are in the way are listed, and how many more' \
  grep -Eq 'there are network/red/a, network/red/b, port/red/a1, port/red/a2, port/red/b1 and [0-9]+ more' <<<"$refusal"
tap_done
