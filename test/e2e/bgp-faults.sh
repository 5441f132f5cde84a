#!/usr/bin/env bash
# Backend bgp when things are not as they should be: gobgpd missing or hung, its port taken, another password, hands of
# others, bad documents; the whole cluster changes its backend; underlays of one family. Traffic flows meanwhile.
#
#   h1/p1 ==== 1 kHz UDP echo, 100 Hz ping, iperf3 ==== h2/p1          a gobgpd on every host
#
# `bgp-faults.sh PART...` runs these parts alone: faults switch families.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh"
# shellcheck source=scripts/lab-bgp.sh
. "$here/../../scripts/lab-bgp.sh"
# shellcheck source=test/support/traffic.sh
. "$here/../support/traffic.sh"
# shellcheck source=test/support/bgp.sh
. "$here/../support/bgp.sh"

bgp_labs "bf$$" "bf$$-s" "bf$$-4" "bf$$-6"

# --- faults, and other hands ----------------------------------------------------------------------------------------------------

mesh_again() { timed "$1: all sessions are up again" 90 all_are mesh 0; }
degraded() { [[ $(status_of "$1" | jq .converged) == false ]]; }
# why_says HOST PEER WORD: what `warren bgp` tells of a session that is down.
why_says() {
  # shellcheck disable=SC2016
  view_has "$1" 'any(.sessions[]; .peer == $peer and .state != "established" and ((.why // "") | contains($word)))' --arg peer "$2" --arg word "$3"
}
# refused FIELD DOCUMENT: `warren apply` refuses it, and names the field.
refused() {
  local out
  if out=$(on h1 apply -f - <<<"$2" 2>&1); then
    printf 'it was taken: %s\n' "$out"
    return 1
  fi
  [[ $out == *"$1"* ]] || { printf '%s\n' "$out" && return 1; }
}
cluster_with_asn() { sed -E "s/asn: [0-9]+/asn: $1/" "$LAB_DIR/cluster.yaml"; }
bgp_peer() { printf 'apiVersion: warren/v1\nkind: BGPPeer\nmetadata: { name: tor }\nspec: { address: %s, asn: %s }\n' "$1" "$2"; }
node_with_router_id() {
  printf 'apiVersion: warren/v1\nkind: Node\nmetadata: { name: x1 }\nspec: { addresses: [192.0.2.99], podCIDRs: [10.244.99.0/24], bgp: { asn: 64512, routerId: %s } }\n' "$1"
}
others_stand() { view_has "$1" '.settled and all(.sessions[]; .peer == "bgppeer/tor" or .state == "established")'; }
has_neighbor() { gobgp_on "$1" neighbor | grep -q "^$2 "; }
has_path() { gobgp_on "$1" global rib | grep -q " $2 "; }
takes_port() {
  nsenter --net="/run/netns/$(ns "$1")" socat "TCP-LISTEN:179,bind=$2,fork,reuseaddr" OPEN:/dev/null >/dev/null 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/port.pid" $!
  busywait 10 port_is_held "$1"
}
port_is_held() { in_ns "$1" ss -Hltnp 'sport = :179' | grep socat; }
# gobgpd listens on port 179 of the host's address, and nowhere else; its API is a socket that only root may write to.
listens_for_bgp_alone() {
  local host=$1 n=${1#h} listening mode
  listening=$(in_ns "$host" ss -Hltnp | awk '/gobgpd/ { print $4 }' | sort -u)
  [[ $listening == "192.0.2.$((10 + n)):179" ]] || { printf '%s listens at %s\n' "$host" "$listening" && return 1; }
  mode=$(stat -c '%U %A' "$LAB_DIR/$host/gobgpd.sock")
  [[ $mode =~ ^root\ s....-..-.$ ]] || { printf '%s: %s\n' "$host" "$mode" && return 1; }
  ! in_ns ext timeout 2 bash -c "exec 3<>/dev/tcp/192.0.2.$((10 + n))/50051" 2>/dev/null
}

part_faults() {
  local began
  lab_use "bf$$"
  up 'faults' --hosts 3 --bgp-topology mesh --store etcd
  everywhere impatient
  mesh_again 'faults'
  tap_ok 'nothing but port 179 is open to the network, the API is a socket of root' everywhere listens_for_bgp_alone

  stream_echo ipv4 h1/p1 h2/p1
  stream_tcp ipv4 h2/p1 h1/p1
  watch_routes h1 h2 h3
  tap_ok 'no gobgpd: that of h2 ends, and its socket' gobgpd_ends h2
  tap_ok 'no gobgpd: status of h2 says so, and what to do' patiently 20 says h2 GOBGPD "$LAB_DIR/h2/gobgpd.sock" 'systemctl start warren-gobgpd'
  tap_ok 'no gobgpd: and is degraded' degraded h2
  # (With backend bgp start_host would start a gobgpd, too.)
  tap_ok 'no gobgpd: warrend of h2 restarts' eval 'lab_run stop h2 && BACKEND=none start_host h2'
  tap_ok 'no gobgpd: h2 goes by the leases' patiently 30 eval 'by_lease h2 h1 && by_lease h2 h3'
  tap_ok 'no gobgpd: somebody else takes port 179 of h2' takes_port h2 192.0.2.12
  start_gobgpd h2
  tap_ok 'port 179 is taken: status of h2 names it' patiently 30 table_says h2 bgp-speaker 192.0.2.12:179 'in use'
  proc_kill "$TRAFFIC_DIR/port.pid" TERM
  mesh_again 'port 179 is free again'
  tap_ok 'port 179 is free again: h2 converges' patiently 30 converged h2

  now_ms began
  tap_ok 'gobgpd hangs: SIGSTOP for that of h2' kill -s STOP "$(<"$LAB_DIR/h2/gobgpd.child")"
  tap_ok 'gobgpd hangs: h1 has no session with it after its hold time' patiently 40 why_says h1 node/h2 ''
  kill -s CONT "$(<"$LAB_DIR/h2/gobgpd.child")"
  mesh_again 'gobgpd goes on'

  tap_ok 'another password: warrend of h1 ends' lab_run kill h1
  BGP_BASE='asn: 64512, password: other, holdTime: 9' APPLY_AT=h3
  tap_ok 'another password: for all but h1' apply_bgp 'topology: mesh, restartTime: 60'
  tap_ok 'another password: h2, which h1 calls, suspects it' patiently 60 why_says h2 node/h1 'suspected: another password'
  tap_ok 'another password: h1 starts, and has it, too' starts h1
  mesh_again 'another password'
  undeleted 'gobgpd missing, hung; port taken; another password'
  streams_end 'gobgpd missing, hung; port taken; another password'

  stream_echo ipv4 h1/p1 h2/p1
  watch_routes h1 h2 h3
  now_ms began
  tap_ok 'other hands: gobgp neighbor del' gobgp_on h1 neighbor del 192.0.2.12
  timed_since "$began" 'other hands: gobgp neighbor del: it is there again' 5 has_neighbor h1 192.0.2.12
  mesh_again 'other hands: gobgp neighbor del'
  now_ms began
  tap_ok 'other hands: gobgp global rib del' gobgp_on h1 global rib del 10.244.1.0/24
  timed_since "$began" 'other hands: gobgp global rib del: made good within seconds' 20 has_path h1 10.244.1.0/24
  mesh_again 'other hands: gobgp global rib del'
  undeleted 'other hands: neighbor and path'
  now_ms began
  tap_ok 'other hands: ip route del' ip -n "$(ns h3)" route del 10.244.2.0/24 proto 87
  timed_since "$began" 'other hands: ip route del: it is there again' 5 kernel_has h3 10.244.2.0/24

  tap_ok 'AS 0 is refused, and the field named' refused spec.bgp.asn "$(cluster_with_asn 0)"
  tap_ok 'AS 4294967296 is refused, and the field named' refused spec.bgp.asn "$(cluster_with_asn 4294967296)"
  tap_ok 'AS 0 of a BGPPeer is refused, and the field named' refused spec.asn "$(bgp_peer 192.0.2.200 0)"
  now_ms began
  tap_ok 'a BGPPeer that nobody is' on h1 apply -f - < <(bgp_peer 192.0.2.200 64999)
  tap_ok 'a BGPPeer that nobody is: shown as not established' patiently 20 why_says h1 bgppeer/tor ''
  tap_ok 'a BGPPeer that nobody is: all converge' all_converged
  tap_ok 'a BGPPeer that nobody is: the others stand' patiently 20 everywhere others_stand
  tap_ok 'a BGPPeer that nobody is: deleted' on h1 delete bgppeer/tor
  tap_ok 'one router id twice: a record with that of h1' on h1 apply -f - < <(node_with_router_id 192.0.2.11)
  tap_ok 'one router id twice: h1 names both' patiently 20 says h1 ROUTER_ID 192.0.2.11 x1 h1
  tap_ok 'one router id twice: deleted' on h1 delete node/x1
  mesh_again 'other hands, bad documents'
  streams_end 'other hands, bad documents'
  lab_run down 2>/dev/null
}

# --- the whole cluster changes its backend ---------------------------------------------------------------------------------------

backend_is() { [[ $(status_of "$2" | jq -r '"\(.backend) \(.converged)"') == "$1 true" ]] || { status_of "$2" | jq -c '{node, backend, converged, problems}' && return 1; }; }
# At most one datagram of 1 kHz, and no TCP connection.
one_at_most() {
  cat "$1"
  awk '/^echo/ { n++; if ($5 > 1 || $5 !~ /^[0-9]+$/) bad = 1 } /^tcp/ { n++; if ($5 != 0) bad = 1 } END { exit bad || n != 4 }' "$1"
}
no_session() { ! gobgp_on "$1" neighbor 2>/dev/null | grep '^[0-9]'; }

part_switch() {
  local type last=vxlan host
  lab_use "bf$$-s"
  tap_ok 'switch: the lab comes up with vxlan, on both families' lab_run up --hosts 3 --pods 1 --backend vxlan --family dual --underlay dual --store file
  lab_use "$LAB_NAME"
  [[ -r $LAB_DIR/lab.env ]] || exit 1
  mapfile -t BGP_HOSTS < <(lab_hosts)
  for host in h1 h2 h3; do start_gobgpd "$host"; done
  printf '  bgp: { %s, topology: mesh }\n' "$BGP_BASE" >>"$LAB_DIR/cluster.yaml"
  stream_echo ipv4 h1/p1 h2/p1
  stream_echo ipv6 h2/p1 h3/p1
  stream_tcp ipv4 h1/p1 h2/p1
  stream_tcp ipv6 h2/p1 h3/p1
  for type in bgp host-gw bgp vxlan; do
    tap_ok "switch: $last -> $type" apply_backend "$type"
    timed "switch: $last -> $type: all converge" 60 everywhere backend_is "$type"
    if [[ $type == bgp ]]; then
      timed "switch: $last -> bgp: all sessions are up" 60 all_are mesh 0
      tap_ok "switch: $last -> bgp: blocks of both families accepted, in the kernel with proto 87" patiently 20 everywhere all_known
    else
      tap_ok "switch: $last -> $type: gobgpd has no neighbor any more" patiently 30 everywhere no_session
    fi
    nap 1
    last=$type
  done
  streams_stop >"$TRAFFIC_DIR/streams"
  tap_ok 'switch: no TCP connection lost, one datagram of 1 kHz at most' one_at_most "$TRAFFIC_DIR/streams"
  sed 's/^/# /' "$TRAFFIC_DIR/streams"
  lab_run down 2>/dev/null
}

# --- an underlay of one family, pods of both -------------------------------------------------------------------------------------

part_families() {
  local family job jobs=() failed=''
  for family in 4 6; do
    "$LAB_SH" up --name "bf$$-$family" --hosts 2 --pods 1 --backend bgp --bgp-topology mesh --family dual --underlay "ipv$family" >"$TRAFFIC_DIR/up.$family" 2>&1 &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || failed=1; done
  tap_ok 'families: an underlay of IPv4, and one of IPv6' eval "[[ -z '$failed' ]] || { cat '$TRAFFIC_DIR'/up.*; false; }"
  for family in 4 6; do
    lab_use "bf$$-$family"
    BGP_HOSTS=(h1 h2)
    timed "underlay IPv$family: all sessions are up" 60 all_are mesh 0
    tap_ok "underlay IPv$family: blocks of both families accepted, in the kernel with proto 87" patiently 20 everywhere all_known
    tap_ok "underlay IPv$family: every pod reaches every other on both" lab_run ping
    [[ $family == 4 ]] || tap_ok 'underlay IPv6: the router id is none of a host, and not the same' router_ids_differ
    stream_echo ipv4 h1/p1 h2/p1
    stream_echo ipv6 h1/p1 h2/p1
    watch_routes h1 h2
    now_ms began
    tap_ok "underlay IPv$family: kill -9 of gobgpd" lab_run kill-gobgpd h2
    timed_since "$began" "underlay IPv$family: kill -9 of gobgpd: the session is back" 90 back_since "$began" h1 h2
    undeleted "underlay IPv$family: kill -9 of gobgpd"
    streams_end "underlay IPv$family: kill -9 of gobgpd"
    lab_run down 2>/dev/null
  done
}
router_ids_differ() {
  local ids
  ids=$(for host in h1 h2; do bgp_view "$host" | jq -r .routerId; done | sort -u | grep -c '^2[45][0-9][.]')
  [[ $ids == 2 ]]
}

parts=("$@")
((${#parts[@]} > 0)) || parts=(faults switch families)
for part in "${parts[@]}"; do "part_$part"; done
tap_done
