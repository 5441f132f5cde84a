# shellcheck shell=bash
# Functions that every script here shares; sourced, never run. The kernel's tools/testing/selftests/net/lib.sh is the model.
#
#   log TEXT / progress TEXT / warn TEXT / die TEXT [HINT]     one line each; colours on a terminal only (NO_COLOR is kept)
#   need_root                                                  exit 77 ("cannot run here") unless root
#   busywait SECONDS CMD...                                    repeats CMD until it succeeds; prints its last output
#   on_exit CMD...                                             runs CMD when the script ends, however it ends, last first
#   tap_ok NAME CMD... / tap_is NAME GOT WANT / tap_skip NAME REASON / tap_done
#   proc_start PID / proc_save FILE PID / proc_alive FILE / proc_kill FILE [SIGNAL]
#
# A process is recorded as "PID STARTTIME" (field 22 of /proc/PID/stat): a recycled pid is never taken for ours.

WARREN_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export WARREN_ROOT
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # a root shell got by `su` lacks them

# Exit status of a script that cannot run here at all (not root); 1 is a failure, 2 a wrong command line.
readonly EXIT_CANNOT_RUN=77

if [[ -t 2 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]]; then
  LIB_TTY=1 BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
else
  LIB_TTY='' BOLD='' DIM='' RED='' GREEN='' YELLOW='' PLAIN=''
fi
# Colours for the scripts that print tables; lib.sh itself uses few of them.
export BOLD DIM RED GREEN YELLOW PLAIN

# --- lines for people: all to stderr, so that stdout is data -----------------------------------------------------

lib_clear() { [[ -z $LIB_TTY ]] || printf '\r\e[K' >&2; }

log() {
  lib_clear
  printf '%s\n' "$*" >&2
}

# What goes on just now: on a terminal one line that the next one overwrites, elsewhere a plain line.
progress() {
  if [[ -n $LIB_TTY ]]; then printf '\r\e[K%s%s%s' "$DIM" "$*" "$PLAIN" >&2; else printf '%s\n' "$*" >&2; fi
}

warn() {
  lib_clear
  printf '%swarning:%s %s\n' "$YELLOW" "$PLAIN" "$*" >&2
}

# die TEXT [HINT]: what failed and what to do.
die() {
  lib_clear
  printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
  [[ -z ${2-} ]] || printf '       %s\n' "$2" >&2
  exit 1
}

usage_error() {
  printf '%s: %s\n' "${0##*/}" "$1" >&2
  printf "Try '%s --help'.\n" "${0##*/}" >&2
  exit 2
}

need_root() {
  [[ $EUID -eq 0 ]] && return
  printf '%s: this needs root (network namespaces, links, nftables): sudo %s\n' "${0##*/}" "$0" >&2
  exit "$EXIT_CANNOT_RUN"
}

# --- time --------------------------------------------------------------------------------------------------------

# now_ms VAR: milliseconds since the epoch, without a process.
now_ms() {
  local lib_time=${EPOCHREALTIME/[.,]/}
  printf -v "$1" '%s' "${lib_time:0:-3}"
}

# busywait SECONDS CMD...: succeeds as soon as CMD does; CMD's output of that (or of the last) try is printed.
busywait() {
  local lib_now lib_until lib_out lib_status # named so that CMD, a function perhaps, sees its caller's variables
  now_ms lib_now
  lib_until=$((lib_now + $1 * 1000))
  shift
  while true; do
    if lib_out=$("$@" 2>&1); then
      lib_status=0
    else
      lib_status=$?
    fi
    now_ms lib_now
    if ((lib_status == 0 || lib_now > lib_until)); then
      [[ -z $lib_out ]] || printf '%s\n' "$lib_out"
      return "$lib_status"
    fi
    nap 0.02
  done
}

# A sleep without a process: a read from a pipe that nobody writes to.
nap() {
  [[ -n ${LIB_NAP_FD-} ]] || exec {LIB_NAP_FD}<> <(:)
  read -r -t "$1" -u "$LIB_NAP_FD" || :
}

# --- the end -----------------------------------------------------------------------------------------------------

LIB_EXITS=()

# on_exit CMD...: for this shell only, not for its subshells.
on_exit() {
  local line
  printf -v line '%q ' "$@"
  LIB_EXITS+=("$line")
  trap lib_run_exits EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

lib_run_exits() {
  local status=$? i
  trap '' HUP INT TERM
  set +o errexit
  for ((i = ${#LIB_EXITS[@]} - 1; i >= 0; i--)); do
    eval "${LIB_EXITS[i]}"
  done
  exit "$status"
}

# --- processes ---------------------------------------------------------------------------------------------------

# proc_start PID: prints the start time in clock ticks since boot; fails when there is no such process (or a zombie).
proc_start() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # The command's name, in brackets, may have blanks in it: count from the last ')'.
  local fields
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} != Z && ${fields[0]} != X ]] || return 1
  printf '%s\n' "${fields[19]}"
}

proc_save() {
  local start
  start=$(proc_start "$2") || return 1
  printf '%s %s\n' "$2" "$start" >"$1"
}

# proc_alive FILE: prints the pid when the recorded process still lives.
proc_alive() {
  local pid start
  { read -r pid start <"$1"; } 2>/dev/null || return 1
  [[ $(proc_start "$pid") == "$start" ]] || return 1
  printf '%s\n' "$pid"
}

# proc_kill FILE [SIGNAL [SECONDS]]: signals the recorded process and waits for its end; KILL when it stays.
proc_kill() {
  local file=$1 signal=${2-TERM} seconds=${3-3} pid
  if pid=$(proc_alive "$file"); then
    kill -s "$signal" "$pid" 2>/dev/null || :
    if ! busywait "$seconds" lib_proc_gone "$file"; then
      kill -s KILL "$pid" 2>/dev/null || :
      busywait 2 lib_proc_gone "$file" || :
    fi
  fi
  rm -f -- "$file"
}

lib_proc_gone() { ! proc_alive "$1" >/dev/null; }

# --- TAP (testanything.org, version 13; the plan comes last) -------------------------------------------------------

TAP_COUNT=0
TAP_FAILED=0

tap_line() {
  TAP_COUNT=$((TAP_COUNT + 1))
  printf '%s %d - %s\n' "$1" "$TAP_COUNT" "$2"
}

# tap_ok NAME CMD...: passes when CMD succeeds; what CMD printed is shown below a failure. Always returns 0.
tap_ok() {
  local lib_name=$1 lib_out lib_status
  shift
  if lib_out=$("$@" 2>&1); then
    tap_line ok "$lib_name"
  else
    lib_status=$?
    tap_line 'not ok' "$lib_name"
    TAP_FAILED=$((TAP_FAILED + 1))
    printf '%s\n' "command: $*" "exit status: $lib_status" "$lib_out" | sed 's/^/# /'
  fi
}

# tap_is NAME GOT WANT
tap_is() {
  if [[ $2 == "$3" ]]; then
    tap_line ok "$1"
  else
    tap_line 'not ok' "$1"
    TAP_FAILED=$((TAP_FAILED + 1))
    printf '%s\n' "got:" "$2" "want:" "$3" | sed 's/^/# /'
  fi
}

tap_skip() { tap_line ok "$1 # SKIP $2"; }

# tap_done: the plan, and the script's exit status.
tap_done() {
  printf '1..%d\n' "$TAP_COUNT"
  ((TAP_FAILED == 0 && TAP_COUNT > 0))
}
