# shellcheck shell=bash
# Clients of a Service that go on asking, and what became of them; sourced after scripts/lib.sh.
#
#   clients_use NAME DIR               the namespaces are called NAME-PLACE, the files go to DIR
#   in_place PLACE CMD...
#   run_in PLACE FILE CMD...           in the background; output in DIR/FILE, pid in DIR/FILE.pid
#   traffic / traffic_end              TCP and UDP to the entry points, all the time; a line of each at its end
#   none_failed_since MS               no TCP connection failed that began after MS (since 1970)
#   lost_at_most COUNT                 datagrams of each flow
#   stay FILE MS / ended FILE          one connection for MS, and how it ended

CLIENTS_NAME='' CLIENTS_DIR='' CLIENTS_ECHO=$WARREN_ROOT/test/support

clients_use() { CLIENTS_NAME=$1 CLIENTS_DIR=$2; }

in_place() {
  local place=$1
  shift
  nsenter --net="/run/netns/$CLIENTS_NAME-$place" "$@"
}

# Not by in_place: the pid is to be the program's, not that of a shell around a function.
run_in() {
  local place=$1 what=$2
  shift 2
  nsenter --net="/run/netns/$CLIENTS_NAME-$place" setsid "$@" >"$CLIENTS_DIR/$what" 2>&1 </dev/null &
  disown $!
  proc_save "$CLIENTS_DIR/$what.pid" $!
}
ready() { busywait 10 grep -qx ready "$CLIENTS_DIR/$1"; }
tcp_client() { run_in client "$1" node "$CLIENTS_ECHO/tcp-echo.mjs" clients "$2" "$3" 2; }
stay() {
  run_in client "$1" node "$CLIENTS_ECHO/tcp-echo.mjs" stay 10.0.0.1 1234 "$2"
  ready "$1"
}

# traffic: TCP clients at each kind of entry, and a UDP flow; all have begun when it returns.
traffic() {
  tcp_client vip4 10.0.0.1 1234
  tcp_client vip6 fd00:10::1 1234
  tcp_client nodeport 192.0.2.11 31234
  run_in client udp4 node "$CLIENTS_ECHO/udp-echo.mjs" client 10.0.0.1 1234 50
  run_in client udp6 node "$CLIENTS_ECHO/udp-echo.mjs" client fd00:10::1 1234 50
  ready vip4 && ready vip6 && ready nodeport
  nap 0.5
}

# traffic_end: a line each of what became of it, at least 0.5 s after all answers again.
traffic_end() {
  local what
  busywait 15 answers >/dev/null || :
  nap 0.5
  for what in vip4 vip6 nodeport udp4 udp6; do proc_kill "$CLIENTS_DIR/$what.pid" TERM 25 & done
  wait
  for what in vip4 vip6 nodeport; do
    printf '# %-9s %s\n' "$what" "$(tail -n 1 "$CLIENTS_DIR/$what" |
      jq -r '"\(.answered) of \(.tried) answered, slowest after \(.slowestMs) ms, failed: \(.failed | tojson)"')"
  done
  for what in udp4 udp6; do
    printf '# %-9s %s\n' "$what" "$(tail -n 1 "$CLIENTS_DIR/$what" | jq -r '"lost \(.lost) of \(.sent), longest gap \(.longestGapMs) ms"')"
  done
}
answers() { in_place client timeout 5 bash -c 'exec 3<>/dev/tcp/10.0.0.1/1234 && echo >&3 && read -r -t 4 <&3' 2>/dev/null; }

# Clients that were not answered at all are a failure too.
none_failed_since() {
  local what
  for what in vip4 vip6 nodeport; do
    tail -n 1 "$CLIENTS_DIR/$what" | jq -e -s ".[0] | .answered > 20 and .lastFailed <= $1" || {
      cat "$CLIENTS_DIR/$what"
      return 1
    }
  done
}
lost_at_most() {
  local what
  for what in udp4 udp6; do
    tail -n 1 "$CLIENTS_DIR/$what" | jq -e -s ".[0] | .received > 20 and .lost <= $1" || {
      cat "$CLIENTS_DIR/$what"
      return 1
    }
  done
}
ended() {
  proc_kill "$CLIENTS_DIR/$1.pid" TERM 5
  tail -n 1 "$CLIENTS_DIR/$1" | jq -r .end
}
