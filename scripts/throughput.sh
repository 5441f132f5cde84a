#!/usr/bin/env bash
# What the overlay costs: iperf3 TCP between two pods on two hosts, set up in seven ways that stand side by side and take
# turns, round by round, so that whatever else the machine does hits all of them alike.
#
#   veth            pod -- veth -- pod                                               nothing can be faster here
#   vxlan-bare      pod -- bridge -- route -- vxlan device -- eth0 -- switch ...     by hand, no rule at all
#   vxlan-rules     the same, with a masquerade rule set like warrend's              by hand
#   vxlan-warrend   the same, programmed by warrend
#   hostgw-rules    pod -- bridge -- route via the other host -- eth0 ...            by hand, with the masquerade rules
#   hostgw-warrend  the same, programmed by warrend
#   bgp-warrend     the same, by what gobgpd learns of the other host
#
# The value of a way is the median of its rounds; a ratio is the median of the ratios within each round.
#
# Exit status: 0; 1 something failed; 2 wrong command line; 77 not root. A goal that is missed is printed, not an error.

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
Usage: throughput.sh [--quick] [--rounds N] [--time SECONDS] [--json FILE]
  --rounds N      rounds, default 9 (--quick: 3)
  --time SECONDS  length of one measurement, default 3 (--quick: 1)
  --json FILE     the rows as [{name, value, unit, against, ratio, goal, holds}]
TEXT
}

rounds='' duration='' json='' quick=''
while (($#)); do
  case $1 in
    --quick) quick=1 ;;
    --rounds | --time | --json)
      (($# > 1)) || usage_error "$1 needs a value"
      [[ $1 == --json || $2 =~ ^[1-9][0-9]{0,3}$ ]] || usage_error "$1 \"$2\": a number from 1 to 9999"
      case $1 in
        --rounds) rounds=$2 ;;
        --time) duration=$2 ;;
        --json) json=$2 ;;
      esac
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
: "${rounds:=$([[ -n $quick ]] && echo 3 || echo 9)}" "${duration:=$([[ -n $quick ]] && echo 1 || echo 3)}"

need_root
need_packages "${RUN_PACKAGES[@]}" iperf3:iperf3
need_node
[[ $WARREN_DIST != "$WARREN_ROOT/dist" ]] || need_build

ways=(veth vxlan-bare vxlan-rules vxlan-warrend hostgw-rules hostgw-warrend bgp-warrend)
PODS=1
work=$(mktemp -d)
run=tp$$ # labs tp1234-0 ... tp1234-6

# The functions of lab-net.sh act on one lab; this makes it the one of way number $1.
choose() {
  LAB_NAME=$run-$1
  LAB_DIR=$LAB_BASE/$LAB_NAME
}

remove_all() {
  local i
  for i in "${!ways[@]}"; do remove_lab "$run-$i"; done
  rm -rf "$work"
  rmdir "$LAB_BASE" 2>/dev/null || :
}
on_exit remove_all

# --- the seven ways ------------------------------------------------------------------------------------------------------

setup_veth() {
  printf 'netns add %s\n' "$(ns h1/p1)" "$(ns h2/p1)" | ip -batch -
  echo "link add eth0 type veth peer name eth0 netns $(ns h2/p1)" | ip_batch h1/p1
  local n
  for n in 1 2; do
    printf '%s\n' "link set lo up" "link set eth0 up" "address add 10.244.0.$n/24 dev eth0" | ip_batch "h$n/p1"
  done
}

# by_hand BACKEND RULES: two hosts; what warrend would make, by ip and bridge.
by_hand() {
  local n peer host mtu=1500
  UNDERLAY=ipv4 HOSTS=2
  mkdir -p "$LAB_DIR"
  make_switch
  for n in 1 2; do
    peer=$((3 - n)) host=h$n
    make_host "$n"
    in_ns "$host" sysctl -q -w net.ipv4.ip_forward=1
    [[ $1 != vxlan ]] || mtu=1450
    {
      echo "link add wrn0 mtu $mtu type bridge"
      echo "link set wrn0 up"
      echo "address add 10.244.$n.1/24 dev wrn0"
      if [[ $1 == vxlan ]]; then
        echo "link add wrn-ovl address 02:00:00:00:00:0$n mtu $mtu type vxlan id 1 dstport 4789 local $(host_addr4 "$n") nolearning"
        echo "link set wrn-ovl up"
        echo "neighbour add 10.244.$peer.0 lladdr 02:00:00:00:00:0$peer dev wrn-ovl nud permanent"
        echo "route add 10.244.$peer.0/24 via 10.244.$peer.0 dev wrn-ovl src 10.244.$n.1 onlink"
      else
        echo "route add 10.244.$peer.0/24 via $(host_addr4 "$peer") dev eth0 src 10.244.$n.1"
      fi
    } | ip_batch "$host"
    [[ $1 != vxlan ]] ||
      bridge -n "$(ns "$host")" fdb add "02:00:00:00:00:0$peer" dev wrn-ovl dst "$(host_addr4 "$peer")" self permanent
    [[ $2 == bare ]] || in_ns "$host" nft -f - <<'NFT'
table ip by-hand {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.244.0.0/16 ip daddr != { 10.244.0.0/16, 224.0.0.0/4 } masquerade fully-random
	}
}
NFT
    printf 'FLANNEL_SUBNET=10.244.%d.1/24\nFLANNEL_MTU=%d\n' "$n" "$mtu" >"$LAB_DIR/$host/subnet.env"
    attach_pods "$host"
  done
}

by_warrend() { "$here/lab.sh" up --name "$LAB_NAME" --hosts 2 --pods 1 --backend "$1" 2>>"$work/lab.log"; }

address_of() {
  if [[ $1 == veth ]]; then
    echo 10.244.0.2
  else
    HOSTS=2
    lab_pods | sed -n 's#^h2/p1 \([^ ]*\) .*#\1#p'
  fi
}

# --- measuring ---------------------------------------------------------------------------------------------------------

# One measurement: prints Gbit/s as the receiver saw them. Client and server each have a core of their own where there are two.
measure() {
  local affinity=()
  (($(nproc) < 2)) || affinity=(-A '0,1')
  in_ns h1/p1 timeout $((duration + 20)) iperf3 -c "${address[$1]}" -t "$duration" "${affinity[@]}" -J >"$work/iperf.json" ||
    die "iperf3 over \"${ways[$1]}\" failed: $(jq -r '.error // "no result"' "$work/iperf.json")"
  jq -r '.end.sum_received.bits_per_second / 1e9' "$work/iperf.json"
}

address=()
for i in "${!ways[@]}"; do
  choose "$i"
  progress "setting up ${ways[i]} ..."
  case ${ways[i]} in
    veth) setup_veth ;;
    vxlan-bare) by_hand vxlan bare ;;
    vxlan-rules) by_hand vxlan rules ;;
    vxlan-warrend) by_warrend vxlan ;;
    hostgw-rules) by_hand host-gw rules ;;
    hostgw-warrend) by_warrend host-gw ;;
    bgp-warrend) by_warrend bgp ;;
  esac || {
    cat "$work/lab.log" >&2 2>/dev/null || :
    die "Cannot set up \"${ways[i]}\""
  }
  address[i]=$(address_of "${ways[i]}")
  # The servers end with their namespace (remove_lab).
  nsenter --net="/run/netns/$(ns h2/p1)" iperf3 -s >/dev/null 2>&1 </dev/null &
  disown $!
  busywait 5 in_ns h1/p1 ping -n -q -c 1 -W 0.5 "${address[i]}" >/dev/null || die "No echo over \"${ways[i]}\""
done

: >"$work/samples"
for ((round = 1; round <= rounds; round++)); do
  progress "round $round of $rounds ..."
  for ((turn = 0; turn < ${#ways[@]}; turn++)); do
    i=$(((turn + round) % ${#ways[@]})) # another first one each round
    choose "$i"
    printf '%s %d %s\n' "${ways[i]}" "$round" "$(measure "$i")" >>"$work/samples"
  done
done
lib_clear

# --- the report --------------------------------------------------------------------------------------------------------

# name, against, goal ("" for none): a ratio each.
cat >"$work/rows" <<'ROWS'
veth - -
vxlan-bare veth -
vxlan-rules veth -
vxlan-rules vxlan-bare -
vxlan-warrend veth -
vxlan-warrend vxlan-bare -
vxlan-warrend vxlan-rules 0.98
hostgw-rules veth -
hostgw-warrend veth -
hostgw-warrend hostgw-rules 0.98
bgp-warrend veth -
bgp-warrend hostgw-rules 0.98
bgp-warrend vxlan-warrend -
ROWS

jq -n --rawfile samples "$work/samples" --rawfile rows "$work/rows" '
  def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
  def lines: split("\n") | map(select(. != "") | split(" "));
  def round3: . * 1000 | round / 1000;
  ($samples | lines | map({way: .[0], round: .[1], value: (.[2] | tonumber)})) as $all
  | def of($way): [$all[] | select(.way == $way)] | sort_by(.round | tonumber) | map(.value);
  [$rows | lines[] | . as [$name, $against, $goal] | of($name) as $own
    | (if $against == "-" then null else of($against) as $other | [range($own | length) | $own[.] / $other[.]] | median | round3 end) as $ratio
    | {name: $name, value: ($own | median | round3), unit: "Gbit/s", min: ($own | min | round3), max: ($own | max | round3),
       against: (if $against == "-" then null else $against end), ratio: $ratio,
       goal: (if $goal == "-" then null else ">= \($goal)" end),
       holds: (if $goal == "-" then null else $ratio >= ($goal | tonumber) end)}]' >"$work/result.json"

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
printf '# %s, %d cores, kernel %s; %s; %s; node %s; warrend %s\n' "${cpu:-$(uname -m)}" "$(nproc)" "$(uname -r)" \
  "$(iperf3 --version | head -n 1 | cut -d ' ' -f 1-2)" "$(nft --version | cut -d ' ' -f 1-2)" "$ENV_NODE_VERSION" \
  "$(git -C "$WARREN_ROOT" describe --always --dirty 2>/dev/null || echo '(no git)')"
printf '# one TCP stream, %d rounds of %d s, interleaved; median [min-max] in Gbit/s; load %s\n' "$rounds" "$duration" \
  "$(cut -d ' ' -f 1-3 /proc/loadavg)"
jq -r '.[] | [.name, "\(.value) [\(.min)-\(.max)]",
    (if .against == null then "" else "\(.ratio) x \(.against)" end),
    (if .goal == null then "" else "goal \(.goal): \(if .holds then "holds" else "MISSED" end)" end)] | @tsv' "$work/result.json" |
  awk -F '\t' '{ printf "%-15s %-26s %-22s %s\n", ($1 == last ? "" : $1), ($1 == last ? "" : $2), $3, $4; last = $1 }'
[[ -z $json ]] || cp "$work/result.json" "$json"
