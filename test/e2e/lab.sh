#!/usr/bin/env bash
# scripts/lab.sh: what `up` makes works, and `down` leaves nothing, from every state that a lab can be in.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"

lab=$WARREN_ROOT/scripts/lab.sh
name=te$$
out=$(mktemp -d)

cleanup() {
  "$lab" down --name "$name" 2>/dev/null
  "$lab" down --name "$name-b" 2>/dev/null
  rm -rf "$out"
}
on_exit cleanup

run() {
  local command=$1
  shift
  "$lab" "$command" --name "$name" "$@"
}

# What exists of the two labs: namespaces, files, processes (by the configuration file on their command line).
traces() {
  local path
  for path in /run/netns/wl-"$name"* /run/warren-lab/"$name"* /run/warren-lab/."$name"*; do
    [[ ! -e $path ]] || printf '%s\n' "$path"
  done
  grep -lsz "warren-[l]ab/$name" /proc/[0-9]*/cmdline | cut -d / -f 3 | while read -r path; do
    [[ $path == "$$" || $path == "$BASHPID" ]] || ! proc_start "$path" >/dev/null || printf 'process %s\n' "$path"
  done
}
no_traces() { [[ -z $(traces) ]] || { traces && return 1; }; }
fails() { ! "$@"; }
json_true() { jq -e -s ".[0] | $1" >/dev/null; } # an empty input is null

root_before=$(ip -o link && ip route show table all && ip rule && nft list tables)

tap_ok 'lab: three hosts and their pods come up' run up --pods 1
tap_ok 'lab: every pair of pods answers' run ping
run ping -o json >"$out/ping" 2>/dev/null || :
tap_ok 'lab: ping -o json has a time for each of the six pairs' \
  json_true 'length == 6 and all(.ms != null and .ms > 0)' <"$out/ping"
tap_is 'lab: ping --tap ends with its plan' "$(run ping --tap 2>&1 | tail -n 1)" '1..6'
run pods -o json >"$out/pods" 2>/dev/null || :
tap_ok 'lab: pods -o json names host and address of each' \
  json_true 'length == 3 and all(.host != null and .ipv4 != null)' <"$out/pods"
tap_ok 'lab: exec on a host reaches its warrend' run exec h2 warren status
tap_is 'lab: exec in a pod runs there' "$(run exec h1/p1 ip -br link show eth0 2>&1 | cut -d @ -f 1)" eth0
# SIGUSR1 opens a Node's debugger to everybody on the host.
of_h2=$(run exec h2 warren status -o json | jq -r '.pid // empty')
kill -USR1 "$of_h2"
tap_ok 'lab: a warrend that got SIGUSR1 goes on' run exec h2 warren wait --converged
tap_is 'lab: ... and opens no debugger' "$(run exec h2 ss -Hltn 'sport = 9229')" ''
tap_ok 'lab: a pod reaches the world outside' run exec h1/p1 ping -n -q -c 1 -W 2 198.51.100.1
tap_is 'lab: exec hands on the exit status' "$(run exec h1 sh -c 'exit 7' >/dev/null 2>&1 || echo $?)" 7
tap_is 'lab: status has a line for each host, all converged' \
  "$(run status 2>/dev/null | awk '$3 == "yes" { n++ } END { print n + 0 }')" 3
tap_ok 'lab: a second up of the same name is refused' fails run up
tap_ok 'lab: another lab lives beside it' "$lab" up --name "$name-b" --hosts 2 --pods 1 --backend host-gw
tap_ok 'lab: a host joins and its pod answers' run join
tap_ok 'lab: kill, then start' run kill h2
tap_ok 'lab: with one warrend killed every pair still answers' run ping
tap_ok 'lab: the killed host starts again' run start h2
tap_ok 'lab: restart of another' run restart h3
tap_ok 'lab: every pair answers after that' run ping
run exec h1/p1 ip link set eth0 down || :
tap_ok 'lab: ping fails when a pod has no link' fails run ping
tap_is 'lab: nothing in the root namespace has changed' \
  "$(ip -o link && ip route show table all && ip rule && nft list tables)" "$root_before"
run exec h1/p1 sleep 1000 >/dev/null 2>&1 &
sleeper=$!
disown "$sleeper"
busywait 5 grep -qsz sleep "/proc/$sleeper/cmdline" || :
tap_ok 'lab: down' run down
tap_ok 'lab: down of the one leaves the other alone' "$lab" ping --name "$name-b"
tap_ok 'lab: down of the other' "$lab" down --name "$name-b"
tap_ok 'lab: nothing is left of both, not even what ran in a pod' no_traces
tap_ok 'lab: down of a lab that is not there is no error' run down

# Services: both families, both protocols, cluster IPs and nodePorts, asked from a pod (itself among the endpoints), a node
# and outside.
tap_ok 'lab: Services: up' run up --services --family dual
tap_ok 'lab: Services: every question has its answer' run services 10
run exec h2 nft flush ruleset || :
tap_ok 'lab: Services: and again after "nft flush ruleset" on a node' busywait 5 run services 3
tap_ok 'lab: Services: a restarted warrend finds its rules as they should be' run restart h1
tap_ok 'lab: Services: and warren plan is empty' run exec h1 warren plan
for mode in userspace iptables nftables; do
  tap_ok "lab: Services: proxy mode $mode, changed live" run proxy-mode "$mode"
  tap_ok "lab: Services: $mode: every question has its answer" run services 10
  tap_ok "lab: Services: $mode: converged" run exec h1 warren wait --converged --timeout 10s
  tap_ok "lab: Services: $mode: warren plan is empty" run exec h1 warren plan
done
tap_ok 'lab: Services: warren delete service/default/web' run exec h1 warren delete service/default/web
tap_ok 'lab: Services: nothing answers any more' busywait 5 fails run services 1
tap_ok 'lab: Services: down' run down

# A crash in the middle: SIGKILL gives no trap a chance.
setsid "$lab" up --name "$name" >/dev/null 2>&1 </dev/null &
up=$!
busywait 20 test -e "/run/netns/wl-$name-h1" || :
kill -KILL "-$up" 2>/dev/null || kill -KILL "$up" 2>/dev/null || :
wait "$up" 2>/dev/null || :
tap_ok 'lab: an up that was killed leaves something' fails no_traces
tap_ok 'lab: down after that' run down
tap_ok 'lab: nothing is left of a killed up' no_traces

# A Cluster that no warrend can use: up fails, says why, and takes everything down again.
printf 'apiVersion: warren/v1\nkind: Cluster\nmetadata: { name: default }\nspec: { podCIDRs: [10.244.0.1/16] }\n' >"$out/bad.yaml"
tap_ok 'lab: up with a bad Cluster fails' fails "$lab" up --name "$name" --hosts 1 --pods 1 --cluster "$out/bad.yaml"
tap_ok 'lab: and leaves nothing' no_traces

tap_done
