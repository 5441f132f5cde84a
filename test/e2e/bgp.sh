#!/usr/bin/env bash
# Backend bgp on hosts that carry traffic: sessions come up in each topology and change live; gobgpd, warrend or both die.
# Nothing is lost meanwhile, and no route is removed at a peer.
#
#   h1/p1 ==== 1 kHz UDP echo, 100 Hz ping, iperf3 ==== h2/p1, later h4/p1          a gobgpd on every host
#
# `bgp.sh PART` runs one part alone: mesh, topologies or leaving. All three have a lab each, at the same time: GoBGP waits 5
# to 10 s before it connects, in every step.

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
# shellcheck source=test/support/side-by-side.sh
. "$here/../support/side-by-side.sh"

# --- a mesh of three, and what dies in it -----------------------------------------------------------------------------------

all_back() { back_since "$1" h2 && back_since "$1" h1 h2 && back_since "$1" h3 h2; }
# comes_back NAME MS PEER...: the sessions of h2 at h1 and h3, and its own, after what began at MS.
comes_back() {
  local name=$1 began=$2
  timed_since "$began" "$name: its sessions are back" 90 all_back "$began"
  undeleted "$name"
}

part_mesh() {
  local began
  up 'mesh' --hosts 3 --bgp-topology mesh --store etcd
  timed 'mesh: all sessions are up, warren bgp says settled' 60 all_are mesh 0
  tap_ok 'mesh: warren bgp routes: each block accepted, in the kernel with proto 87' everywhere all_known
  now_ms began
  tap_ok 'mesh: warrend restarts with another time to live' everywhere impatient
  tap_ok 'mesh: no session was touched by that' patiently 20 everywhere unbroken_since "$began"
  stream_echo ipv4 h1/p1 h2/p1
  stream_ping ipv4 h3/p1 h2/p1
  stream_tcp ipv4 h1/p1 h2/p1

  watch_routes h1 h2 h3
  now_ms began
  tap_ok 'kill -9 of gobgpd' lab_run kill-gobgpd h2
  comes_back 'kill -9 of gobgpd' "$began"

  watch_routes h1 h2 h3
  nap 1
  now_ms began
  tap_ok 'kill -9 of warrend' lab_run kill h2
  nap 1
  tap_ok 'kill -9 of warrend: it starts again' starts h2
  tap_ok 'kill -9 of warrend: no session was touched' patiently 20 everywhere unbroken_since "$began"
  undeleted 'kill -9 of warrend'

  watch_routes h1 h2 h3
  now_ms began
  tap_ok 'kill -9 of both' eval 'lab_run kill-gobgpd h2 && lab_run kill h2'
  nap 1
  tap_ok 'kill -9 of both: warrend starts again' starts h2
  comes_back 'kill -9 of both' "$began"

  watch_routes h1 h2 h3
  tap_ok 'kill -9 of gobgpd, twice' lab_run kill-gobgpd h2
  nap 3
  now_ms began
  tap_ok 'kill -9 of gobgpd, twice: 3 s later' lab_run kill-gobgpd h2
  comes_back 'kill -9 of gobgpd, twice' "$began"
  streams_end 'mesh: kill -9 of gobgpd, warrend, both, gobgpd twice'
}

# --- topologies that change under traffic -------------------------------------------------------------------------------------

changes_to() {
  local name=$1 kind=$2 count=$3
  timed "$name: all sessions are as they should be, settled" 90 all_are "$kind" "$count"
  tap_ok "$name: every block accepted" patiently 20 everywhere all_known
}
# shellcheck disable=SC2016 # variables of jq
reflectors_are() { view_has "$2" '(.reflectors | join(" ")) == $names' --arg names "$1"; }

kernel_has_block() { kernel_has "$2" "$1"; }

# shellcheck disable=SC2016
not_settled() { view_has "$2" '(.settled | not) and any(.sessions[]; .peer == $peer and .state != "established")' --arg peer "$1"; }
says_unknown() { on "$1" bgp | grep -q 'not all is known: what is missing is taken from the leases'; }

reflector_back() { back_since "$1" h1 h3 && back_since "$1" h2 h3 && back_since "$1" h4 h3; }
settled_without() { view_has "$1" '.settled and all(.sessions[]; .peer == "node/h3" or (.state == "established" and .synced and .role != "retained"))'; }
# only_deleted PREFIX: of all that watch_end has.
only_deleted() { ! watch_end | grep -v "Deleted $1 "; }

part_topologies() {
  local began
  up 'topologies' --hosts 3 --bgp-topology mesh --store etcd
  everywhere impatient
  tap_ok 'auto: meshLimit is as many as there are' apply_bgp 'topology: auto, meshLimit: 3, restartTime: 60'
  changes_to 'auto: three nodes' mesh 0
  stream_echo ipv4 h1/p1 h2/p1
  stream_tcp ipv4 h2/p1 h1/p1
  watch_routes h1 h2 h3
  sample h1
  tap_ok 'auto: a fourth node joins' lab_run join
  lab_use "$LAB_NAME"
  BGP_HOSTS=(h1 h2 h3 h4)
  changes_to 'auto: four nodes, two reflect' reflectors 2
  sample_end
  tap_ok 'auto: all chose the same: h2 and h3' everywhere reflectors_are 'h2 h3'
  undeleted 'auto: four nodes'
  impatient h4
  streams_end 'auto: up over the threshold'

  stream_echo ipv4 h1/p1 h4/p1
  stream_ping ipv4 h1/p1 h3/p1
  stream_tcp ipv4 h4/p1 h1/p1
  watch_routes h1 h2 h4
  now_ms began
  tap_ok "kill -9 of a reflector's gobgpd" lab_run kill-gobgpd h3
  timed_since "$began" "kill -9 of a reflector's gobgpd: its sessions are back" 90 reflector_back "$began"
  undeleted "kill -9 of a reflector's gobgpd"
  watch_routes h1 h2 h4
  lab_run kill-gobgpd h3
  nap 3
  now_ms began
  tap_ok "kill -9 of a reflector's gobgpd, twice" lab_run kill-gobgpd h3
  timed_since "$began" "kill -9 of a reflector's gobgpd, twice: its sessions are back" 90 reflector_back "$began"
  undeleted "kill -9 of a reflector's gobgpd, twice"

  watch_routes h1 h2 h3 h4
  tap_ok 'reflectors -> mesh' apply_bgp 'topology: mesh, restartTime: 60'
  changes_to 'reflectors -> mesh' mesh 0
  sample h1
  nap 0.5
  tap_ok 'mesh -> reflectors' apply_bgp 'topology: reflectors, reflectors: { count: 2 }, restartTime: 60'
  changes_to 'mesh -> reflectors' reflectors 2
  nap 0.5
  sample_end
  tap_ok 'mesh -> reflectors: the old session of h1 and h4 stayed until a new one was in sync, then went' make_before_break 192.0.2.14
  tap_ok 'two reflectors -> three' apply_bgp 'topology: reflectors, reflectors: { count: 3 }, restartTime: 60'
  changes_to 'two reflectors -> three' reflectors 3
  tap_ok 'three reflectors -> one' apply_bgp 'topology: reflectors, reflectors: { count: 1 }, restartTime: 60'
  changes_to 'three reflectors -> one' reflectors 1
  tap_ok 'one reflector -> auto, above the threshold' apply_bgp 'topology: auto, meshLimit: 3, restartTime: 60'
  changes_to 'one reflector -> auto, above the threshold' reflectors 2
  undeleted 'topologies change'
  streams_end 'reflectors die, topologies change'
}

# --- reflectors that go -------------------------------------------------------------------------------------------------------

part_leaving() {
  local block
  up 'leaving' --hosts 4 --reflectors 2 --store etcd
  everywhere impatient
  tap_ok 'leaving: auto, above the threshold' apply_bgp 'topology: auto, meshLimit: 3, restartTime: 60'
  changes_to 'leaving: four nodes, two reflect' reflectors 2
  tap_ok 'leaving: all chose the same: h2 and h3' everywhere reflectors_are 'h2 h3'
  tap_ok 'leaving: a reflector takes what a client tells from the client' patiently 20 from_itself h4 h2 h3
  tap_ok 'leaving: what a client tells goes round once, not for ever' told_once h4 h2 h3
  stream_echo ipv4 h1/p1 h4/p1
  stream_ping ipv4 h2/p1 h4/p1
  stream_tcp ipv4 h4/p1 h1/p1
  block=$(blocks_of h3)
  # Ranked are h3, h2, h1, h4: h1 takes the place of h3.
  watch_routes h1 h2 h4
  tap_ok 'a reflector leaves: its warrend and its gobgpd end' eval 'gobgpd_ends h3; lab_run kill h3'
  BGP_HOSTS=(h1 h2 h4)
  timed 'a reflector leaves: another takes its place' 60 everywhere reflectors_are 'h1 h2'
  timed 'a reflector leaves: all that routes depend on is known' 60 everywhere settled_without
  tap_ok 'a reflector leaves: the route to its pods stays' everywhere kernel_has_block "$block"
  undeleted 'a reflector leaves'
  watch_routes h1 h2 h4
  tap_ok 'auto: warren delete node/h3' on h1 delete node/h3
  changes_to 'auto: three nodes again, a mesh' mesh 0
  tap_ok 'auto: only the route of the node that went was removed' only_deleted "$block"
  streams_end 'a reflector leaves'

  tap_ok 'it comes back' starts h3
  BGP_HOSTS=(h1 h2 h3 h4)
  changes_to 'it comes back: reflectors' reflectors 2
  tap_ok 'all reflectors dead: peers keep their routes for 10 s' apply_bgp 'topology: reflectors, reflectors: { count: 2 }, restartTime: 10'
  nap 1
  changes_to 'all reflectors dead: before that' reflectors 2
  stream_echo ipv4 h1/p1 h4/p1
  stream_ping ipv4 h1/p1 h2/p1
  stream_tcp ipv4 h4/p1 h1/p1
  watch_routes h1 h2 h3 h4
  tap_ok 'all reflectors dead: gobgpd of h2 and h3 ends' eval 'gobgpd_ends h2 && gobgpd_ends h3'
  timed 'all reflectors dead: h1 goes by the lease for h4 once its routes are stale for too long' 60 by_lease h1 h4
  tap_ok 'all reflectors dead: warren bgp says what it does not know' says_unknown h1
  tap_ok 'all reflectors dead: and whose session is missing' not_settled node/h3 h1
  tap_ok 'all reflectors dead: the status of a reflector says what is missing, and what to do' \
    patiently 20 says h2 GOBGPD "$LAB_DIR/h2/gobgpd.sock" 'systemctl start warren-gobgpd'
  tap_ok 'all reflectors dead: a fifth node joins, all pods reach it' lab_run join
  lab_use "$LAB_NAME"
  BGP_HOSTS=(h1 h2 h3 h4 h5)
  tap_ok 'all reflectors dead: h4 reaches its pods by its lease' patiently 20 by_lease h4 h5
  tap_ok 'all reflectors dead: and it those of h4' patiently 20 by_lease h5 h4
  undeleted 'all reflectors dead'
  start_gobgpd h2
  start_gobgpd h3
  changes_to 'all reflectors dead: they come back' reflectors 2
  streams_end 'all reflectors dead'
}

if (($# == 0)); then side_by_side mesh topologies leaving; else
  bgp_labs "bg$$"
  lab_use "bg$$"
  "part_$1"
  tap_done
fi
