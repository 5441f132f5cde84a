# shellcheck shell=bash
# Tenants of a lab on two hosts as the tests of it see them: containers, ports, listeners. Sourced behind scripts/lib.sh,
# scripts/lab-net.sh, scripts/lab-tenants.sh and test/support/traffic.sh.

# c TENANT PORT HOST-NUMBER CMD...: in the port's container
c() { nsenter --net="/run/netns/$(tenant_ns "$1" "$2" "$3")" "${@:4}"; }
fabric() { printf '%s-fabric' "$(ns "$1")"; }
# red's
port_json() { on "$1" describe port "red/$2" -o json; }
status_of_port() { port_json "$1" "$2" | jq -r '.port.status | "\(.state) \(.code // "")"' | sed 's/ $//'; }
port_is() { [[ $(status_of_port "$1" "$2") == "$3" ]] || { status_of_port "$1" "$2" && return 1; }; }
identity() { port_json h1 "$1" | jq -c '[.port.mac, .port.addresses]'; }
router_of() { printf '%s' "$(ip netns list | cut -d ' ' -f 1 | grep "^$(ns "$1")-r-" | while read -r each; do
  ! ip -n "$each" -br link show "n$2" >/dev/null 2>&1 || printf '%s' "$each"
done)"; }

# reaches TENANT PORT HOST-NUMBER ADDRESS
reaches() { c "$1" "$2" "$3" ping -n -q -c 1 -W 0.2 "$4" >/dev/null 2>&1; }
misses() { ! reaches "$@"; }
# within MS CMD...: succeeds in that time, and says how long it took
within() {
  local from now most=$1
  shift
  now_ms from
  busywait $((most / 1000 + 3)) "$@" >/dev/null || { printf 'not at all: %s\n' "$*" && return 1; }
  now_ms now
  ((now - from <= most)) || { printf 'after %d ms: %s\n' "$((now - from))" "$*" && return 1; }
}
last_event() { on "$1" events -o json 2>/dev/null | jq -s -r '.[-1].id // 0' | head -n 1; }
# hand_since HOST ID TABLE WORD: an event of that table names the hand
hand_since() {
  on "$1" events -o json | jq -s -e --argjson id "$2" --arg table "$3" --arg word "$4" \
    'flatten | any(.id > $id and .table == $table and ((.hand // "") | contains($word)))' >/dev/null ||
    { on "$1" events | tail -n 5 && return 1; }
}
plan_is_empty() { on "$1" plan; }

# run_in TENANT PORT HOST-NUMBER FILE CMD...: in the background
run_in() {
  nsenter --net="/run/netns/$(tenant_ns "$1" "$2" "$3")" setsid "${@:5}" >"$TRAFFIC_DIR/$4" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/$4.pid" $!
}
server() {
  run_in "$1" "$2" "$3" "server-$1-$2" node "$WARREN_ROOT/test/support/tcp-echo.mjs" server 8080 "$1-$2"
  busywait 5 grep -qx ready "$TRAFFIC_DIR/server-$1-$2"
}
# ask TENANT PORT HOST-NUMBER ADDRESS: prints who answered
# shellcheck disable=SC2016 # of that shell
ask() { c "$1" "$2" "$3" timeout 0.7 bash -c 'exec 3<>"/dev/tcp/$0/8080" && echo >&3 && read -r -t 0.5 line <&3 && echo "$line"' "$4" 2>/dev/null; }
asks() { [[ $(ask "${@:2}") == "$1" ]]; }
refused() { ! ask "$@"; }
