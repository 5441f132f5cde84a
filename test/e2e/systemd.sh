#!/usr/bin/env bash
# warrend as a unit under a real systemd, in the userspace mode: its listeners are in the descriptor store, so that no client
# is refused while it restarts or was killed. And the same without systemd, to see the difference.
#
#   wt-PID-client              wt-PID-host: systemd, warrend            wt-PID-b1, wt-PID-b2
#  .---------------.         .---------------------------------.       .------------------.
#  | 192.0.2.20    +---------+ eth0 192.0.2.11                 |   .---+ 198.51.100.2     |
#  | 2001:db8::20  |         |      2001:db8::11           b1  +---'   | 2001:db8:1::2    |
#  '---------------'         | Service 10.0.0.1 fd00:10::1 b2  +---.   '------------------'
#   TCP, UDP, all the time   |   port 1234, nodePort 31234     |   '--- 198.51.100.130, 2001:db8:2::2
#                            '---------------------------------'       echo both protocols on port 8080

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../../scripts/env.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh" # kill_inside
# shellcheck source=test/support/systemd.sh
. "$here/../support/systemd.sh"
# shellcheck source=test/support/clients.sh
. "$here/../support/clients.sh"

name=wt-$$
dist=${WARREN_DIST:-$WARREN_ROOT/dist}
work=$(mktemp -d)
clients_use "$name" "$work"
need_node
[[ -n ${WARREN_DIST-} ]] || need_build

cleanup() {
  local place
  systemd_down
  kill_inside "/run/netns/$name"-*
  for place in "/run/netns/$name"-*; do ip netns delete "${place##*/}"; done
  rm -rf "$work"
}
on_exit cleanup

# --- the places --------------------------------------------------------------------------------------------------------

make_places() {
  local b
  printf 'netns add %s\n' "$name-"{host,client,b1,b2} | ip -batch -
  in_place host sysctl -qw net.ipv6.conf.default.accept_dad=0
  ip -n "$name-host" -batch - <<IP
link set lo up
link add eth0 type veth peer name eth0 netns $name-client
link add b1 type veth peer name eth0 netns $name-b1
link add b2 type veth peer name eth0 netns $name-b2
link set eth0 up
link set b1 up
link set b2 up
address add 192.0.2.11/24 dev eth0
address add 2001:db8::11/64 dev eth0 nodad
address add 198.51.100.1/25 dev b1
address add 2001:db8:1::1/64 dev b1 nodad
address add 198.51.100.129/25 dev b2
address add 2001:db8:2::1/64 dev b2 nodad
IP
  for b in 'client 192.0.2.20/24 2001:db8::20/64 192.0.2.11 2001:db8::11' \
    'b1 198.51.100.2/25 2001:db8:1::2/64 198.51.100.1 2001:db8:1::1' \
    'b2 198.51.100.130/25 2001:db8:2::2/64 198.51.100.129 2001:db8:2::1'; do
    read -r b addr4 addr6 via4 via6 <<<"$b"
    printf '%s\n' "link set lo up" "link set eth0 up" "address add $addr4 dev eth0" "address add $addr6 dev eth0 nodad" \
      "route add default via $via4" "route add default via $via6" | ip -n "$name-$b" -batch -
  done
}

# write_config DIR STATE RUN: configuration and model in DIR, which warrend sees as STATE.
write_config() {
  mkdir -p "$1/cluster"
  cat >"$1/warrend.yaml" <<YAML
node: h1
store: { file: $2/cluster }
underlay: { interface: eth0 }
proxyDrain: 1
stateDir: $3/state
socket: $3/warrend.sock
subnetFile: $3/subnet.env
YAML
  cat >"$1/cluster/cluster.yaml" <<YAML
apiVersion: warren/v1
kind: Cluster
metadata: { name: default }
spec: { podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.0.0.0/16, "fd00:10::/112"], proxyMode: userspace }
YAML
  cat >"$1/cluster/web.yaml" <<YAML
apiVersion: warren/v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  clusterIPs: [10.0.0.1, "fd00:10::1"]
  ports:
    - { name: tcp, protocol: TCP, port: 1234, targetPort: 8080, nodePort: 31234 }
    - { name: udp, protocol: UDP, port: 1234, targetPort: 8080, nodePort: 31234 }
---
apiVersion: warren/v1
kind: Endpoints
metadata: { name: web-1 }
spec:
  service: web
  endpoints:
    - { addresses: [198.51.100.2, "2001:db8:1::2"] }
    - { addresses: [198.51.100.130, "2001:db8:2::2"] }
  ports: [{ name: tcp, port: 8080 }, { name: udp, protocol: UDP, port: 8080 }]
YAML
  cat >"$1/cluster/other.yaml" <<YAML
apiVersion: warren/v1
kind: Service
metadata: { name: other }
spec: { clusterIPs: [10.0.0.2], ports: [{ port: 1234 }] }
---
apiVersion: warren/v1
kind: Endpoints
metadata: { name: other-1 }
spec: { service: other, endpoints: [{ addresses: [198.51.100.2] }], ports: [{ port: 8080 }] }
YAML
}

# --- the unit ----------------------------------------------------------------------------------------------------------

booted() {
  systemd_in systemctl --quiet is-active basic.target || {
    cat "$work/console"
    return 1
  }
}
# unit_is PROPERTY=REGEX...
unit_is() {
  local values want names=("${@%%=*}")
  values=$(systemd_in systemctl show warrend "${names[@]/#/--property=}")
  for want; do
    grep -qx -e "$want" <<<"$values" || { printf '%s\n' "$values" && return 1; }
  done
}
kept() { unit_is "NFileDescriptorStore=$1"; }
running() { unit_is ActiveState=active 'StatusText=converged.*'; }
restarted() { unit_is "NRestarts=$1" ActiveState=active 'StatusText=converged.*'; }
ports() { in_place host ss -Hlntu | awk '{ print $1, $5 }' | sort; }
# kill_main [CMD]: kills warrend's main process, and runs CMD before systemd starts it again.
kill_main() { systemd_in sh -c "kill -KILL \$(systemctl show -P MainPID warrend)${1:+; $1}"; }
says() { grep -q "$1" <<<"$2" || { printf '%s\n' "$2" && return 1; }; }

under_systemd() {
  local now text before
  mkdir -p "$work/root"
  "$WARREN_ROOT/scripts/stage.sh" --dist "$dist" "$work/root" /usr
  # shellcheck disable=SC2034 # of systemd.sh
  SYSTEMD_BINDS=(--bind-ro="$(readlink -f "$(command -v node)"):/usr/local/bin/node")
  write_config "$work/root/var/lib/warren" /var/lib/warren /run/warren
  mv "$work/root/var/lib/warren/warrend.yaml" "$work/root/etc/warren/"
  mkdir -p "$work/root/etc/systemd/system/warrend.service.d"
  # Shorter than the drain: warrend asks for the time that it needs.
  printf '[Service]\nTimeoutStopSec=300ms\n' >"$work/root/etc/systemd/system/warrend.service.d/stop.conf"
  systemd_boot "$name" "$name-host" "$work" || :
  tap_ok 'systemd: it boots' booted
  booted >/dev/null || return 0
  tap_is 'systemd: systemd-analyze verify finds nothing' "$(systemd_in systemd-analyze verify --man=no warrend.service 2>&1 && echo fine)" fine
  tap_ok 'systemd: the unit starts' systemd_in systemctl start warrend
  tap_ok 'systemd: and converges' busywait 10 running
  text=$(systemd_in systemctl status --no-pager warrend) || :
  tap_ok 'systemd: systemctl status tells how warrend is' says 'Status: "converged at revision' "$text"
  tap_ok 'systemd: nine listeners are kept: TCP and UDP, cluster IPs and nodePort, both families, another Service' busywait 5 kept 9
  before=$(ports)

  traffic
  stay short 700
  stay long 60000
  tap_ok 'systemd: restart with traffic' systemd_in systemctl restart warrend
  tap_ok 'systemd: restart: converged again' busywait 15 running
  traffic_end
  tap_ok 'systemd: restart: no TCP client is refused or cut' none_failed_since 0
  tap_ok 'systemd: restart: no datagram is lost' lost_at_most 0
  tap_is 'systemd: restart: a connection that ends within proxyDrain ends in order' "$(ended short)" complete
  tap_is 'systemd: restart: one that does not is reset' "$(ended long)" ECONNRESET
  tap_ok 'systemd: restart: the same listeners are kept' kept 9
  tap_is 'systemd: restart: the ports are the same' "$(ports)" "$before"
  tap_is 'systemd: restart: warrend ended by itself' "$(systemd_in journalctl -u warrend --grep 'timed out|SIGKILL' -q)" ''

  traffic
  stay long 60000
  kill_main
  now_ms now
  tap_ok 'systemd: kill -9: it is started again' busywait 15 restarted 1
  traffic_end
  tap_ok 'systemd: kill -9: no TCP client that came after it is refused or cut' none_failed_since "$now"
  # What warrend had read and not passed on, and answers to it that were on their way.
  tap_ok 'systemd: kill -9: no datagram is lost that came after it' lost_at_most 5
  tap_ok 'systemd: kill -9: established connections end' fails_with "$(ended long)" ECONNRESET EOF
  tap_ok 'systemd: kill -9: the same listeners are kept' kept 9
  tap_is 'systemd: kill -9: the ports are the same' "$(ports)" "$before"

  kill_main 'rm /var/lib/warren/cluster/other.yaml'
  tap_ok 'systemd: a Service that went meanwhile: started again' busywait 15 restarted 2
  tap_ok 'systemd: and its listener is let go of' busywait 5 kept 8

  traffic
  systemd_in systemctl stop warrend
  tap_ok 'systemd: a stopped unit keeps nothing' kept 0
  nap 0.3
  tap_ok 'systemd: stop, start' systemd_in systemctl start warrend
  tap_ok 'systemd: stop, start: converged again' busywait 15 running
  printf '# stop, 0.3 s, start: the store goes with a stopped unit, clients are refused meanwhile:\n'
  traffic_end
  tap_ok 'systemd: stop, start: the Service answers' answers
  tap_ok 'systemd: stop, start: the listeners are kept again' busywait 5 kept 8

  systemd_in sed -i 's/userspace/nftables/' /var/lib/warren/cluster/cluster.yaml
  tap_ok 'systemd: another proxy mode lets go of all of them' busywait 10 kept 0
  tap_ok 'systemd: and the Service answers' answers
  tap_ok 'systemd: no other kind of complaint' no_warnings
  gobgpd_unit
  systemd_down
}

# warren-gobgpd.service: it lives beside warrend, and neither takes the other along.
gobgpd_pid() { systemd_in systemctl show -P MainPID warren-gobgpd; }
warren_in() { systemd_in /usr/lib/warren/dist/warren --socket /run/warren/warrend.sock "$@"; }
has_speaker() { [[ $(warren_in show observed bgp-speaker) == *' as 64512 router-id 192.0.2.11 '* ]]; }
another_pid() { [[ $(gobgpd_pid) != "$1" && $(gobgpd_pid) != 0 ]]; }
not_listening() { [[ -z $(in_place host ss -Hltn "( sport = :$1 )") ]]; }
tells_gobgpd() { says 'systemctl start warren-gobgpd' "$(warren_in status)"; }
only_179() { not_listening 50051 && not_listening 6060; }
gobgpd_unit() {
  local pid score
  tap_is 'gobgpd: systemd-analyze verify finds nothing' "$(systemd_in systemd-analyze verify --man=no warren-gobgpd.service 2>&1 && echo fine)" fine
  score=$(systemd_in systemd-analyze security --no-pager warren-gobgpd.service | tail -n 1) || :
  printf '# %s\n' "$score"
  tap_ok 'gobgpd: its exposure is at most 2.5' systemd_in systemd-analyze security --no-pager --threshold=25 warren-gobgpd.service
  systemd_in sed -i 's/spec: {/spec: { backend: { type: bgp },/' /var/lib/warren/cluster/cluster.yaml
  tap_ok 'gobgpd: not there, and warrend says what to do' busywait 10 tells_gobgpd
  tap_ok 'gobgpd: the unit starts' systemd_in systemctl start warren-gobgpd
  tap_ok 'gobgpd: warrend gives it its AS and router id' busywait 10 has_speaker
  tap_ok 'gobgpd: warrend converges' busywait 10 running
  pid=$(gobgpd_pid)
  tap_ok 'gobgpd: it listens for BGP' fails not_listening 179
  tap_ok 'gobgpd: and on no other port of its own' only_179
  systemd_in systemctl restart warrend
  tap_ok 'gobgpd: warrend restarts' busywait 10 running
  tap_is 'gobgpd: it went on meanwhile' "$(gobgpd_pid)" "$pid"
  systemd_in systemctl stop warrend
  tap_is 'gobgpd: warrend stops, and it goes on' "$(gobgpd_pid)" "$pid"
  tap_ok 'gobgpd: its socket is there still' systemd_in test -S /run/warren-gobgpd/gobgpd.sock
  systemd_in systemctl start warrend
  tap_ok 'gobgpd: warrend is back' busywait 10 running
  systemd_in kill -KILL "$pid"
  tap_ok 'gobgpd: killed, it is started again' busywait 10 another_pid "$pid"
  tap_ok 'gobgpd: and has its AS and router id again' busywait 10 has_speaker
}
fails() { ! "$@"; }
fails_with() {
  local got=$1 code
  shift
  for code; do [[ $got != "$code" ]] || return 0; done
  printf '%s\n' "$got"
  return 1
}
no_warnings() {
  local text
  text=$(systemd_in journalctl -q -o cat -p warning -u warrend | grep -v -e "Failed with result 'signal'" -e status=9/KILL -e 'store not in sync') || return 0
  printf '%s\n' "$text"
  return 1
}

# --- without systemd ---------------------------------------------------------------------------------------------------

plain_start() { run_in host warrend env -u NOTIFY_SOCKET "$dist/warrend" --config "$work/plain/warrend.yaml"; }
plain_converged() { WARREN_SOCKET=$work/plain/warrend.sock in_place host "$dist/warren" wait --converged --timeout 10s; }

without_systemd() {
  write_config "$work/plain" "$work/plain" "$work/plain"
  plain_start
  tap_ok 'plain: warrend converges' busywait 15 plain_converged
  tap_ok 'plain: the Service answers' busywait 5 answers
  local before
  before=$(ports)
  traffic
  proc_kill "$work/warrend.pid" KILL
  nap 0.2 # as RestartSec=
  plain_start
  busywait 15 plain_converged >/dev/null || :
  printf '# without systemd, kill -9 and a start 0.2 s after it:\n'
  traffic_end
  tap_ok 'plain: kill -9: the Service answers again' answers
  tap_is 'plain: kill -9: the ports are the same' "$(ports)" "$before"
}

make_places
for b in b1 b2; do
  run_in "$b" "tcp-$b" node "$WARREN_ROOT/test/support/tcp-echo.mjs" server 8080 "$b"
  run_in "$b" "udp-$b" node "$WARREN_ROOT/test/support/udp-echo.mjs" server 8080
done
for b in b1 b2; do ready "tcp-$b" && ready "udp-$b"; done

if why=$(systemd_missing); then
  tap_skip 'systemd: warrend.service' "$why"
else
  under_systemd
fi
without_systemd
tap_done
