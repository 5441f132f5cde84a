# shellcheck shell=bash
# What the tests of test/e2e share: one lab, and streams through it that must not lose a packet; sourced after
# scripts/lib.sh and scripts/lab-net.sh. Files and processes live below $TRAFFIC_DIR.
#
#   lab_use NAME                          the lab that all of the below acts on
#   lab_alone NAME                        the same for a lab that ends with this script, as do processes of $TRAFFIC_DIR/*.pid
#   lab_run COMMAND ... / on HOST ARGS...                lab.sh; warren on a host
#   each_host CMD...                      runs CMD HOST for every host at the same time; fails when one does
#   converged HOST / all_converged        within 20 s
#   written HOST / problems HOST          sum of tables[].written; "CODE message hint" of each problem
#   stream_echo FAMILY FROM TO            1 kHz UDP echo from pod to pod
#   stream_ping FAMILY FROM TO            100 Hz ping
#   stream_tcp FAMILY FROM TO             one iperf3 stream of 4 Mbit/s
#   streams_stop                          ends all; one line each: "KIND FAMILY FROM->TO lost N of M"
#   streams_lossless                      the same, and fails unless all streams lost nothing and the TCP ended well
#
# A datagram that reached its pod, but found the buffer of a process full that did not get to run, is not a loss of the
# network, nor is one that a core had no time for: the kernel counts these (RcvbufErrors, softnet_stat), they are printed,
# and as many losses are put down to them.

TRAFFIC_DIR=$(mktemp -d)
STREAMS=() BACKLOG=0
LAB_SH=$WARREN_ROOT/scripts/lab.sh

lab_use() {
  LAB_NAME=$1
  # shellcheck disable=SC2153 # of lab-net.sh
  LAB_DIR=$LAB_BASE/$1
  # shellcheck disable=SC1091
  [[ ! -r $LAB_DIR/lab.env ]] || . "$LAB_DIR/lab.env"
}

lab_end() {
  local file
  for file in "$TRAFFIC_DIR"/*.pid; do [[ ! -e $file ]] || proc_kill "$file" KILL; done
  lab_run down 2>/dev/null || :
  rm -rf "$TRAFFIC_DIR"
}

lab_alone() {
  on_exit lab_end
  lab_use "$1"
}

lab_run() {
  local command=$1
  shift
  "$LAB_SH" "$command" --name "$LAB_NAME" "$@"
}

on() {
  local host=$1
  shift
  WARREN_SOCKET=$(host_dir "$host")/warrend.sock WARREN_CONFIG=$(host_dir "$host")/warrend.yaml \
    in_ns "$host" "$WARREN_DIST/warren" "$@"
}

fails() { ! "$@"; }

each_host() {
  local host job jobs=() status=0
  for host in $(lab_hosts); do
    "$@" "$host" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || status=1; done
  return "$status"
}

converged() { on "$1" wait --converged --timeout 20s >/dev/null; }
all_converged() { each_host converged; }
status_of() { on "$1" status -o json 2>/dev/null || :; }
written() { status_of "$1" | jq '[.tables[].written] | add'; }
problems() { status_of "$1" | jq -r '.problems[] | "\(.code) \(.about): \(.message) (\(.hint // "no hint"))"'; }
# says HOST WORDS...: its problems have each of these words in them; for busywait.
says() {
  local host=$1 text word
  shift
  text=$(problems "$host")
  for word; do
    [[ $text == *"$word"* ]] || {
      printf 'no "%s" in:\n%s\n' "$word" "$text"
      return 1
    }
  done
}

# pod_address FAMILY POD
pod_address() {
  if [[ $1 == ipv4 ]]; then lab_pods | awk -v pod="$2" '$1 == pod { print $2 }'; else lab_pods | awk -v pod="$2" '$1 == pod { print $3 }'; fi
}

# --- streams -----------------------------------------------------------------------------------------------------------

# UDP datagrams that the sockets of a namespace had no room for, both families.
# shellcheck disable=SC2016
overruns() {
  in_ns "$1" awk '/^Udp: [0-9]/ { n += $6 } /^Udp6RcvbufErrors/ { n += $2 } END { print n + 0 }' /proc/net/snmp /proc/net/snmp6
}

# The processes are started without a function around them: $! is their own pid then.
# Packets that the kernel threw away because a core had no time for its queue: all of the machine, since its start.
backlog_drops() {
  local line n=0
  while read -r _ line _; do n=$((n + 16#$line)); done </proc/net/softnet_stat
  printf '%d\n' "$n"
}

# stream_add KIND FAMILY FROM TO PID: a running client; its output is in $TRAFFIC_DIR/stream.N
stream_add() {
  ((${#STREAMS[@]} > 0)) || BACKLOG=$(backlog_drops)
  STREAMS+=("$*")
}

server_ready() { [[ -s $1 ]]; } # it prints a line once it listens

stream_echo() {
  local file=$TRAFFIC_DIR/stream.${#STREAMS[@]} to
  to=$(pod_address "$1" "$3")
  if ! proc_alive "$TRAFFIC_DIR/server.echo.${3//\//-}" >/dev/null; then
    rm -f "$file.server"
    nsenter --net="/run/netns/$(ns "$3")" nice -n -10 node "$WARREN_ROOT/test/support/udp-echo.mjs" server 4000 >"$file.server" 2>&1 </dev/null &
    disown $!
    proc_save "$TRAFFIC_DIR/server.echo.${3//\//-}" $!
    busywait 10 server_ready "$file.server"
  fi
  nsenter --net="/run/netns/$(ns "$2")" nice -n -10 node "$WARREN_ROOT/test/support/udp-echo.mjs" client "$to" 4000 >"$file" 2>&1 </dev/null &
  disown $!
  stream_add echo "$1" "$2" "$3" $! $(($(overruns "$2") + $(overruns "$3")))
}

stream_ping() {
  local file=$TRAFFIC_DIR/stream.${#STREAMS[@]} to
  to=$(pod_address "$1" "$3")
  LC_ALL=C nsenter --net="/run/netns/$(ns "$2")" nice -n -10 ping -n -i 0.01 "$to" >"$file" 2>&1 </dev/null &
  disown $!
  stream_add ping "$1" "$2" "$3" $! 0
}

tcp_listens() { [[ -n $(in_ns "$1" ss -H -ltn 'sport = :5201') ]]; }

stream_tcp() {
  local file=$TRAFFIC_DIR/stream.${#STREAMS[@]} to
  to=$(pod_address "$1" "$3")
  nsenter --net="/run/netns/$(ns "$3")" iperf3 -s -1 >"$file.server" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/server.iperf.${3//\//-}" $!
  busywait 10 tcp_listens "$3"
  nsenter --net="/run/netns/$(ns "$2")" iperf3 -c "$to" -t 600 -b 4M -J >"$file" 2>&1 </dev/null &
  disown $!
  stream_add tcp "$1" "$2" "$3" $! 0
}

# ping_lost FILE: "LOST SENT". Not the last one: SIGINT may have come before its answer.
ping_lost() {
  awk '
    match($0, /icmp_seq=[0-9]+ ttl/) { seq = substr($0, RSTART + 9, RLENGTH - 13); if (!(seq in got)) { got[seq] = 1; n++ } }
    / packets transmitted/ { sent = $1 }
    END { lost = sent - n; if (sent > 0 && !(sent in got)) { lost--; sent-- }; print lost + 0, sent + 0 }' "$1"
}

# excused LOST N: LOST less N
excused() {
  if [[ $1 =~ ^[0-9]+$ ]]; then printf '%d' $(($1 > $2 ? $1 - $2 : 0)); else printf '%s' "$1"; fi
}

# Ends the clients, then the servers. A TCP stream that was interrupted by us, and sent to its last second, ended well.
streams_stop() {
  local i kind family from to pid before file lost sent over drops
  for i in "${!STREAMS[@]}"; do
    read -r kind family from to pid before <<<"${STREAMS[i]}"
    kill -s INT "$pid" 2>/dev/null || :
  done
  for i in "${!STREAMS[@]}"; do
    read -r kind family from to pid before <<<"${STREAMS[i]}"
    file=$TRAFFIC_DIR/stream.$i
    busywait 10 fails proc_start "$pid" >/dev/null || kill -s KILL "$pid" 2>/dev/null || :
    drops=$(($(backlog_drops) - BACKLOG))
    case $kind in
      echo)
        lost=$(jq -r '.lost' "$file" 2>/dev/null) sent=$(jq -r '.sent' "$file" 2>/dev/null)
        over=$(($(overruns "$from") + $(overruns "$to") - before))
        [[ -n $lost ]] || lost='unknown: '$(head -c 200 "$file")
        printf 'echo %s %s->%s lost %s of %s (%d overruns, %d backlog drops, longest gap %s)\n' "$family" "$from" "$to" \
          "$(excused "$lost" $((over + drops)))" "$sent" "$over" "$drops" \
          "$(jq -r '"\(.longestGapMs) ms, holes \(.holes | tojson) since \(.startedAt)"' "$file" 2>/dev/null)"
        ;;
      ping)
        read -r lost sent < <(ping_lost "$file")
        printf 'ping %s %s->%s lost %s of %s (%d backlog drops)\n' "$family" "$from" "$to" "$(excused "$lost" "$drops")" "$sent" "$drops"
        ;;
      tcp)
        jq -r --arg name "tcp $family $from->$to" '
          if (.error // "") | test("^(|interrupt.*)$") | not then "\($name) lost unknown: \(.error)"
          elif (.intervals | length) == 0 or ([.intervals[-3:][].sum.bytes] | add) == 0 then "\($name) lost unknown: it stood still"
          else "\($name) lost 0 of \(.end.sum_sent.bytes) bytes (\(.end.sum_sent.retransmits) retransmits)" end' "$file" 2>/dev/null ||
          printf 'tcp %s %s->%s lost unknown: %s\n' "$family" "$from" "$to" "$(head -c 200 "$file")"
        ;;
    esac
  done
  for file in "$TRAFFIC_DIR"/server.*; do [[ ! -e $file ]] || proc_kill "$file" TERM 3; done
  STREAMS=()
}

# streams_lossless FILE: judges what streams_stop printed. A stream that sent nothing proves nothing.
streams_lossless() {
  cat "$1"
  [[ -s $1 ]] && ! grep -qv ' lost 0 of [1-9]' "$1"
}

# streams_end NAME: stops them and is a test of its own.
streams_end() {
  streams_stop >"$TRAFFIC_DIR/streams"
  tap_ok "$1: nothing lost" streams_lossless "$TRAFFIC_DIR/streams"
  sed 's/^/# /' "$TRAFFIC_DIR/streams"
}

streams_kill() {
  local line file
  for line in "${STREAMS[@]}"; do
    read -r _ _ _ _ file _ <<<"$line"
    kill -s KILL "$file" 2>/dev/null || :
  done
  for file in "$TRAFFIC_DIR"/server.*; do [[ ! -e $file ]] || proc_kill "$file" KILL 3; done
}
