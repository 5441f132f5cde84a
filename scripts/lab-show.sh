# shellcheck shell=bash
# What a lab looks like: the commands of lab.sh that only look, as tables, JSON or TAP. Sourced by lab.sh after lab-net.sh.

cmd_status() {
  local host pid
  printf '%-5s %-8s %-10s %-20s %-9s %s\n' HOST PID CONVERGED LEASE REVISION DEGRADED
  for host in $(lab_hosts); do
    {
      if pid=$(proc_alive "$LAB_DIR/$host/warrend.pid"); then
        warren_on "$host" status -o json 2>/dev/null | jq -r --arg host "$host" --arg pid "$pid" '
          [$host, $pid, (if .converged then "yes" else "no" end), ([.lease // empty | .. | strings] | join(",")),
           (.revision // "-" | tostring), ([.tables[]? | select(.state == "degraded") | .name] | join(",") | if . == "" then "-" else . end)]
          | @tsv' || printf '%s\t%s\tno answer\t-\t-\t-\n' "$host" "$pid"
      else
        printf '%s\t-\tdown\t-\t-\t-\n' "$host"
      fi
    } | while IFS=$'\t' read -r -a row; do printf '%-5s %-8s %-10s %-20s %-9s %s\n' "${row[@]}"; done
  done
}

cmd_pods() {
  if [[ ${1-} == -o && ${2-} == json ]]; then
    lab_pods | jq -R -s -c '[split("\n")[] | select(. != "") | split(" ") |
      {name: .[0], host: (.[0] | split("/")[0]), ipv4: .[1], ipv6: .[2]} | map_values(select(. != "-"))]'
  else
    { printf 'POD IPV4 IPV6\n' && lab_pods; } | while read -r pod addr4 addr6; do
      printf '%-8s %-16s %s\n' "$pod" "$addr4" "$addr6"
    done
  fi
}

cmd_ping() {
  local format=table lines
  case "$*" in
    '') ;;
    '-o json') format=json ;;
    --tap) format=tap ;;
    *) usage_error "ping: \"$*\" is not an option" ;;
  esac
  lines=$(ping_pairs 3 1)
  [[ -n $lines ]] || die "No pod of lab \"$LAB_NAME\" is attached" "lab.sh status"
  case $format in
    json)
      jq -R -s -c '[split("\n")[] | select(. != "") | split(" ") |
        {from: .[0], to: .[1], family: .[2], address: .[3], ms: (.[4] | tonumber? // null)}]' <<<"$lines"
      ;;
    tap)
      awk '{ bad = $5 == "-"; printf "%s %d - %s reaches %s (%s)%s\n", (bad ? "not ok" : "ok"), NR, $1, $2, $4, (bad ? "" : " in " $5 " ms") }
        END { printf "1..%d\n", NR }' <<<"$lines"
      ;;
    table) ping_table <<<"$lines" ;;
  esac
  ! grep -q -- ' -$' <<<"$lines"
}

# The matrix, from (rows) to (columns), average of three echoes in milliseconds; one per family.
ping_table() {
  local red='' off=''
  if [[ -t 1 && -z ${NO_COLOR-} ]]; then red=$RED off=$PLAIN; fi
  awk -v red="$red" -v plain="$off" '
    !($1 in row) { row[$1] = ++pods; name[pods] = $1 }
    { if (!($3 in seen)) { seen[$3] = 1; family[++families] = $3 }; ms[$3, $1, $2] = $5; total[$3]++; if ($5 != "-") good[$3]++ }
    END {
      for (f = 1; f <= families; f++) {
        printf "%s%-8s", (f > 1 ? "\n" : ""), family[f]
        for (t = 1; t <= pods; t++) printf " %7s", name[t]
        printf "   ms\n"
        for (s = 1; s <= pods; s++) {
          printf "%-8s", name[s]
          for (t = 1; t <= pods; t++) {
            value = ms[family[f], name[s], name[t]]
            if (s == t) printf " %7s", "."
            else if (value == "-") printf " %s%7s%s", red, "FAIL", plain
            else printf " %7.3f", value
          }
          printf "\n"
        }
        printf "%d of %d pairs answer\n", good[family[f]], total[family[f]]
      }
    }'
}
