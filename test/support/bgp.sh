# shellcheck shell=bash
# What test/e2e/bgp.sh asks of a lab with backend bgp; sourced after test/support/traffic.sh and scripts/lab-bgp.sh.
#
#   BGP_HOSTS                          the hosts that speak; of all of them the functions below expect sessions
#   everywhere CMD...                  runs CMD HOST for each of these at the same time; fails when one does
#   patiently SECONDS CMD...           as busywait, with pauses that leave the machine to others
#   timed NAME SECONDS CMD...          a test that CMD succeeds in time; the seconds are printed
#   timed_since MS NAME SECONDS CMD... the same, counted from MS
#   bgp_view HOST / bgp_routes HOST    JSON of `warren bgp` and `warren bgp routes`, without starting a process of ours
#   host_is KIND REFLECTORS HOST       this topology, with just the sessions that it needs, all up, in sync and wanted
#   all_known HOST                     the block of every other host: accepted of BGP and in the kernel, proto 87
#   by_lease HOST OWNER                its block is gone by for the lease, and in the kernel
#   back_since MS HOST PEER...         its sessions with these (none: all) began after MS and are in sync; all is settled
#   unbroken_since MS HOST             all of them began before MS
#   watch_routes HOST... / watch_end   each deletion of a route of proto 87 on them meanwhile is printed
#   apply_bgp SPEC / apply_backend TYPE   `warren apply` of the Cluster with another bgp: {...} or backend
#   gobgp_on HOST ARGS...              the gobgp CLI on a host
#   from_itself CLIENT REFLECTOR...    the best path to its block is the client's own, not what another reflector tells
#   told_once CLIENT REFLECTOR...      40 paths of a client, then its reflectors fall silent
#   bgp_labs NAME... / up NAME OPTIONS...   labs that end with the script; one that comes up
#   impatient HOST / starts HOST / gobgpd_ends HOST

BGP_HOSTS=()

everywhere() {
  local host job jobs=() status=0
  for host in "${BGP_HOSTS[@]}"; do
    "$@" "$host" &
    jobs+=($!)
  done
  for job in "${jobs[@]}"; do wait "$job" || status=1; done
  return "$status"
}

patiently() {
  local lib_now lib_until lib_out
  now_ms lib_now
  lib_until=$((lib_now + $1 * 1000))
  shift
  until lib_out=$("$@" 2>&1); do
    now_ms lib_now
    ((lib_now < lib_until)) || {
      printf '%s\n' "$lib_out"
      return 1
    }
    nap 0.2
  done
  [[ -z $lib_out ]] || printf '%s\n' "$lib_out"
}

timed() {
  local began
  now_ms began
  timed_since "$began" "$@"
}
timed_since() {
  local began=$1 name=$2 ended
  tap_ok "$name" patiently "$3" "${@:4}"
  now_ms ended
  printf '# %s: %d.%d s\n' "$name" $(((ended - began) / 1000)) $(((ended - began) % 1000 / 100))
}

api_get() { in_ns "$1" curl -s --max-time 10 --unix-socket "$LAB_DIR/$1/warrend.sock" "http://warren$2" || :; }
bgp_view() { api_get "$1" /v1/bgp; }
bgp_routes() { api_get "$1" /v1/bgp/routes; }
gobgp_on() {
  local host=$1
  shift
  in_ns "$host" gobgp --target "unix://$LAB_DIR/$host/gobgpd.sock" "$@"
}

from_itself() {
  local block host best
  block=$(blocks_of "$1")
  for host in "${@:2}"; do
    best=$(gobgp_on "$host" global rib "$block" --json | jq --raw-output '.[][] | select(.best == true) | ."neighbor-ip"')
    [[ $best == "192.0.2.1${1#h}" ]] || {
      printf '%s: %s from %s\n' "$host" "$block" "$best"
      return 1
    }
  done
}
# Each of two reflectors that took a client's path from the other took back its own word, and both began anew: 3,000 UPDATEs a second.
told_once() {
  local client=$1 i status=0
  shift
  for ((i = 101; i <= 140; i++)); do gobgp_on "$client" global rib add "10.244.$i.0/24" >/dev/null || return; done
  patiently 20 silent "$@" || status=1
  for ((i = 101; i <= 140; i++)); do gobgp_on "$client" global rib del "10.244.$i.0/24" >/dev/null || return; done
  return "$status"
}
silent() {
  local before after
  before=$(updates_of "$@")
  nap 1
  after=$(updates_of "$@")
  printf 'UPDATEs sent in a second: %d\n' $((after - before))
  ((before > 0 && after == before))
}
updates_of() {
  local host
  for host; do gobgp_on "$host" neighbor --json; done | jq --slurp '[.[][].state.messages.sent.update // 0 | tonumber] | add'
}

# view_has HOST JQ [ARGS...]: the filter is true of its view; else the view is printed.
view_has() {
  local host=$1 filter=$2 view
  shift 2
  view=$(bgp_view "$host")
  jq -e -s "$@" "(.[0] // {}) | $filter" <<<"$view" >/dev/null || {
    jq -c '{settled, topology, reflectors, error, sessions: [.sessions[]? | [.peer, .role, .state, .synced, .since, .why]]}' <<<"$view" |
      sed "s/^/$host: /"
    return 1
  }
}

host_is() {
  # shellcheck disable=SC2016 # variables of jq
  view_has "$3" '.settled and .topology == $kind and (.reflectors | length) == $count
    and (.sessions | length) == (if $kind == "mesh" or (.reflectors | index($self)) then $nodes - 1 else $count end)
    and all(.sessions[]; .state == "established" and .synced and .role != "retained")' \
    --arg kind "$1" --argjson count "$2" --arg self "$3" --argjson nodes "${#BGP_HOSTS[@]}"
}
all_are() { everywhere host_is "$1" "$2"; }

# blocks_of HOST: of its lease, a line each.
blocks_of() { status_of "$1" | jq -r '.lease | .ipv4, .ipv6 | select(. != null)'; }
kernel_has() {
  local family=-4
  [[ $2 != *:* ]] || family=-6
  ip "$family" -n "$(ns "$1")" route show "$2" proto 87 | grep -q . || { printf '%s: no route to %s\n' "$1" "$2" && return 1; }
}

# How many blocks of how many others: one of a family each.
all_known() {
  local host=$1 families=1 block known
  # shellcheck disable=SC2153 # of lab-net.sh
  [[ $FAMILY != dual ]] || families=2
  mapfile -t known < <(bgp_routes "$host" |
    jq -r --arg self "$host" '.[] | select(.status == "accepted" and .owner != $self and .kernel != null) | .prefix' | sort -u)
  ((${#known[@]} == families * (${#BGP_HOSTS[@]} - 1))) || {
    printf '%s knows %s\n' "$host" "${known[*]}"
    bgp_routes "$host" | jq -c '.[]'
    return 1
  }
  for block in "${known[@]}"; do kernel_has "$host" "$block" || return; done
}
all_known_everywhere() { everywhere all_known; }

by_lease() {
  local found
  # (A neighbor of before may be remembered for a while: rejected.)
  # shellcheck disable=SC2016
  found=$(bgp_routes "$1" | jq -r --arg owner "$2" '.[] | select(.owner == $owner and .status != "rejected") | "\(.status) \(.prefix) \(.kernel)"')
  [[ $found == 'lease '*' via '* && $found != *accepted* ]] || { printf '%s of %s: %s\n' "$1" "$2" "$found" && return 1; }
  kernel_has "$1" "$(cut -d ' ' -f 2 <<<"$found")"
}

back_since() {
  local ms=$1 host=$2 peers
  shift 2
  peers=$(printf '%s\n' "$@" | jq -R 'select(. != "") | "node/\(.)"' | jq -s .)
  # gobgpd tells whole seconds.
  # shellcheck disable=SC2016
  view_has "$host" '.settled and (.sessions | length) > 0
    and all(.sessions[] | select($peers == [] or (.peer as $peer | $peers | index($peer)));
      .state == "established" and .synced and (.since | sub("[.][0-9]+Z$"; "Z") | fromdateiso8601) >= $since)' \
    --argjson peers "$peers" --argjson since $((ms / 1000))
}
unbroken_since() {
  # shellcheck disable=SC2016
  view_has "$2" '.settled and (.sessions | length) > 0
    and all(.sessions[]; .state == "established" and (.since | sub("[.][0-9]+Z$"; "Z") | fromdateiso8601) <= $since)' \
    --argjson since $(($1 / 1000))
}

# table_says HOST TABLE WORDS...: that table is degraded, and its error has each of these words.
table_says() {
  local host=$1 text word
  # shellcheck disable=SC2016
  text=$(status_of "$host" | jq -r --arg table "$2" '.tables[] | select(.name == $table) | "\(.state): \(.error)"')
  shift 2
  for word in degraded "$@"; do
    [[ $text == *"$word"* ]] || {
      printf 'no "%s" in: %s\n' "$word" "$text"
      return 1
    }
  done
}

# --- deletions of routes -------------------------------------------------------------------------------------------------

WATCHED=()

heard() { grep -q "198.18.0.$2" "$TRAFFIC_DIR/watch.$1"; }

watch_routes() {
  local host
  WATCHED=("$@")
  for host; do
    : >"$TRAFFIC_DIR/watch.$host"
    nsenter --net="/run/netns/$(ns "$host")" ip -ts monitor route >"$TRAFFIC_DIR/watch.$host" 2>&1 </dev/null &
    disown $!
    proc_save "$TRAFFIC_DIR/watch.$host.pid" $!
    until heard "$host" 1; do
      ip -n "$(ns "$host")" route replace 198.18.0.1/32 dev lo proto 99
      ip -n "$(ns "$host")" route del 198.18.0.1/32 dev lo proto 99
      nap 0.1
    done
  done
}

watch_end() {
  local host status=0
  for host in "${WATCHED[@]}"; do
    ip -n "$(ns "$host")" route replace 198.18.0.2/32 dev lo proto 99
    ip -n "$(ns "$host")" route del 198.18.0.2/32 dev lo proto 99
    busywait 10 heard "$host" 2 || status=1
    proc_kill "$TRAFFIC_DIR/watch.$host.pid" TERM
    ! grep 'Deleted.*proto 87' "$TRAFFIC_DIR/watch.$host" | sed "s/^/$host: /" | grep . || status=1
  done
  return "$status"
}
# undeleted NAME
undeleted() { tap_ok "$1: no route was removed anywhere meanwhile (${WATCHED[*]})" watch_end; }

# --- the model -------------------------------------------------------------------------------------------------------------

BGP_BASE='asn: 64512, password: lab, holdTime: 9' APPLY_AT=h1

cluster_change() {
  sed -E "$1" "$LAB_DIR/cluster.yaml" >"$TRAFFIC_DIR/cluster.yaml"
  cp "$TRAFFIC_DIR/cluster.yaml" "$LAB_DIR/cluster.yaml"
  if [[ $STORE == etcd ]]; then
    on "$APPLY_AT" apply -f "$LAB_DIR/cluster.yaml"
  else
    cp "$LAB_DIR/cluster.yaml" "$LAB_DIR/cluster/.cluster.yaml.new"
    mv "$LAB_DIR/cluster/.cluster.yaml.new" "$LAB_DIR/cluster/cluster.yaml"
  fi
}
apply_bgp() { cluster_change "s/^  bgp: .*/  bgp: { $BGP_BASE, $1 }/"; }
apply_backend() { cluster_change "s/^  backend: .*/  backend: { type: $1 }/"; }

# --- make before break --------------------------------------------------------------------------------------------------------

# sample HOST: its view five times a second, a line each, until sample_end.
sample() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  nsenter --net="/run/netns/$(ns "$1")" bash -c 'while true; do
      curl -s --max-time 5 --unix-socket "$1" http://warren/v1/bgp && echo
      sleep 0.2
    done' sample "$LAB_DIR/$1/warrend.sock" >"$TRAFFIC_DIR/samples" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/sample.pid" $!
}
sample_end() { proc_kill "$TRAFFIC_DIR/sample.pid" TERM; }

# make_before_break ADDRESS: in the samples its session was seen retained and up while not all was settled; it was not gone
# before one of the new ones was in sync (the other end drops it when its own are), and gone at the end.
make_before_break() {
  # shellcheck disable=SC2016
  jq -s -e --arg peer "$1" '
    def of: [.sessions[] | select(.address == $peer)][0];
    any(.[]; (of.role == "retained") and of.state == "established" and (.settled | not))
    and all(.[]; of.state == "established" or any(.sessions[]; .address != $peer and .synced))
    and (.[-1] | .settled and of == null)' "$TRAFFIC_DIR/samples" >/dev/null || {
    jq -c '{settled, sessions: [.sessions[] | [.peer, .role, .state, .synced]]}' "$TRAFFIC_DIR/samples" | uniq
    return 1
  }
}

# --- labs ----------------------------------------------------------------------------------------------------------------------

# bgp_labs NAME...: these labs, and all processes, end with the script.
bgp_labs() {
  BGP_LABS=("$@")
  on_exit bgp_end
}
bgp_end() {
  local file name
  streams_kill
  for file in "$TRAFFIC_DIR"/*.pid; do [[ ! -e $file ]] || proc_kill "$file" KILL; done
  for name in "${BGP_LABS[@]}"; do
    LAB_NAME=$name
    lab_run down 2>/dev/null || :
  done
  rm -rf "$TRAFFIC_DIR"
}

# up NAME OPTIONS...
up() {
  tap_ok "$1: the lab comes up" lab_run up --pods 1 --backend bgp "${@:2}"
  lab_use "$LAB_NAME"
  [[ -r $LAB_DIR/lab.env ]] || exit 1 # without a plan: the suite ended early
  mapfile -t BGP_HOSTS < <(lab_hosts)
}

# A dead agent is known as such after 3 s, not 15; what events do not tell of is looked at every 10 s, not 60.
impatient() { printf 'liveTtl: 3\nresyncInterval: 10\n' >>"$LAB_DIR/$1/warrend.yaml" && lab_run stop "$1" && starts "$1"; }
# lab.sh waits 10 s for a converged host, which is little on a busy machine.
starts() { patiently 60 lab_run start "$1"; }

# gobgpd_ends HOST: for good: the shell that would start it again goes first. SIGKILL: it says no goodbye.
gobgpd_ends() {
  proc_kill "$LAB_DIR/$1/gobgpd.pid" KILL
  kill_gobgpd "$1"
  rm -f "$LAB_DIR/$1/gobgpd.sock"
}
