#!/usr/bin/env bash
# Packets flow, and go on flowing whatever happens to warrend: two backends x two stores, IPv4 and IPv6 between pods.
#
#   h1/p1 ==== 100 Hz ping (IPv4), 1 kHz UDP echo (IPv6), iperf3 ==== h2/p1          h3/p1
#   while each warrend is stopped and started, all are killed at once for 5 s, and the backend changes under them.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh"
# shellcheck source=test/support/traffic.sh
. "$here/../support/traffic.sh"

cleanup() {
  streams_kill
  lab_run down 2>/dev/null || :
  rm -rf "$TRAFFIC_DIR"
}
on_exit cleanup
lab_use "tr$$"

# --- steps -------------------------------------------------------------------------------------------------------------

up() { lab_run up --hosts 3 --pods 1 --family dual --underlay dual "$@" && lab_use "$LAB_NAME"; }

start_streams() {
  stream_ping ipv4 h1/p1 h2/p1
  stream_echo ipv6 h1/p1 h2/p1
  stream_tcp ipv4 h2/p1 h1/p1
}

# Not one operation since the start: what stood was adopted.
wrote_nothing() {
  local host
  for host in "$@"; do
    [[ $(written "$host") == 0 ]] || {
      printf '%s wrote:\n' "$host"
      on "$host" events
      return 1
    }
  done
}

kill_all() {
  local host pid
  for host in $(lab_hosts); do
    pid=$(proc_alive "$LAB_DIR/$host/warrend.pid")
    kill -s KILL "$pid"
  done
  for host in $(lab_hosts); do busywait 3 lib_proc_gone "$LAB_DIR/$host/warrend.pid" || return 1; done
}

start_all() {
  local host
  for host in $(lab_hosts); do start_host "$host"; done
}

restarts() {
  local host
  for host in $(lab_hosts); do
    tap_ok "$1: SIGTERM and start of $host" lab_run restart "$host"
    tap_ok "$1: $host wrote nothing when it came back" wrote_nothing "$host"
  done
  tap_ok "$1: kill -9 of all" kill_all
  nap 5
  start_all
  tap_ok "$1: all converge after 5 s of none" all_converged
  tap_ok "$1: none of them wrote anything" wrote_nothing h1 h2 h3
}

# backend_is TYPE: every warrend has it and all is done.
backend_is() {
  local host
  for host in $(lab_hosts); do
    [[ $(status_of "$host" | jq -r '"\(.backend) \(.converged)"') == "$1 true" ]] || {
      status_of "$host" | jq -c '{node, backend, converged, problems}'
      return 1
    }
  done
}

# change_backend TYPE: as a user does: by `warren apply`, or with an editor where the model is a file.
change_backend() {
  sed -E "s/^  backend: .*/  backend: { type: $1 }/" "$LAB_DIR/cluster.yaml" >"$TRAFFIC_DIR/cluster.yaml"
  if [[ $STORE == etcd ]]; then
    on h2 apply -f "$TRAFFIC_DIR/cluster.yaml"
  else
    cp "$TRAFFIC_DIR/cluster.yaml" "$LAB_DIR/cluster/.cluster.yaml.new"
    mv "$LAB_DIR/cluster/.cluster.yaml.new" "$LAB_DIR/cluster/cluster.yaml"
  fi
}

no_link() { ! in_ns "$1" ip link show "$2" >/dev/null 2>&1; }

backend_changes() {
  local type
  for type in host-gw vxlan; do
    tap_ok "$1: the backend changes to $type" change_backend "$type"
    tap_ok "$1: all converge on $type" busywait 20 backend_is "$type"
    [[ $type == vxlan ]] || tap_ok "$1: the VXLAN device is gone" busywait 5 no_link h1 wrn-ovl
    tap_ok "$1: every pair answers over $type" lab_run ping
  done
}

# --- two backends x two stores ---------------------------------------------------------------------------------------------

both() {
  local name="$1, $2"
  tap_ok "$name: the lab comes up" up --backend "$1" --store "$2"
  lab_use "$LAB_NAME"
  [[ -r $LAB_DIR/lab.env ]] || exit 1 # without a plan: the suite ended early
  lab_run ping -o json >"$TRAFFIC_DIR/ping" 2>/dev/null || :
  tap_is "$name: all pairs answer on both families" \
    "$(jq -c 'group_by(.family) | map([.[0].family, (map(select(.ms != null)) | length)])' "$TRAFFIC_DIR/ping")" \
    '[["ipv4",6],["ipv6",6]]'
  start_streams
  restarts "$name"
  streams_end "$name: restarts and kill -9"
}

both host-gw file
lab_run down 2>/dev/null

both host-gw etcd
lab_run down 2>/dev/null

both vxlan etcd
start_streams
backend_changes 'etcd'
streams_end 'etcd: vxlan -> host-gw -> vxlan'
lab_run down 2>/dev/null

both vxlan file
start_streams
backend_changes 'file'
streams_end 'file: vxlan -> host-gw -> vxlan'

# --- what else a packet meets (on the lab of vxlan and file) ------------------------------------------------------------------

# A pod that is plugged in while all runs, the way a CNI plugin does it.
late_pod() {
  ip netns add "$(ns h1/p9)"
  echo "link add veth-p9 mtu 1450 master wrn0 type veth peer name eth0 mtu 1450 netns $(ns h1/p9)
    link set veth-p9 up" | ip_batch h1
  echo "link set eth0 up
    address add 10.244.1.9/24 dev eth0
    address add fd00:244:0:1::9/64 dev eth0 nodad
    route add default via 10.244.1.1
    route add default via fd00:244:0:1::1" | ip_batch h1/p9
}
pings() {
  local from=$1
  shift
  busywait 5 in_ns "$from" ping -n -q -c 1 -W 1 "$@"
}
lease=$(status_of h1 | jq -r '.lease.ipv4')
tap_is 'pods: the lab has the blocks that the test was written for' "$lease" 10.244.1.0/24
tap_ok 'pods: one is plugged in later' late_pod
tap_ok 'pods: it reaches a pod of another host' pings h1/p9 10.244.2.2
tap_ok 'pods: over IPv6 too' pings h1/p9 fd00:244:0:2::2
tap_ok 'pods: and its neighbour on the bridge' pings h1/p9 10.244.1.2
tap_ok 'hosts: a fourth joins, its pod reaches every other' lab_run join
lab_use "$LAB_NAME"

# The pod MTU of vxlan over IPv4 is 1450: 20 (IPv4) or 40 (IPv6) + 8 (ICMP) bytes of it are headers.
size() { in_ns h1/p1 ping -n -q -c 2 -i 0.1 -W 2 -M "do" -s "$2" "$1"; }
mtu=$(status_of h1 | jq -r '.mtu')
tap_is 'MTU: pods have the underlay less 50' "$mtu" 1450
tap_ok 'MTU: an IPv4 packet as large as it may be passes' size 10.244.2.2 $((mtu - 28))
tap_ok 'MTU: one byte more does not' fails size 10.244.2.2 $((mtu - 27))
tap_ok 'MTU: an IPv6 packet as large as it may be passes' size fd00:244:0:2::2 $((mtu - 48))
tap_ok 'MTU: one byte more does not' fails size fd00:244:0:2::2 $((mtu - 47))

# Who the other side sees.
for place in ext h2/p1; do
  nsenter --net="/run/netns/$(ns "$place")" node "$here/../support/udp-echo.mjs" server 4000 >"$TRAFFIC_DIR/seen.server" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/server.seen.${place//\//-}" $!
  busywait 10 test -s "$TRAFFIC_DIR/seen.server"
  rm "$TRAFFIC_DIR/seen.server"
done
seen() { in_ns "$1" node "$here/../support/udp-echo.mjs" client "$2" 4000 50 10 | jq -r '"\(.lost) \(.seenAs | join(","))"'; }
tap_is 'masquerade: outside, a pod is seen with the address of its host' "$(seen h1/p1 "$EXT4")" '0 192.0.2.11'
tap_is 'masquerade: IPv6 too' "$(seen h1/p1 "$EXT6")" '0 2001:db8::11'
tap_is 'masquerade: another pod sees the pod itself' "$(seen h1/p1 10.244.2.2)" '0 10.244.1.2'
tap_is 'masquerade: IPv6 too' "$(seen h1/p1 fd00:244:0:2::2)" '0 fd00:244:0:1::2'

# A machine on the underlay that is no member makes VXLAN frames by hand.
dropped() { in_ns h1 nft -j list chain inet warren members | jq '[.nftables[].rule? // empty | .expr[] | .counter? // empty | .packets] | add'; }
dropped_at_least() { [[ $(dropped) -ge $1 ]] || { dropped && return 1; }; }
# Datagrams that came, for a socket or for none.
# shellcheck disable=SC2016
pod_saw() { in_ns h1/p1 awk '/^Udp: [0-9]/ { print $2 + $3 }' /proc/net/snmp; }
forge() {
  local vtep
  vtep=$(ip -n "$(ns h1)" -j link show wrn-ovl | jq -r '.[0].address')
  echo "link add forged type vxlan id 1 dstport 4789 local 192.0.2.1 remote 192.0.2.11 nolearning
    address add 10.244.99.1/24 dev forged
    link set forged up
    neighbour replace 10.244.1.2 lladdr $vtep dev forged nud permanent
    route add 10.244.1.2/32 dev forged" | ip_batch ext
  in_ns ext node "$here/../support/udp-echo.mjs" client 10.244.1.2 4001 50 10 >/dev/null
}
before=$(pod_saw) count=$(dropped)
tap_ok 'guard: a machine that is no member sends frames with our VNI' forge
tap_ok 'guard: each is dropped and counted' busywait 5 dropped_at_least $((count + 10))
tap_is 'guard: the pod saw none' "$(pod_saw)" "$before"
in_ns h2/p1 node "$here/../support/udp-echo.mjs" client 10.244.1.2 4001 50 10 >/dev/null
# (Not all ten: the pod answers that nobody listens, and a sender that hears it skips one.)
tap_ok 'guard: (from a member it would have seen them)' test "$(pod_saw)" -gt "$before"
in_ns ext ip link del forged

foreign_vni() {
  echo "link add foreign0 type vxlan id 77 dstport 4789 local 192.0.2.11 remote 192.0.2.1 nolearning
    address add 10.99.0.1/24 dev foreign0
    link set foreign0 up" | ip_batch h1
  echo "link add foreign0 type vxlan id 77 dstport 4789 local 192.0.2.1 remote 192.0.2.11 nolearning
    address add 10.99.0.2/24 dev foreign0
    link set foreign0 up" | ip_batch ext
  pings ext 10.99.0.1
}
tap_ok 'guard: a VNI that is not ours passes on the same port' foreign_vni
tap_ok 'guard: and its device is left alone' in_ns h1 ip link show foreign0
outer_untracked() {
  local out
  out=$(in_ns h1 conntrack -L -p udp --dport 4789 2>/dev/null)
  printf '%s\n' "$out"
  # VNI 77 is none of ours: it was tracked, and proves that the list would show ours.
  ! grep -v 'src=192.0.2.1 \|dst=192.0.2.1 ' <<<"$out"
}
in_ns h1 conntrack -F >/dev/null 2>&1 # what was tracked while the backend changed
tap_ok 'conntrack: packets go out and come in' eval 'pings h1/p1 10.244.2.2 && pings ext 10.99.0.1'
tap_ok 'conntrack: outer packets are not tracked' outer_untracked
tap_ok 'conntrack: (the foreign VNI is)' test -n "$(in_ns h1 conntrack -L -p udp --dport 4789 2>/dev/null)"
in_ns h1 ip link del foreign0

# --- TCP through a host with a smaller MTU, without any ICMP that would tell ---------------------------------------------------

smaller_mtu() { ip -n "$(ns h1)" link show wrn-ovl | grep 'mtu 1350 '; }
no_path_mtu() {
  in_ns "$1" nft -f - <<'NFT'
table inet blackhole {
	chain input {
		type filter hook input priority filter; policy accept;
		icmp type destination-unreachable icmp code frag-needed drop
		icmpv6 type packet-too-big drop
	}
}
NFT
}
transfer() {
  nsenter --net="/run/netns/$(ns h4/p1)" iperf3 -s -1 >/dev/null 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/server.iperf.mss" $!
  busywait 10 tcp_listens h4/p1
  in_ns h1/p1 timeout 20 iperf3 -c "$1" -n 2M "${@:2}"
}
in_ns h4 ip link set eth0 mtu 1400
tap_ok 'MSS: the smallest MTU of all hosts counts' busywait 10 smaller_mtu
tap_ok 'MSS: all converge on it' all_converged
for place in h1/p1 h4/p1; do no_path_mtu "$place"; done
address=$(pod_address ipv4 h4/p1)
tap_ok 'MSS: TCP of pods with the larger MTU passes without path MTU discovery' transfer "$address"
tap_ok 'MSS: the other way too' transfer "$address" -R
tap_ok 'MSS: over IPv6 too' transfer "$(pod_address ipv6 h4/p1)"

tap_done
