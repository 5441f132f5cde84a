# shellcheck shell=bash
# Parts of one suite that wait most of their time, each with a lab of its own, at the same time; sourced after lib.sh.
#
#   side_by_side PART...    runs `$0 PART` for each, and prints their lines as one TAP, in this order; ends as tap_done does

SIDE_PIDS=() SIDE_DIR=''

side_end() {
  local pid
  # Each takes its own lab down.
  for pid in "${SIDE_PIDS[@]}"; do kill -TERM "$pid" 2>/dev/null || :; done
  for pid in "${SIDE_PIDS[@]}"; do wait "$pid" 2>/dev/null || :; done
  rm -rf "$SIDE_DIR" "${TRAFFIC_DIR-}"
}

side_by_side() {
  local part line status
  SIDE_DIR=$(mktemp -d)
  on_exit side_end
  for part; do
    "$0" "$part" >"$SIDE_DIR/$part" &
    SIDE_PIDS+=($!)
  done
  for part; do
    status=0
    wait "${SIDE_PIDS[0]}" || status=$?
    SIDE_PIDS=("${SIDE_PIDS[@]:1}")
    while IFS= read -r line; do
      case $line in
        'ok '*) tap_line ok "${line#ok * - }" ;;
        'not ok '*)
          tap_line 'not ok' "${line#not ok * - }"
          TAP_FAILED=$((TAP_FAILED + 1))
          ;;
        '1..'*) ;;
        *) printf '%s\n' "$line" ;;
      esac
    done <"$SIDE_DIR/$part"
    # A part that fails has its "not ok"; one that crashed has none, or no plan.
    grep -q '^1\.\.' "$SIDE_DIR/$part" || tap_is "$part: it runs to its end" "$status" 0
  done
  tap_done
}
