#!/usr/bin/env bash
# Networks of type routed on three hosts with backend bgp: red and blue have one each, with a port on every host. What the
# groups let through passes, within and across; what forges addresses or asks for hosts does not; ports move and gobgpd
# dies under a running stream.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh"
# shellcheck source=scripts/lab-tenants.sh
. "$here/../../scripts/lab-tenants.sh"
# shellcheck source=scripts/lab-bgp.sh
. "$here/../../scripts/lab-bgp.sh"
# shellcheck source=test/support/traffic.sh
. "$here/../support/traffic.sh"
# shellcheck source=test/support/tenants.sh
. "$here/../support/tenants.sh"
# shellcheck source=test/support/bgp.sh
. "$here/../support/bgp.sh"

LAB_NAME="rt$$"
lab_alone "$LAB_NAME"

# port TENANT NAME HOST-NUMBER ADDRESS [MORE]: a Port document; both tenants may be asked on 8080, red also pinged from anywhere
port() {
  cat <<YAML
---
apiVersion: warren/v1
kind: Port
metadata: { name: $2, tenant: $1, labels: { app: web-$1, host: h$3 } }
spec: { network: r, node: h$3, fixedIPs: ["$4"${5:+, "$5"}], securityGroups: [default, web], device: { kind: veth, netns: $(tenant_ns "$1" "$2" "$3"), name: eth0 } }
YAML
}
network() {
  cat <<YAML
---
{ apiVersion: warren/v1, kind: Network, metadata: { name: $2, tenant: $1 }, spec: { type: routed, subnets: [$3] } }
YAML
}
objects() {
  local tenant net n
  for tenant in red blue; do
    net=10.60
    [[ $tenant == red ]] || net=10.61
    cat <<YAML
---
{ apiVersion: warren/v1, kind: Tenant, metadata: { name: $tenant } }
---
apiVersion: warren/v1
kind: SecurityGroup
metadata: { name: web, tenant: $tenant }
spec:
  rules:
    - { direction: ingress, protocol: tcp, ports: 8080 }
    - { direction: ingress, protocol: udp, ports: 4000 }
YAML
    network "$tenant" r "{ cidr: $net.0.0/24 }, { cidr: \"fd00:${net#10.}::/64\", pools: [{ start: \"fd00:${net#10.}::100\", end: \"fd00:${net#10.}::1ff\" }] }"
    for n in 1 2 3; do port "$tenant" "a$n" "$n" "$net.0.1$n" "fd00:${net#10.}::1$n"; done
  done
}
apply() { on h1 apply -f - >/dev/null; }

# --- up ----------------------------------------------------------------------------------------------------------------------

objects >"$TRAFFIC_DIR/objects.yaml"
tap_ok 'routed: three hosts come up' lab_run up --hosts 3 --pods 1 --family dual --underlay dual --backend bgp --services --tenants-from "$TRAFFIC_DIR/objects.yaml"
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1
mapfile -t BGP_HOSTS < <(lab_hosts)
timed 'routed: sessions are up and settled' 60 all_are mesh 0
tap_ok 'routed: red/a1 is ACTIVE' patiently 20 port_is h1 a1 ACTIVE

# a stranger to BGP's word: the /32 is announced by its host, and in the kernel of the others
announced() { bgp_routes "$1" | jq -e --arg p "$2" 'any(.. | objects | select(.prefix? == $p); true)' >/dev/null; }
accepted() { gobgp_on "$1" global rib | grep -q "$2 .*$3 "; }
tap_ok 'routed: h2 has 10.60.0.11/32 from h1 in its RIB' patiently 20 accepted h2 10.60.0.11/32 192.0.2.11
tap_ok 'routed: warren bgp routes tells of it' announced h2 10.60.0.11/32
tap_ok 'routed: h2 has the route in its kernel' kernel_has h2 10.60.0.11
tap_ok 'routed: h2 has the IPv6 route in its kernel' grep -q 'via 2001:db8::11' <(in_ns h2 ip -6 route show fd00:60::11 proto 87)
tap_ok 'routed: no VXLAN device in the fabric' fails grep -q vxlan <(ip -n "$(fabric h1)" -d link)

# --- reach ---------------------------------------------------------------------------------------------------------------------

for n in 1 2 3; do server red "a$n" "$n" && server blue "a$n" "$n"; done
for n in 1 2 3; do
  tap_ok "reach: red/a1 pings red/a$n (group default)" reaches red a1 1 "10.60.0.1$n"
  tap_ok "reach: red/a1 pings red/a$n by IPv6" reaches red a1 1 "fd00:60::1$n"
  tap_ok "reach: blue/a1 asks red/a$n on 8080" asks "red-a$n" blue a1 1 "10.60.0.1$n"
  tap_ok "groups: blue/a1 pings red/a$n in vain" misses blue a1 1 "10.60.0.1$n"
done
# shellcheck disable=SC2016 # of that shell
tap_ok 'reach: a pod asks red/a2' grep -q red-a2 <(in_ns h1/p1 timeout 2 bash -c 'exec 3<>/dev/tcp/10.60.0.12/8080 && echo >&3 && read -r -t 1 line <&3 && echo "$line"')
pod=$(pod_address ipv4 h2/p1)
tap_ok 'reach: red/a1 pings a pod of h2' reaches red a1 1 "$pod"
tap_ok 'reach: nobody answers for an address that no port has' misses red a1 1 10.60.0.99

# as a VM would: the lease of its MAC, from the gateway of its network
leased() { c red a1 1 busybox udhcpc -n -q -f -t 3 -T 1 -i eth0 -s /bin/true 2>&1 | grep -o 'lease of [0-9.]* obtained from [0-9.]*'; }
if command -v busybox >/dev/null && busybox --list | grep -qx udhcpc; then
  tap_is 'dhcp: red/a1 is told its address by its own gateway' "$(leased)" 'lease of 10.60.0.11 obtained from 10.60.0.1'
else
  tap_skip 'dhcp: red/a1 is told its address by its own gateway' 'no udhcpc'
fi

# --- spoofing ------------------------------------------------------------------------------------------------------------------

# heard TENANT PORT N: packets of UDP 4000 that came in there
count_4000() { c "$1" "$2" "$3" nft 'table inet heard { chain in { type filter hook input priority 0; udp dport 4000 counter; }; }'; }
heard() { c "$1" "$2" "$3" nft -j list chain inet heard in | jq '[.nftables[].rule.expr[]?.counter.packets // empty] | add'; }
count_4000 red a2 2
c blue a1 1 bash -c 'echo x >/dev/udp/10.60.0.12/4000'
nap 0.3
tap_is 'spoof: control: blue/a1 is heard as itself' "$(heard red a2 2)" 1
c blue a1 1 ip address add 10.60.0.13/32 dev lo
c blue a1 1 ip route add 10.60.0.12/32 via 10.61.0.1 src 10.60.0.13
c blue a1 1 bash -c 'echo x >/dev/udp/10.60.0.12/4000'
in_ns h1/p1 ip address add 10.60.0.13/32 dev lo
in_ns h1/p1 ip route add 10.60.0.12/32 via "$(in_ns h1/p1 ip -4 route show default | awk '{ print $3 }')" src 10.60.0.13
in_ns h1/p1 bash -c 'echo x >/dev/udp/10.60.0.12/4000'
in_ns ext ip route add 10.60.0.0/24 via 192.0.2.12
in_ns ext ip address add 10.60.0.12/32 dev lo
nap 0.3
tap_is 'spoof: neither a port nor a pod is heard as red/a3' "$(heard red a2 2)" 1
c blue a1 1 ip route del 10.60.0.12/32
in_ns h1/p1 ip route del 10.60.0.12/32
# The same by IPv6.
gateway6() { ip -6 route show default | awk '{ print $3; exit }'; }
c blue a1 1 bash -c 'echo x >/dev/udp/fd00:60::12/4000'
nap 0.3
tap_is 'spoof: control: blue/a1 is heard as itself by IPv6' "$(heard red a2 2)" 2
c blue a1 1 ip address add fd00:60::13/128 dev lo nodad
c blue a1 1 ip route add fd00:60::12/128 via "$(c blue a1 1 bash -c "$(declare -f gateway6); gateway6")" dev eth0 src fd00:60::13
c blue a1 1 bash -c 'echo x >/dev/udp/fd00:60::12/4000'
in_ns h1/p1 ip address add fd00:60::13/128 dev lo nodad
in_ns h1/p1 ip route add fd00:60::12/128 via "$(in_ns h1/p1 bash -c "$(declare -f gateway6); gateway6")" dev eth0 src fd00:60::13
in_ns h1/p1 bash -c 'echo x >/dev/udp/fd00:60::12/4000'
nap 0.3
tap_is 'spoof: neither is heard as red/a3 by IPv6' "$(heard red a2 2)" 2
c blue a1 1 ip -6 route del fd00:60::12/128
in_ns h1/p1 ip -6 route del fd00:60::12/128
dropped() { grep -q 'packets [1-9]' <<<"$(in_ns "$1" nft list chain inet warren-rt sources)"; }
tap_ok 'spoof: the host of the pod counted it' dropped h1
dropped6() { grep 'ip6 saddr' <<<"$(in_ns "$1" nft list chain inet warren-rt sources)" | grep -q 'packets [1-9]'; }
tap_ok 'spoof: and that by IPv6' dropped6 h1

# --- hosts ---------------------------------------------------------------------------------------------------------------------

nsenter --net="/run/netns/$(ns h2)" node -e "require('node:net').createServer(s => s.end('host\n')).listen(9000, '::')" >/dev/null 2>&1 </dev/null &
disown $!
proc_save "$TRAFFIC_DIR/hosts.pid" $!
# shellcheck disable=SC2016 # of that shell
host_answers() { nsenter --net="/run/netns/$1" timeout 0.7 bash -c 'exec 3<>"/dev/tcp/$0/9000" && read -r -t 0.5 line <&3; [[ $line == host ]]' "$2" 2>/dev/null; }
pod_bridge=$(in_ns h2 ip -4 -o address show dev wrn0 | awk '{ sub("/.*", "", $4); print $4 }')
tap_ok 'hosts: control: a pod reaches the listener of h2' patiently 5 host_answers "$(ns h1/p1)" 192.0.2.12
for n in 1 2; do
  for address in 192.0.2.12 "$pod_bridge" 169.254.87.0; do
    tap_ok "hosts: red/a$n does not, at $address" fails host_answers "$(tenant_ns red "a$n" "$n")" "$address"
  done
done

# --- Services --------------------------------------------------------------------------------------------------------------------

# service NAME ADDRESS NAMESPACE SELECTOR
service() {
  on h1 apply -f - >/dev/null <<YAML
apiVersion: warren/v1
kind: Service
metadata: { name: $1, namespace: $3 }
spec: { clusterIPs: [$2], selector: { $4 }, ports: [{ port: 80, targetPort: 8080 }] }
YAML
}
# pod_asks POD ADDRESS: who answers
# shellcheck disable=SC2016 # of that shell
pod_asks() { in_ns "$1" timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/80" && echo >&3 && read -r -t 1 line <&3 && echo "$line"' "$2" 2>/dev/null; }
answered() { [[ $(pod_asks "$1" "$2") == "$3" ]]; }
service web 10.0.77.7 red 'app: web-red, host: h2'
tap_ok 'services: a pod of h1 asks a Service whose selector matches red/a2' patiently 10 answered h1/p1 10.0.77.7 red-a2
tap_ok 'services: so does one beside it, on h2' patiently 10 answered h2/p1 10.0.77.7 red-a2
tap_ok 'services: warren says which port it is' grep -q port/red/a2 <(on h1 describe service/red/web)
service web 10.0.77.7 red 'app: web-red, host: h3'
tap_ok 'services: another selector, another port' patiently 10 answered h1/p1 10.0.77.7 red-a3
service other 10.0.77.8 default 'app: web-red'
nap 0.5
tap_ok 'services: none of another namespace' fails pod_asks h1/p1 10.0.77.8

# --- unique addresses -----------------------------------------------------------------------------------------------------------

refused_with() {
  local wanted=$1 said
  said=$(on h1 apply -f - 2>&1) && { printf 'taken\n' && return 1; }
  grep -q -- "$wanted" <<<"$said" || { printf '%s\n' "$said" && return 1; }
}
network blue s '{ cidr: 10.60.0.0/24 }' | apply
x1=$(tenant_ns blue x1 1)
ip netns add "$x1"
ip -n "$x1" link set lo up
tap_ok 'unique: an address of red is refused in blue, naming its holder' refused_with 'port/red/a1 has it' < <(port blue x1 1 10.60.0.11 | sed 's/network: r/network: s/')
tap_ok 'unique: another one of that subnet is taken' apply < <(port blue x1 1 10.60.0.21 | sed 's/network: r/network: s/')
server blue x1 1
tap_ok 'unique: red/a1 asks it, by proxy ARP on its own link' patiently 5 asks blue-x1 red a1 1 10.60.0.21
tap_ok 'unique: red/a2 of another host, too' asks blue-x1 red a2 2 10.60.0.21
tap_ok 'unique: it is none of red: pings are dropped' misses red a1 1 10.60.0.21
tap_ok 'unique: subnets that overlap are refused, naming the network' refused_with '10.60.0.0/24 of network/' < <(network blue t '{ cidr: 10.60.0.0/25 }')
tap_ok 'unique: so is one in podCIDRs' refused_with podCIDRs < <(network blue t '{ cidr: 10.244.9.0/24 }')
tap_ok 'unique: and one of the underlay' refused_with 'underlay of node' < <(network blue t '{ cidr: 192.0.2.0/24 }')

# --- a restart changes nothing --------------------------------------------------------------------------------------------------

tap_ok 'restart: everybody is converged' all_converged
tap_ok 'restart: h1 has nothing to write' plan_is_empty h1
tap_ok 'restart: kill -9 of warrend on h1' lab_run kill h1
tap_ok 'restart: red/a1 goes on without it' reaches red a1 1 10.60.0.12
tap_ok 'restart: it starts again' starts h1
tap_ok 'restart: the veth is found as ours' plan_is_empty h1
in_ns h1 ip link del wrnrt0
tap_ok 'healing: the veth is deleted, and red/a1 is back within 3 s' within 3000 reaches red a1 1 10.60.0.12

# --- gobgpd dies, and a port moves, under a stream ------------------------------------------------------------------------------

echo_from() {
  nsenter --net="/run/netns/$(tenant_ns red a1 1)" nice -n -10 node "$WARREN_ROOT/test/support/udp-echo.mjs" client "$1" 4000 500 >"$TRAFFIC_DIR/echo" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/echo.pid" $!
}
echo_server() {
  run_in red "$1" "$2" "served-$1-$2" nice -n -10 node "$WARREN_ROOT/test/support/udp-echo.mjs" server 4000
  busywait 10 server_ready "$TRAFFIC_DIR/served-$1-$2"
}
echo_end() {
  # It waits for late answers, 3 s.
  kill -s TERM "$(proc_alive "$TRAFFIC_DIR/echo.pid")"
  patiently 30 lib_proc_gone "$TRAFFIC_DIR/echo.pid"
  grep sent "$TRAFFIC_DIR/echo" || sed 's/^/# echo: /' "$TRAFFIC_DIR/echo" >&2
}
# Nothing on stdin is no result.
lossless() { jq -s -e '.[0] | .sent > 500 and .lost == 0' <<<"$1" >/dev/null || { printf '%s\n' "$1" && return 1; }; }
gap_below() { jq -s -e --argjson most "$1" '.[0] | .sent > 500 and .longestGapMs <= $most' <<<"$2" >/dev/null || { printf '%s\n' "$2" && return 1; }; }

echo_server a2 2
echo_from 10.60.0.12
nap 1
now_ms began
tap_ok 'gobgpd: kill -9 on the host of the port' lab_run kill-gobgpd h2
timed_since "$began" 'gobgpd: its sessions are back' 60 back_since "$began" h1 h2
nap 1
result=$(echo_end) || :
tap_ok 'gobgpd: the stream to its port lost nothing' lossless "$result"

# Counted where they come in: what a server had taken and not answered when its port went is no loss of the network.
both_heard() { printf '%s\n' $(($(heard red a2 2) + $(heard red a2 3))); }
all_came() {
  local came=$(($(both_heard) - heard_before)) sent
  sent=$(jq -s '.[0].sent // 0' <<<"$1")
  ((sent > 500 && came == sent)) || { printf '%d of %d came\n%s\n' "$came" "$sent" "$1" && return 1; }
}

kept=$(identity a2)
moved="$(ns h3)-t-red-a2"
ip netns add "$moved"
ip -n "$moved" link set lo up
echo_server a2 3
count_4000 red a2 3
heard_before=$(both_heard)
echo_from 10.60.0.12
nap 2
tap_ok 'move: red/a2 is attached on h3' on h3 port attach red/a2 --netns "$moved"
tap_ok 'move: it is ACTIVE there' patiently 10 port_is h3 a2 ACTIVE
tap_is 'move: with its MAC and addresses' "$(identity a2)" "$kept"
nap 2
result=$(echo_end) || :
printf '# move: %s\n' "$(jq -c '{sent, lost, longestGapMs}' <<<"$result")"
tap_ok 'move: the stream goes on within a second' gap_below 1000 "$result"
tap_ok 'move: every datagram came to the old place or to the new one' all_came "$result"
withdrawn() { ! gobgp_on "$1" global rib | grep -q "10.60.0.12/32 .*192.0.2.12 "; }
tap_ok 'move: h3 announces it' patiently 10 accepted h1 10.60.0.12/32 192.0.2.13
tap_ok 'move: h2 does no more' patiently 10 withdrawn h1
tap_ok 'move: h2 leads there' kernel_has h2 10.60.0.12
tap_ok 'move: from the host that it left, too' reaches blue a2 2 10.61.0.13

# --- by a reflector -------------------------------------------------------------------------------------------------------------

tap_ok 'reflector: one of three reflects' apply_bgp 'topology: reflectors, reflectors: { count: 1 }, restartTime: 60'
timed 'reflector: all sessions are as they should be, settled' 60 all_are reflectors 1
tap_ok 'reflector: red/a1 reaches red/a2 and red/a3' eval 'reaches red a1 1 10.60.0.12 && reaches red a1 1 10.60.0.13'
heard_before=$(both_heard)
echo_from 10.60.0.12
nap 2
tap_ok 'reflector: red/a2 moves back to h2' on h2 port attach red/a2 --netns "$(tenant_ns red a2 2)"
tap_ok 'reflector: it is ACTIVE there' patiently 10 port_is h2 a2 ACTIVE
tap_ok 'reflector: h2 announces it' patiently 10 accepted h1 10.60.0.12/32 192.0.2.12
by_h3() { gobgp_on "$1" global rib | grep -q "10.60.0.12/32 .*192.0.2.13 "; }
tap_ok 'reflector: h3 does no more' patiently 10 fails by_h3 h3
nap 1
result=$(echo_end) || :
printf '# reflector: %s\n' "$(jq -c '{sent, lost, longestGapMs}' <<<"$result")"
tap_ok 'reflector: every datagram came to the old place or to the new one' all_came "$result"

# --- cleanup ----------------------------------------------------------------------------------------------------------------------

tap_ok 'cleanup: warrend of h1 stops' lab_run stop h1
tap_ok 'cleanup: warren cleanup' on h1 cleanup
tap_ok 'cleanup: no device of it is left' fails in_ns h1 ip link show wrnrt0
tap_ok 'cleanup: no namespace is left' fails test -e "/run/netns/$(ns h1)-routed"
tap_ok 'cleanup: no table is left' fails in_ns h1 nft list table inet warren-rt
tap_done
