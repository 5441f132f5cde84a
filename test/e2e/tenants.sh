#!/usr/bin/env bash
# Tenants on two hosts: red and blue with the same addresses, and what befalls their devices. Each thing that is broken by
# somebody passes nothing meanwhile (looked at with warrend stopped), and is healed within a second or two.

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

lab_alone "tn$$"

# --- up --------------------------------------------------------------------------------------------------------------------

root_before=$(ip -o link && ip route show table all && ip rule && nft list tables)
tap_ok 'tenants: two hosts come up' lab_run up --hosts 2 --pods 0 --tenants
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1
tap_ok 'tenants: inside each tenant every port answers, same host and other, routed and not' lab_run tenants
tap_ok 'tenants: red/a1 is ACTIVE' port_is h1 a1 ACTIVE
tap_is 'tenants: the other host knows of a2' "$(on h2 get port red/a2 -o wide | awk 'NR == 2 { print $7 }')" ACTIVE
tap_ok 'tenants: status has a line of them' grep -q '2 tenants; here 4 networks, 2 routers, ports 4 active' <(on h1 status)
tap_is 'tenants: get --tenant has one tenant alone' "$(on h1 get networks,routers,ports --tenant red -o name | grep -vc /red/)" 0
VNI=$(port_json h1 a1 | jq .port.vni)
ROUTER=$(router_of h1 "$VNI")
tap_ok 'tenants: the router of red has a namespace' test -n "$ROUTER"

# --- blue has the same addresses, and a listener; red has none ----------------------------------------------------------------

server blue a2 2
tap_ok 'isolation: blue reaches its own listener at 10.0.1.12' asks blue-a2 blue a1 1 10.0.1.12
tap_ok 'isolation: red, asking 10.0.1.12, does not' refused red a1 1 10.0.1.12
heard() { c blue a2 2 nft -j list chain inet heard in | jq '[.nftables[].rule.expr[]?.counter.packets // empty] | add'; }
c blue a2 2 nft 'table inet heard { chain in { type filter hook input priority 0; udp dport 7777 counter; }; }'
c red a1 1 bash -c 'for i in 1 2 3; do echo x >/dev/udp/10.0.1.12/7777; done' 2>/dev/null || :
c red a1 1 ping -n -q -b -c 2 -i 0.2 10.0.1.255 >/dev/null 2>&1 || :
c blue a1 1 bash -c 'echo x >/dev/udp/10.0.1.12/7777' 2>/dev/null || :
heard_is() { [[ $(heard) == "$1" ]] || { heard && return 1; }; }
tap_ok "isolation: of four datagrams to that address blue's port saw blue's alone" busywait 2 heard_is 1

# --- warrend dies, and is started again ---------------------------------------------------------------------------------------

traffic_ping() { run_in red a1 1 "ping-$1" ping -n -q -i 0.01 "$2"; }
ping_end() {
  local line
  kill -s INT "$(proc_alive "$TRAFFIC_DIR/ping-$1.pid")"
  busywait 3 lib_proc_gone "$TRAFFIC_DIR/ping-$1.pid"
  line=$(grep 'packets transmitted' "$TRAFFIC_DIR/ping-$1")
  [[ $line =~ ^([0-9]+)\ packets\ transmitted,\ ([0-9]+)\ received && ${BASH_REMATCH[1]} -gt 50 &&
    ${BASH_REMATCH[1]} -le $((BASH_REMATCH[2] + 1)) ]] || { printf '%s\n' "$line" && return 1; }
}
traffic_ping same 10.0.1.12
traffic_ping routed 10.0.2.12
sleep 0.3
tap_ok 'kill -9: warrend of h1' lab_run kill h1
sleep 0.3
tap_ok 'kill -9: and start' lab_run start h1
tap_ok 'kill -9: not a packet to the other host was lost' ping_end same
tap_ok 'kill -9: nor of those that are routed' ping_end routed
tap_is 'restart: it wrote nothing' "$(on h1 events 2>&1)" 'No events.'
tap_ok 'restart: plan is empty' plan_is_empty h1

# --- a container goes away under its port ---------------------------------------------------------------------------------------

gone=$(tenant_ns red b1 1)
ip netns delete "$gone"
tap_ok 'container: gone, and the port says so' within 2000 port_is h1 b1 'DOWN NO_NETNS'
tap_ok 'container: the others go on' reaches red a1 1 10.0.2.12
sleep 1.5 # a few retries: the next one is not due yet
ip netns add "$gone"
tap_ok 'container: it is back, and its port with it' within 2000 reaches red a1 1 10.0.2.11
tap_ok 'container: ACTIVE' within 2000 port_is h1 b1 ACTIVE
c red b1 1 ip link delete eth0
tap_ok 'container: it deletes its link, and has another' within 1000 reaches red a1 1 10.0.2.11
ip netns add "$gone-x"
ip -n "$gone-x" link add eth0 type bridge
tap_ok 'container: plugged into another, at once' on h1 port attach red/b1 --netns "$gone-x"
tap_ok 'container: which has an eth0 already, and the port says so' within 2000 port_is h1 b1 'DOWN DEVICE_EXISTS'
tap_is 'container: and nothing of the port is written to that one' "$(ip -n "$gone-x" -j address show eth0 | jq '.[0].addr_info | length')" 0
ip -n "$gone-x" link delete eth0
tap_ok 'container: that one goes away, and the port is there' within 4000 reaches red a1 1 10.0.2.11
tap_ok 'container: back into the first' on h1 port attach red/b1 --netns "$gone"
tap_ok 'container: where it answers' within 1000 reaches red a1 1 10.0.2.11

# --- a port moves -------------------------------------------------------------------------------------------------------------

before=$(identity a1)
new=$(tenant_ns red moved 2)
ip netns add "$new"
tap_ok 'move: detach' on h1 port detach red/a1
tap_ok 'move: nothing is left of it in its container' within 2000 fails c red a1 1 ip link show eth0
tap_ok 'move: attach on the other host' on h2 port attach red/a1 --netns "/run/netns/$new"
tap_ok 'move: it answers there within a second, from its old neighbour on the old host' within 1000 reaches red b1 1 10.0.1.11
tap_is 'move: it has kept MAC and addresses' "$(identity a1)" "$before"
MAC=$(jq -r '.[0]' <<<"$before")
tap_is 'move: that is what its container sees' "$(ip -n "$new" -j link show eth0 | jq -r '.[0].address')" "$MAC"
tap_ok 'move: the FDB of the old host leads to the new one' \
  grep -q "^$MAC dev vx$VNI dst 192.0.2.12 " <(bridge -n "$(fabric h1)" fdb show)
tap_ok 'move: and of the new one to its link' grep -Eq "^$MAC dev p[0-9a-f]{10} master br$VNI " <(bridge -n "$(fabric h2)" fdb show)
on h1 port detach red/a1 >/dev/null
tap_ok 'move: back again' on h1 port attach red/a1 --netns "$(tenant_ns red a1 1)"
tap_ok 'move: it answers' within 1000 reaches red a2 2 10.0.1.11

# --- a tap that somebody made ----------------------------------------------------------------------------------------------------

cat <<'YAML' | on h1 apply -f - >/dev/null
{ apiVersion: warren/v1, kind: Port, metadata: { name: vm, tenant: red }, spec: { network: a } }
YAML
tap_ok 'tap: a Port that is on no host says so' port_is h1 vm 'DOWN UNBOUND'
HAVE_TAP=''
if in_ns h1 ip tuntap add dev vnet7 mode tap 2>/dev/null; then
  HAVE_TAP=1
  in_fabric() { ip -n "$(fabric h1)" link show vnet7 >/dev/null; }
  on_host() { in_ns h1 ip link show vnet7 >/dev/null; }
  tap_ok 'tap: attach' on h1 port attach red/vm --tap vnet7
  tap_ok 'tap: it is in the fabric' within 2000 in_fabric
  tap_ok 'tap: ACTIVE' within 2000 port_is h1 vm ACTIVE
  on h1 port detach red/vm >/dev/null
  tap_ok 'tap: detached, it is back under its name' within 2000 on_host
  tap_is 'tap: without an alias of ours' "$(in_ns h1 ip -j link show vnet7 | jq -r '.[0].ifalias // "none"')" none
  tap_ok 'tap: attach again' on h1 port attach red/vm --tap vnet7
  tap_ok 'tap: it is in the fabric again' within 2000 in_fabric
  in_ns h1 ip link add dummy7 type bridge
  on h1 port detach red/vm >/dev/null && on h1 port attach red/vm --tap dummy7 >/dev/null
  tap_ok 'tap: a link that is none is refused by name' within 2000 port_is h1 vm 'DOWN NOT_TAP'
  tap_ok 'tap: and stays where it is' in_ns h1 ip link show dummy7
  on h1 port attach red/vm --tap vnet7 >/dev/null
  in_ns h1 ip link delete dummy7
  tap_ok 'tap: the right one again' within 2000 in_fabric
  ip -n "$(fabric h1)" link delete vnet7
  tap_ok 'tap: the VM has ended, and its tap with it; one of ours waits in its place' within 2000 port_is h1 vm ACTIVE
  in_ns h1 ip tuntap add dev vnet7 mode tap
  tap_ok 'tap: the VM is back with another, which takes that place' within 2000 fails on_host
  tap_ok 'tap: and it is in the fabric' within 1000 in_fabric
else
  tap_skip 'tap: attach, detach and give back' 'no /dev/net/tun'
fi

# --- others' hands --------------------------------------------------------------------------------------------------------------

# breaks WHAT TABLE HAND CMD...: by somebody, with warrend there. Of links the kernel says that it was itself.
breaks() {
  local what=$1 table=$2 hand=$3 id
  shift 3
  id=$(last_event h1)
  "$@"
  tap_ok "$what: healed within a second" within 1000 reaches red a1 1 10.0.2.12
  tap_ok "$what: and to the port beside it" within 1000 reaches red a1 1 10.0.1.12
  tap_ok "$what: all is well" converged h1
  tap_ok "$what: an event names the hand" busywait 2 hand_since h1 "$id" "$table" "$hand"
  tap_ok "$what: plan is empty" plan_is_empty h1
}
breaks "a router's namespace deleted" netns '' ip netns delete "$ROUTER"
breaks 'a bridge deleted' fabric-link kernel ip -n "$(fabric h1)" link delete "br$VNI"
breaks 'the table of states deleted' fabric-filter nft ip netns exec "$(fabric h1)" nft delete table inet warren
breaks "the bridges' table deleted" fabric-filter nft ip netns exec "$(fabric h1)" nft delete table bridge warren
breaks 'br_netfilter switched off' fabric-link kernel ip -n "$(fabric h1)" link set "br$VNI" type bridge nf_call_iptables 0
breaks 'a VXLAN device set down' fabric-link kernel ip -n "$(fabric h1)" link set "vx$VNI" down

# closed WHAT CMD...: with warrend stopped nothing passes, and its start heals
closed() {
  local what=$1
  shift
  lab_run stop h1 >/dev/null
  "$@"
  tap_ok "$what, warrend stopped: nothing passes" misses red a1 1 10.0.1.12
  tap_ok "$what: warrend starts" lab_run start h1
  tap_ok "$what: and it passes" within 1000 reaches red a1 1 10.0.1.12
}
closed 'the table of states deleted' ip netns exec "$(fabric h1)" nft delete table inet warren
closed 'br_netfilter switched off' ip -n "$(fabric h1)" link set "br$VNI" type bridge nf_call_iptables 0

dnsmasq_pid() { jq .pid "$LAB_DIR/h1/state/dhcp/$VNI/running"; }
dnsmasq_lives() { local pid && pid=$(dnsmasq_pid) && [[ $pid != "$1" ]] && proc_start "$pid" >/dev/null; }
pid=$(dnsmasq_pid)
tap_ok 'dnsmasq: is there' dnsmasq_lives 0
kill -s KILL "$pid"
tap_ok 'dnsmasq: killed, and back within two seconds' within 2000 dnsmasq_lives "$pid"

# --- live changes ----------------------------------------------------------------------------------------------------------------

network_a() {
  printf '{ apiVersion: warren/v1, kind: Network, metadata: { name: a, tenant: red }, spec: { %s subnets: [{ cidr: 10.0.1.0/24, gateway: 10.0.1.1 }, { cidr: "fd00:0:0:1::/64" }] } }\n' "$1" |
    on h1 apply -f - >/dev/null
}
mtu_is() { [[ $(ip -n "$1" -j link show "$2" | jq '.[0].mtu') == "$3" ]]; }
network_a 'mtu: 1300,'
tap_ok 'MTU: reaches the container' within 2000 mtu_is "$(tenant_ns red a1 1)" eth0 1300
tap_ok 'MTU: and the router' within 2000 mtu_is "$ROUTER" "n$VNI" 1300
tap_ok 'MTU: and the other host' within 2000 mtu_is "$(tenant_ns red a2 2)" eth0 1300
tap_ok 'MTU: a packet of that size passes' c red a1 1 ping -n -q -c 1 -W 2 -M 'do' -s 1272 10.0.1.12
tap_ok 'MTU: a larger one does not' fails c red a1 1 ping -n -q -c 1 -W 1 -M 'do' -s 1273 10.0.1.12
network_a ''

# web RULES: group of red/a2
web() {
  printf '{ apiVersion: warren/v1, kind: SecurityGroup, metadata: { name: web, tenant: red }, spec: { rules: [%s] } }\n' "$1" |
    on h1 apply -f - >/dev/null
}
rule8080='{ direction: ingress, protocol: tcp, ports: 8080, remoteCIDR: 0.0.0.0/0 }'
rule_ping='{ direction: ingress, protocol: icmp, remoteCIDR: 0.0.0.0/0 }'
web "$rule_ping"
on h1 get port red/a2 -o json | jq '.spec.securityGroups = ["web"]' | on h1 apply -f - >/dev/null
server red a2 2
tap_ok 'group: ping is let in' within 2000 reaches red a1 1 10.0.1.12
tap_ok 'group: tcp is not' within 2000 refused red a1 1 10.0.1.12
web "$rule_ping, $rule8080"
tap_ok 'group: a rule more lets it in' within 1000 asks red-a2 red a1 1 10.0.1.12
# Both go on for as long as they are answered.
cat >"$TRAFFIC_DIR/talk" <<'BASH'
exec 3<>"/dev/tcp/$1/8080"
while echo >&3; do read -r -t 1 -u 3 && echo "$REPLY"; sleep 0.1; done
BASH
run_in red a1 1 tcp-on bash "$TRAFFIC_DIR/talk" 10.0.1.12
run_in red a1 1 ping-on ping -n -i 0.1 10.0.1.12
answers() { wc -l <"$TRAFFIC_DIR/$1-on"; }
some_answers() { (($(answers tcp) > 3 && $(answers ping) > 3)); }
tap_ok 'group: a connection that stands, and a ping' busywait 5 some_answers
tap_ok 'group: describe says it in words' grep -qx '  in tcp 8080 from anywhere' <(on h2 describe port red/a2)
web ''
tap_ok 'group: without rules new connections are refused' within 1000 refused red a1 1 10.0.1.12
sleep 0.3
before="$(answers tcp) $(answers ping)"
sleep 1.2
tap_is 'group: the connection and the ping that stood have stopped, too' "$(answers tcp) $(answers ping)" "$before"
tap_ok 'group: plan is empty' plan_is_empty h2
web "$rule_ping, { direction: ingress, protocol: tcp, ports: 8000-8999 }"
more_answers() { (($(answers tcp) > ${before% *} && $(answers ping) > ${before#* })); }
tap_ok 'group: other rules that admit them let them go on' within 4000 more_answers
web "$rule_ping, $rule8080"
sleep 0.5
before="$(answers tcp) $(answers ping)"
tap_ok 'group: a rule that takes the place of another cuts nobody off' within 1500 more_answers

# --- the end --------------------------------------------------------------------------------------------------------------------

tap_ok 'delete: a Tenant with ports is refused' fails on h1 delete tenant/red
tap_ok 'delete: and what is in the way is listed' grep -q port/red/a1 <(on h1 delete tenant/red 2>&1)
tap_ok 'cleanup: warrend of h1 ends' lab_run stop h1
tap_ok 'cleanup: runs' on h1 cleanup
tap_is 'cleanup: no namespace of ours is left' "$(ip netns list | grep -Ec "^$(ns h1)-(fabric|r-|s-)" || :)" 0
tap_is 'cleanup: no table' "$(in_ns h1 nft list tables)" ''
tap_is 'cleanup: no VXLAN device' "$(in_ns h1 ip -o link show type vxlan)" ''
tap_ok 'cleanup: no dnsmasq' fails grep -qsz "$LAB_DIR/h1/state/[d]hcp" /proc/[0-9]*/cmdline
tap_is 'cleanup: containers have lost their link, and nothing else' "$(c red a1 1 ip -br link | cut -d ' ' -f 1)" lo
[[ -z $HAVE_TAP ]] || tap_ok 'cleanup: the tap is back on the host' in_ns h1 ip link show vnet7
tap_ok 'cleanup: the other host goes on' reaches blue a2 2 10.0.2.12
tap_ok 'tenants: down' lab_run down
tap_is 'tenants: nothing is left' "$(ip netns list | grep -c "^wl-$LAB_NAME-" || :)" 0
tap_is 'tenants: nothing in the root namespace has changed' \
  "$(ip -o link && ip route show table all && ip rule && nft list tables)" "$root_before"
tap_done
