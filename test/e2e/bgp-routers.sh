#!/usr/bin/env bash
# Backend bgp with other people's routers: BIRD and FRR as ToR of another AS and as reflectors, what they may and may not
# announce, graceful restart in both directions, a router that floods, flaps or breaks the protocol, two racks.
#
# `bgp-routers.sh PART` runs one part alone: bird, faults, frr or racks. All have a lab each, at the same time: they wait for
# sessions and timers.

# Conditions are text that `busywait eval` evaluates again and again.
# shellcheck disable=SC2016

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$WARREN_ROOT/scripts/lab-net.sh"
# shellcheck source=test/support/traffic.sh
. "$WARREN_ROOT/test/support/traffic.sh"
# shellcheck source=test/support/routers.sh
. "$WARREN_ROOT/test/support/routers.sh"

# shellcheck source=test/support/side-by-side.sh
. "$WARREN_ROOT/test/support/side-by-side.sh"

out=$TRAFFIC_DIR

# --- words -------------------------------------------------------------------------------------------------------------

# session HOST PEER FIELD; state of the session, "synced" and the like
session() { on "$1" bgp -o json | jq -r --arg peer "$2" ".sessions[] | select(.peer == \$peer) | .$3"; }
up() { [[ $(session "$1" "$2" state) == established && $(session "$1" "$2" synced) == true ]]; }
down() { [[ $(session "$1" "$2" state) != established ]]; }
both_up() { up h1 "$1" && up h2 "$1"; }
says_why() { [[ $(session "$1" "$2" why) == *"$3"* ]] || { session "$1" "$2" why && return 1; }; }
# code HOST PREFIX PEER: what became of the path
code() {
  on "$1" bgp routes "$2" -o json |
    jq -r --arg p "$2" --arg from "$3" '[.[] | select(.prefix == $p and .from == $from) | .code // .status] | join(" ")'
}
is_code() { [[ $(code "$1" "$2" "$3") == "$4" ]] || { code "$1" "$2" "$3" && return 1; }; }
routed() { [[ $(ip -n "$(ns "$1")" route show "$2" proto 87) == *"$3"* ]]; }
routed6() { [[ $(ip -n "$(ns "$1")" -6 route show "$2" proto 87) == *"$3"* ]]; }
unrouted() { [[ -z $(ip -n "$(ns "$1")" route show "$2" proto 87) && -z $(ip -n "$(ns "$1")" -6 route show "$2" proto 87) ]]; }
stale() { on "$1" bgp routes "$2" -o json | jq -e 'any(.[]; .stale)' >/dev/null; }
fresh() { ! stale "$@"; }
settled() { on "$1" bgp -o json | jq -e .settled >/dev/null; }

# Deletions of our routes while something else happens, on HOST.
watch_routes() {
  # A prefix whose next hops change is told of as a deletion and an addition in one batch only by "replace": that is none.
  nsenter --net="/run/netns/$(ns "$1")" ip monitor route >"$out/monitor.$1" 2>&1 </dev/null &
  disown $!
  proc_save "$out/monitor.$1.pid" $!
}
no_deletions() {
  proc_kill "$out/monitor.$1.pid" TERM 2
  ! grep '^Deleted' "$out/monitor.$1" | grep 'proto 87'
}
pod_address() {
  if [[ $2 == ext ]]; then [[ $1 == ipv4 ]] && printf '%s' "$INTERNET4" || printf '%s' "$INTERNET6"; else
    lab_pods | awk -v pod="$2" -v at="$([[ $1 == ipv4 ]] && echo 2 || echo 3)" '$1 == pod { print $at }'
  fi
}

# peer NAME MORE: a BGPPeer at ext, as an object
peer() { printf -- '---\napiVersion: warren/v1\nkind: BGPPeer\nmetadata: { name: %s }\nspec: { address: %s, asn: %s, holdTime: 9%s }\n' "$1" "$EXT4" "$2" "$3"; }
apply() { on h1 apply -f - >/dev/null; }

# bird_conf ASN EXTRA: a ToR for h1 and h2; EXTRA goes into a protocol static of each family.
bird_conf() {
  cat <<CONF
log "$out/bird.log" all;
router id $EXT4;
protocol device {}
protocol kernel k4 { ipv4 { import none; export where proto != "s4"; }; }
protocol kernel k6 { ipv6 { import none; export where proto != "s6"; }; }
protocol static s4 { ipv4; route $INTERNET4/32 unreachable; route 198.51.100.0/24 unreachable; $2 }
protocol static s6 { ipv6; route 2001:db8:ffff::/48 unreachable; }
template bgp tor {
  local $EXT4 as $1;
  password "tor"; hold time 9; graceful restart on; graceful restart time 30; connect retry time 2;
  ipv4 { import all; export all; next hop self; };
  ipv6 { import all; export all; next hop address $EXT6; };
}
protocol bgp b1 from tor { neighbor $(host_addr4 1) as 64512; $3 }
protocol bgp b2 from tor { neighbor $(host_addr4 2) as 64512; $3 }
CONF
}

frr_conf() {
  local family n
  printf 'hostname tor\nrouter bgp %s\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp network import-check\n bgp graceful-restart\n bgp graceful-restart restart-time 30\n' "$1" "$EXT4"
  for n in 1 2; do
    printf ' neighbor %s remote-as 64512\n neighbor %s password tor\n neighbor %s timers 3 9\n neighbor %s timers connect 2\n' \
      "$(host_addr4 $n)" "$(host_addr4 $n)" "$(host_addr4 $n)" "$(host_addr4 $n)"
  done
  for family in ipv4 ipv6; do
    printf ' address-family %s unicast\n' "$family"
    # A reflector has none of its own: FRR 8.4 would send reflected IPv6 blocks with its own next hop, then.
    [[ -n $2 ]] || { [[ $family == ipv4 ]] && printf '  network 198.51.100.0/24\n' || printf '  network 2001:db8:ffff::/48\n'; }
    for n in 1 2; do printf '  neighbor %s activate\n%s' "$(host_addr4 $n)" "${2:+  neighbor $(host_addr4 $n) $2
}"; done
    printf ' exit-address-family\n'
  done
}

: "${junk:=route 0.0.0.0/0 unreachable; route 10.244.0.0/15 unreachable; route 10.244.2.0/24 unreachable; route 10.244.200.0/24 unreachable; route 10.244.2.128/25 unreachable; route 100.64.0.0/10 unreachable;}"

# two_hosts PART: a mesh of two with a lab of its own
two_hosts() {
  lab_run up --hosts 2 --pods 1 --backend bgp --bgp-topology mesh --family dual --underlay dual --services 2>"$out/up" || { cat "$out/up" && exit 1; }
  lab_use "$LAB_NAME"
  tap_ok "$1: the two hosts are peers" busywait 60 settled h1
}
# bird_peers PART: BIRD with all its junk, a peer of both
bird_peers() {
  bird_conf 65001 "$junk" '' >"$out/bird.conf"
  router_start bird "$out/bird.conf"
  peer tor 65001 ', password: tor, import: [198.51.100.0/24, "2001:db8:ffff::/48"], maxPrefixes: 500' | apply
  tap_ok "$1: sessions with MD5 come up" busywait 60 both_up bgppeer/tor
}

learnt() { [[ $(bird_ctl show route protocol "$1" | grep -c "^$2 ") == "$3" ]] || { bird_ctl show route protocol "$1" && return 1; }; }
both_learnt() { learnt b1 "$1" "$2" && learnt b2 "$1" "$3"; }
# balancer ENDPOINTS: a Service with an address outside, of policy Local.
balancer() {
  on h1 apply -f - >/dev/null <<YAML
apiVersion: warren/v1
kind: Service
metadata: { name: lb }
spec:
  type: LoadBalancer
  loadBalancerIPs: [203.0.113.50]
  externalTrafficPolicy: Local
  ports: [{ name: http, port: 80 }]
---
apiVersion: warren/v1
kind: Endpoints
metadata: { name: lb-1 }
spec:
  service: lb
  ports: [{ name: http, port: 8080 }]
  endpoints: [$1]
YAML
}
endpoint() { printf '{ addresses: [%s], nodeName: %s%s }' "$(pod_address ipv4 "$1/p1")" "$1" "${2-}"; }
asks() { in_ns ext timeout 3 bash -c 'exec 3<>/dev/tcp/203.0.113.50/80; printf "GET / HTTP/1.0\r\n\r\n" >&3; head -n 1 <&3' | grep -q ' 200 '; }
flood() { awk 'BEGIN { for (i = 0; i < 100000; i++) printf "route %d.%d.%d.0/24 unreachable;\n", 20 + int(i / 65536), int(i / 256) % 256, i % 256 }'; }
inject() { in_ns ext timeout 8 node "$WARREN_ROOT/test/support/bgp-inject.mjs" 192.0.2.9 "$(host_addr4 1)" 65001 "$1"; }
injected() { [[ $(inject "$1") == sent ]]; }
reflected() { [[ $(code "$1" "$2" bgppeer/tor) == accepted ]]; }

# --- BIRD, another AS --------------------------------------------------------------------------------------------------

part_bird() {
  two_hosts bird

  bird_peers BIRD
  tap_ok 'BIRD: what is in the import list is routed, with our own proto' busywait 5 routed h1 198.51.100.0/24 "via $EXT4 dev eth0"
  tap_ok 'BIRD: IPv6 over the same session' busywait 5 routed6 h1 2001:db8:ffff::/48 "via $EXT6 dev eth0"
  tap_ok 'BIRD: it learns the blocks of both, from each its own' busywait 10 eval \
    '[[ $(bird_ctl show route protocol b1 | grep -c 10.244.1.0/24) == 1 && $(bird_ctl show route protocol b2 | grep -c 10.244.2.0/24) == 1 ]]'
  tap_is 'BIRD: a host announces nothing of the other one' "$(bird_ctl show route protocol b1 | grep -c 10.244.2.0/24)" 0
  tap_ok 'BIRD: IPv6 blocks, too' busywait 5 eval '[[ $(bird_ctl show route protocol b1 | grep -c fd00:244) == 1 ]]'

  tap_ok 'guard: a default route is never taken' is_code h1 0.0.0.0/0 bgppeer/tor DEFAULT_ROUTE
  tap_ok "guard: a prefix that holds the pods' is not" is_code h1 10.244.0.0/15 bgppeer/tor OUTSIDE
  tap_ok 'guard: a block without a lease is not' is_code h1 10.244.200.0/24 bgppeer/tor NO_LEASE
  tap_ok "guard: a part of a node's block is not" is_code h1 10.244.2.128/25 bgppeer/tor NO_LEASE
  tap_ok 'guard: what no list has is not' is_code h1 100.64.0.0/10 bgppeer/tor OUTSIDE
  tap_ok 'guard: our own block from outside is not' is_code h2 10.244.2.0/24 bgppeer/tor OURS
  tap_ok "guard: another node's block stays that node's" routed h1 10.244.2.0/24 "via $(host_addr4 2) "
  for prefix in 0.0.0.0/0 10.244.0.0/15 10.244.200.0/24 10.244.2.128/25 100.64.0.0/10; do
    tap_ok "guard: no route to $prefix" unrouted h1 "$prefix"
  done
  tap_ok 'guard: rejected paths are counted' eval '(($(session h1 bgppeer/tor rejected) >= 5))'
  tap_ok 'guard: junk is not handed on to the other host' eval \
    '[[ -z $(on h2 bgp routes -o json | jq -r ".[] | select(.from == \"node/h1\" and (.prefix | test(\"^(0|100|198|10.244.200)\"))) | .prefix") ]]'

  tap_ok 'a pod reaches the world by way of the route' in_ns h1/p1 ping -n -q -c 2 -i 0.1 -W 2 "$INTERNET4"
  tap_ok 'the world reaches a pod by what BIRD learnt' busywait 5 in_ns ext ping -n -q -c 1 -W 1 "$(pod_address ipv4 h1/p1)"

  # --- Services ----------------------------------------------------------------------------------------------------------

  tap_ok 'announce: nothing of Services where it is not asked for' both_learnt 10.0.0.0/16 0 0
  sed -i 's/restartTime: 60 }/restartTime: 60, announce: { clusterIPs: true, loadBalancerIPs: true } }/' "$LAB_DIR/cluster/cluster.yaml"
  tap_ok 'announce: cluster IPs by their CIDR, by both' busywait 10 both_learnt 10.0.0.0/16 1 1
  balancer "$(endpoint h1)"
  tap_ok 'announce: policy Local, only where an endpoint is' busywait 10 both_learnt 203.0.113.50/32 1 0
  tap_ok 'announce: a client outside is answered by way of it' busywait 10 asks
  balancer "$(endpoint h1), $(endpoint h2)"
  tap_ok 'announce: where a second one comes, too' busywait 10 both_learnt 203.0.113.50/32 1 1
  balancer "$(endpoint h1 ', ready: false, serving: true, terminating: true'), $(endpoint h2)"
  tap_ok 'announce: withdrawn where the last one terminates' busywait 10 both_learnt 203.0.113.50/32 0 1
  tap_ok 'announce: what comes late is still answered there' eval \
    '[[ -n $(in_ns h1 nft list table ip warren-services | grep 203.0.113.50) ]] && asks'
  on h1 delete service/lb >/dev/null
  tap_ok 'announce: gone with the Service' busywait 10 both_learnt 203.0.113.50/32 0 0
}

# --- restarts, both ways -----------------------------------------------------------------------------------------------

part_faults() {
  two_hosts faults
  bird_peers faults
  stream_ping ipv4 h1/p1 ext
  stream_echo ipv4 h1/p1 h2/p1
  watch_routes h1
  lab_run kill-gobgpd h1
  tap_ok "gobgpd killed: the router's routes are kept" eval 'sleep 1; routed h1 198.51.100.0/24 "via $EXT4"'
  tap_ok 'gobgpd killed: BIRD keeps ours' eval '[[ $(bird_ctl show route 10.244.1.0/24 | grep -c via) == 1 ]]'
  tap_ok 'gobgpd killed: sessions come back' busywait 60 eval 'up h1 bgppeer/tor && settled h1'
  lab_run kill h1
  lab_run kill-gobgpd h1
  sleep 1
  # It waits 10 s for a converged host, which is little on a busy machine.
  busywait 60 lab_run start h1
  tap_ok 'gobgpd and warrend killed: sessions come back' busywait 60 eval 'up h1 bgppeer/tor && settled h1'
  router_kill
  sleep 2
  tap_ok 'BIRD killed: its routes are kept' routed h1 198.51.100.0/24 "via $EXT4"
  router_start bird "$out/bird.conf"
  tap_ok 'BIRD back: its session comes up again' busywait 60 both_up bgppeer/tor
  tap_ok 'BIRD back: its routes are as before' busywait 20 eval 'fresh h1 198.51.100.0/24 && routed h1 198.51.100.0/24 "via $EXT4"'
  tap_ok 'all that time no route of ours went' no_deletions h1
  streams_end 'restarts of gobgpd, warrend, both and BIRD'

  # --- a router that misbehaves ------------------------------------------------------------------------------------------

  stream_echo ipv4 h1/p1 h2/p1
  for _ in 1 2 3 4; do
    bird_ctl restart b1 >/dev/null
    sleep 0.5
  done
  tap_ok 'a router that flaps comes back' busywait 60 up h1 bgppeer/tor

  bird_conf 65001 "$(flood)" '' >"$out/flood.conf"
  router_stop
  router_start bird "$out/flood.conf"
  tap_ok 'maxPrefixes: 100,000 prefixes end the session, and it says why' busywait 40 says_why h1 bgppeer/tor maxPrefixes
  tap_ok 'maxPrefixes: the host is healthy' converged h1
  tap_ok 'maxPrefixes: nothing of it was routed' unrouted h1 20.0.0.0/24
  router_stop
  streams_end 'a router that flaps and floods'
  peer tor 65001 ', password: other, import: [198.51.100.0/24]' | apply
  router_start bird "$out/bird.conf"
  tap_ok 'wrong password: suspected, with the reason' busywait 40 says_why h1 bgppeer/tor 'suspected: another password'
  router_stop

  # Of an address that never had a password: gobgpd 3.10 keeps a former one on its listening socket.
  ip -n "$(ns ext)" address add 192.0.2.9/24 dev eth0
  peer bad 65001 '' | sed 's/192.0.2.1,/192.0.2.9,/' | apply
  stream_echo ipv4 h1/p1 h2/p1
  watch_routes h1
  for kind in length marker attribute open half; do
    tap_ok "malformed $kind: sent to gobgpd" busywait 30 injected "$kind"
  done
  tap_ok 'malformed messages: gobgpd is there, and the mesh is whole' busywait 60 settled h1
  tap_ok 'malformed messages: warrend lives on' converged h1
  tap_ok 'malformed messages: no route of ours went' no_deletions h1
  streams_end 'malformed messages'

  on h1 delete bgppeer/bad >/dev/null
}

# --- FRR ---------------------------------------------------------------------------------------------------------------

part_frr() {
  two_hosts frr
  peer tor 65001 ', password: tor, import: [198.51.100.0/24, "2001:db8:ffff::/48"]' | apply
  frr_conf 65001 '' >"$out/frr.conf"
  router_start frr "$out/frr.conf"
  tap_ok 'FRR: sessions with MD5 come up' busywait 60 both_up bgppeer/tor
  tap_ok 'FRR: its route is in the kernel' busywait 10 routed h1 198.51.100.0/24 "via $EXT4 dev eth0"
  tap_ok 'FRR: it learns both blocks' busywait 10 eval '[[ $(frr_ctl "show bgp ipv4 unicast" | grep -c "10.244.[12].0/24") == 2 ]]'
  tap_ok 'FRR: IPv6 blocks, too' busywait 10 eval '[[ $(frr_ctl "show bgp ipv6 unicast" | grep -c "fd00:244:0:") -ge 2 ]]'
  lab_run kill-gobgpd h1
  sleep 1
  tap_ok 'FRR: it keeps our block while gobgpd restarts' eval 'frr_ctl "show bgp ipv4 unicast 10.244.1.0/24" | grep -qi "$(host_addr4 1)"'
  tap_ok 'FRR: the session comes back' busywait 60 up h1 bgppeer/tor
  router_stop
  tap_ok 'FRR gone for good: its route goes when its restart time is over' busywait 60 unrouted h1 198.51.100.0/24

  # --- as reflectors -----------------------------------------------------------------------------------------------------

  peer tor 64512 ', password: tor, reflector: true' | apply
  bird_conf 64512 '' 'rr client;' | sed 's/next hop self; };/};/; s/ next hop address [^;]*;//' >"$out/rr.conf"
  router_start bird "$out/rr.conf"
  stream_echo ipv4 h1/p1 h2/p1
  tap_ok 'BIRD reflects: the only sessions are those with it' busywait 60 eval \
    'both_up bgppeer/tor && settled h1 && [[ $(on h1 bgp -o json | jq ".sessions | length") == 1 ]]'
  tap_ok "BIRD reflects: the other node's block is accepted on its behalf" busywait 10 reflected h1 10.244.2.0/24
  tap_ok 'BIRD reflects: it is routed by way of that node' routed h1 10.244.2.0/24 "via $(host_addr4 2) "
  tap_ok 'BIRD reflects: IPv6' busywait 10 routed6 h1 "$(lab_pods | awk '$1 == "h2/p1" { sub(/[0-9a-f]*$/, "", $3); print $3 "/64" }')" 'via'
  router_stop
  tap_ok 'the reflector is dead: the route is kept' eval 'sleep 2; routed h1 10.244.2.0/24 "via $(host_addr4 2) "'
  frr_conf 64512 route-reflector-client >"$out/frr-rr.conf"
  router_start frr "$out/frr-rr.conf"
  tap_ok 'FRR reflects: sessions come up' busywait 60 eval 'both_up bgppeer/tor && settled h1'
  tap_ok "FRR reflects: the other node's block is accepted on its behalf" busywait 10 reflected h1 10.244.2.0/24
  streams_end 'mesh, BIRD and FRR as reflectors'
  router_stop
}

# --- two racks ---------------------------------------------------------------------------------------------------------

part_racks() {
  tap_ok 'two racks: pods reach each other by way of the router between them' \
    lab_run up --hosts 4 --pods 1 --backend bgp --racks 2
  lab_use "$LAB_NAME"
  tap_ok 'two racks: a block of the other rack goes by way of the router' busywait 20 routed h1 10.244.2.0/24 "via $ETCD4 "
  tap_ok 'two racks: a block of the own rack goes by way of its node' busywait 20 routed h1 10.244.3.0/24 "via $(host_addr4 3) "
  stream_echo ipv4 h1/p1 h2/p1
  sed -i 's/encapsulation: never/encapsulation: crossSubnet/' "$LAB_DIR/cluster/cluster.yaml"
  tap_ok 'crossSubnet: VXLAN to the other rack' busywait 20 routed h1 10.244.2.0/24 'dev wrn-ovl'
  tap_ok 'crossSubnet: none within the rack' routed h1 10.244.3.0/24 "via $(host_addr4 3) "
  tap_ok 'crossSubnet: all hosts converge' all_converged
  tap_ok 'crossSubnet: every pod answers' lab_run ping
  sed -i 's/encapsulation: crossSubnet/encapsulation: never/' "$LAB_DIR/cluster/cluster.yaml"
  tap_ok 'never: by way of the router again' busywait 20 routed h1 10.244.2.0/24 "via $ETCD4 "
  tap_ok 'never: every pod answers' lab_run ping
  streams_end 'never -> crossSubnet -> never'
}

if (($# == 0)); then side_by_side bird faults frr racks; else
  lab_alone "tr$$"
  on_exit router_stop
  "part_$1"
  tap_done
fi
