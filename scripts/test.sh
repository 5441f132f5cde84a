#!/usr/bin/env bash
# The README's second command: on a fresh machine it installs what is missing, then runs every test there is.
#
#   check   scripts/check.sh: format, lint, types, shell                 4 tests
#   tap     test/unit test/contract test/netns test/*.test.ts            tap's asserts
#   e2e     test/e2e/*.sh, one after the other: hosts in namespaces      TAP lines
#
# Every skip is printed with its reason, every failure with its lines; the last line is "N passed, N failed, N skipped".
# A suite that crashes, that runs no test, or that leaves a process or a namespace behind is a failure too.
#
# Exit status: 0; 1 a test failed; 2 wrong command line; 77 not root (`--unit` needs none).

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/lab-net.sh"

usage() {
  cat <<'TEXT'
Usage: test.sh [--unit | --vagrant] [--only PATTERN]
  --unit           only what needs no kernel and no root: test/unit and test/*.test.ts
  --vagrant        only the lab of three virtual machines (vagrant/): half an hour where they are emulated; no part of the rest
  --only PATTERN   only the suites and test files whose path has PATTERN in it ("check" is a suite too)
TEXT
}

unit='' only='' vagrant=''
while (($#)); do
  case $1 in
    --unit) unit=1 ;;
    --vagrant) vagrant=1 ;;
    --only)
      (($# > 1)) || usage_error "--only needs a value"
      only=$2
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) usage_error "\"$1\" is not an option" ;;
  esac
  shift
done

[[ -z $unit || -z $vagrant ]] || usage_error "--unit and --vagrant are two runs"

passed=0 failed=0 skipped=0 suites=0
# Marks every process of this run (it is in their environment) and every lab (in its lab.env).
WARREN_TEST_RUN=run-$$-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
export WARREN_TEST_RUN

# --- one suite ---------------------------------------------------------------------------------------------------------

# suite NAME SECONDS CMD...: runs it in a session of its own, with its output in a log, and adds up what it says.
suite() {
  local name=$1 seconds=$2 log=$logs/${1//\//-}.tap status=0 started now counts
  shift 2
  suites=$((suites + 1))
  progress "$name ..."
  now_ms started
  # setsid -w: our terminal's ^C comes to us alone; the trap then ends the suite by its mark.
  setsid -w timeout -k 10 "$seconds" "$@" >"$log" 2>&1 </dev/null || status=$?
  now_ms now
  read -r -a counts < <(tap_counts <"$log")
  local ok=${counts[0]} bad=${counts[1]} skips=${counts[2]} complaint=''
  if ((status == 124 || status == 137)); then
    complaint="no end after $seconds s"
  elif ((status != 0 && bad == 0)); then
    complaint="exit status $status without a failed test"
  elif ((ok + bad + skips == 0)); then
    complaint="ran no test"
  elif [[ ${counts[3]} != complete ]]; then
    complaint="${counts[3]}"
  elif grep -q '# SKIP no tests found' "$log"; then
    complaint="a test file has no test in it: $(grep -m 1 -o '[^ ]*\.ts # SKIP no tests found' "$log")"
  fi
  [[ -z $complaint ]] || bad=$((bad + 1))
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skips))
  log "$name: $ok passed, $bad failed, $skips skipped ($(((now - started) / 1000)) s)"
  tap_skips <"$log" >&2
  if ((bad > 0)); then
    [[ -z $complaint ]] || log "  ${RED}$name: ${complaint//_/ }${PLAIN}"
    tap_failures <"$log" >&2
    [[ -z $complaint || $complaint == "a test file"* ]] || tail -n 40 "$log" | sed 's/^/    /' >&2
    log "  the whole output: $log"
    keep_logs=1
  fi
}

# "PASSED FAILED SKIPPED complete|REASON" of a TAP stream. tap's own closing line counts the asserts of all files; a
# plain producer's top-level lines are counted, and must be as many as its plan says.
tap_counts() {
  awk '
    /^ok [0-9]+/ { n++; if (toupper($0) ~ /# SKIP/) skip++; else ok++ }
    /^not ok [0-9]+/ { n++; if (toupper($0) ~ /# TODO/) skip++; else bad++ }
    /^1\.\.[0-9]+/ { plan = substr($1, 4); planned = 1 }
    /^# \{ total: [0-9]+/ {
      total = field("total"); bad = field("fail"); skip = field("skip") + field("todo")
      ok = total - bad - skip; n = plan
    }
    function field(name,  part) {
      if (!match($0, name ": [0-9]+")) return 0
      part = substr($0, RSTART, RLENGTH)
      sub(/.*: /, "", part)
      return part + 0
    }
    END {
      reason = !planned ? "no_plan:_it_ended_early" : n != plan ? "planned_" plan ",_ran_" n : "complete"
      print ok + 0, bad + 0, skip + 0, reason
    }'
}

tap_skips() { sed -n -E 's/^ *ok [0-9]+ - (.*[^ ]) *# SKIP *(.*)$/  skipped: \1: \2/Ip'; }

# The failed lines of the innermost level with what is said about them (YAML in TAP, or lines with '#').
tap_failures() {
  awk '
    { line = $0; sub(/^ */, "", line); indent = length($0) - length(line) }
    line ~ /^# Subtest: / { subtest[indent] = substr(line, 12); last = 0; show = 0; next }
    line ~ /^not ok / && toupper(line) !~ /# TODO/ {
      # The parent of a failed subtest says nothing new.
      if (indent < last) { last = indent; show = 0; next }
      last = indent; show = 1; at = indent; lines = 0; path = ""
      for (i = 0; i < indent; i += 4) if (i in subtest) path = path subtest[i] " > "
      sub(/^not ok [0-9]+ - /, "", line); print "  not ok - " path line; next
    }
    show && line ~ /^(not )?ok |^1\.\./ { show = 0 }
    show && (indent > at || line ~ /^#/) { if (++lines <= 40 && ++all <= 200) print "    " substr($0, at + 1) }'
}

# --- what a run may leave ------------------------------------------------------------------------------------------------

# Processes that this shell started and that live; itself it was started without the mark.
marked_processes() {
  local file pid
  { grep -lsz "^WARREN_TEST_RUN=$WARREN_TEST_RUN\$" /proc/[0-9]*/environ || :; } | while IFS=/ read -r _ _ pid file; do
    if proc_start "$pid" >/dev/null; then printf '%s\n' "$pid"; fi
  done
}

# leftovers: prints what the suites left and removes it. Namespaces of tests are called wt-PID-...: of a dead PID.
leftovers() {
  local file name pid
  for pid in $(marked_processes); do
    name=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || continue
    kill -s KILL "$pid" 2>/dev/null && printf 'process %s: %s\n' "$pid" "$name"
  done
  for file in "$LAB_BASE"/*/lab.env; do
    if [[ -e $file ]] && grep -qsx "TEST_RUN=$WARREN_TEST_RUN" "$file"; then
      name=$(basename "$(dirname "$file")")
      "$here/lab.sh" down --name "$name" 2>/dev/null
      printf 'lab %s\n' "$name"
    fi
  done
  for file in /run/netns/wt-*; do
    name=${file##*/}
    [[ $name =~ ^wt-([0-9]+)- ]] || continue
    if ! proc_start "${BASH_REMATCH[1]}" >/dev/null && [[ -z ${namespaces_before[$name]-} ]]; then
      ip netns delete "$name" && printf 'namespace %s\n' "$name"
    fi
  done
}

finish() {
  leftovers >/dev/null
  [[ -n $keep_logs ]] || rm -rf "$logs"
}

# --- all suites ----------------------------------------------------------------------------------------------------------

matches() { [[ -z $only || $1 == *"$only"* ]]; }

tap_files() {
  local file dirs=(test/unit test/contract test/netns)
  [[ -z $unit ]] || dirs=(test/unit)
  {
    find "${dirs[@]}" -name '*.test.ts' 2>/dev/null || :
    find test -maxdepth 1 -name '*.test.ts'
  } | sort | while read -r file; do
    if matches "$file"; then printf '%s\n' "$file"; fi
  done
}

cd "$WARREN_ROOT"
if [[ -z $unit ]]; then
  need_root
  need_packages "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
  want_packages "${TEST_PACKAGES_OPTIONAL[@]}"
fi
need_tap

logs=$(mktemp -d) keep_logs=''
declare -A namespaces_before=()
for path in /run/netns/*; do namespaces_before[${path##*/}]=1; done
on_exit finish

if [[ -n $vagrant ]]; then
  suite vagrant 7200 "$WARREN_ROOT/vagrant/run.sh"
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  ((failed == 0))
  exit
fi
if [[ -z $unit ]] && matches check; then suite check 600 "$here/check.sh" --tap; fi
built=1
if [[ -z $unit ]] && ! (need_build); then
  failed=$((failed + 1)) built=''
  log "${RED}not ok${PLAIN} - npm run build; test/e2e cannot run without it"
fi
mapfile -t files < <(tap_files)
if ((${#files[@]} > 0)); then suite tap 2400 npx --no-install tap --reporter=tap "${files[@]}"; fi
if [[ -z $unit ]]; then
  for path in test/e2e/*.sh; do
    if [[ -n $built && -x $path ]] && matches "$path"; then suite "${path#test/}" 900 "$path"; fi
  done
  left=$(leftovers)
  if [[ -n $left ]]; then
    failed=$((failed + 1))
    log "${RED}not ok${PLAIN} - the tests leave no process and no namespace behind"
    printf '%s\n' "$left" | sed 's/^/    /' >&2
  else
    passed=$((passed + 1))
  fi
fi

if ((suites == 0)); then
  log "no test matches \"$only\""
  failed=$((failed + 1))
fi
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
