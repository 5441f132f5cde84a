#!/usr/bin/env bash
# Faults of Services, on two hosts: bad objects, rules that somebody flushes, firewalld's and Docker's rules beside ours, a lock
# that is held, an iptables that is not there, 10,000 endpoints, Services that change their name, ports and type. On h1
# others use iptables-nft (and firewalld nft), on h2 iptables-legacy.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh"
# shellcheck source=test/support/traffic.sh
. "$here/../support/traffic.sh"
# shellcheck source=test/support/service-faults.sh
. "$here/../support/service-faults.sh"

lab_alone "te$$"
# A lock of this test's own, for its agents and its iptables-legacy: the machine's is everybody's.
export XTABLES_LOCKFILE=$TRAFFIC_DIR/xtables.lock

root_before=$(ip -o link && ip route show table all && ip rule && nft list tables)
tap_ok 'services: two hosts come up' lab_run up --hosts 2 --services
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1
tap_ok 'services: every question has its answer' lab_run services 2

# --- bad objects -----------------------------------------------------------------------------------------------------------

port='ports: [{ name: http, port: 80 }]'
tap_ok 'cluster IP outside the range: refused' refused 'clusterIPs: [10.9.0.1], '"$port" '"10.9.0.1" is outside serviceCIDRs 10.0.0.0/16'
tap_ok 'cluster IP taken: refused, with its owner' refused 'clusterIPs: [10.0.0.1], '"$port" '"10.0.0.1" is taken' service/default/web
tap_ok 'cluster IP of a family without a range: refused' refused 'clusterIPs: ["fd00:10::5"], '"$port" 'no IPv6 serviceCIDRs'
tap_ok 'nodePort taken by a Service: refused, with its owner' \
  refused 'type: NodePort, ports: [{ name: http, port: 80, nodePort: 31234 }]' '"31234/tcp" is taken' service/default/web:http
tap_ok 'nodePort 70000: refused' refused 'type: NodePort, ports: [{ name: http, port: 80, nodePort: 70000 }]' 70000 65535
tap_ok 'port 0: refused' refused 'ports: [{ name: http, port: 0 }]' 'port 0'
for address in 127.0.0.1 169.254.1.1 0.0.0.0 224.0.0.1 10.0.0.1; do
  tap_ok "endpoint $address: refused" refused_endpoint "$address"
done
tap_is 'of all that, nothing was stored' "$(on h1 get services,endpoints -o name)" service/default/web

socat_holds() { [[ -n $(in_ns h1 ss -H -ltn 'sport = :32000') ]]; }
nsenter --net="/run/netns/$(ns h1)" socat TCP-LISTEN:32000,reuseaddr,fork /dev/null >/dev/null 2>&1 </dev/null &
proc_save "$TRAFFIC_DIR/socat.pid" $!
disown $!
busywait 3 socat_holds
service held 'type: NodePort, clusterIPs: [10.0.0.60], selector: { app: web }, ports: [{ name: http, port: 80, targetPort: http, nodePort: 32000 }]'
tap_ok 'nodePort held by a process: status names it' busywait 5 says h1 NODE_PORT_HELD 32000/tcp '"socat" (pid' 'ss -Hlnpt'
tap_ok 'nodePort held by a process: the Service is served all the same' within 1000 answers ext "$(host_addr4 1)" 32000
proc_kill "$TRAFFIC_DIR/socat.pid"
on h1 delete service/default/held >/dev/null

# --- what firewalld and Docker have, before, during and after each mode --------------------------------------------------------

docker_rules h1 iptables-nft
firewalld_rules h1
docker_rules h2 iptables-legacy
# What is there for FORWARD's policy is ours, and is not compared.
tap_ok 'neighbours: with rules of theirs all converge' all_converged
foreign h1 >"$TRAFFIC_DIR/foreign.h1"
foreign h2 >"$TRAFFIC_DIR/foreign.h2"
watch_foreign h1
watch_foreign h2
for mode in iptables userspace nftables; do
  lab_run proxy-mode "$mode"
  tap_ok "neighbours: $mode: on both hosts" mode_everywhere "$mode"
  tap_ok "neighbours: $mode: every question has its answer" lab_run services 1
  tap_ok "neighbours: $mode: nothing of theirs on h1 has changed" foreign_same h1
  tap_ok "neighbours: $mode: nor on h2" foreign_same h2
  case $mode in
    iptables) tap_ok 'neighbours: iptables: h1 has ours in iptables-nft alone, h2 in iptables-legacy alone' variants nft legacy ;;
    *) tap_ok "neighbours: $mode: no chain of Services is left in either variant" variants none none ;;
  esac
done
tap_ok 'neighbours: nor did anything of theirs change for a moment' never_changed

# --- flushed by somebody ---------------------------------------------------------------------------------------------------------

# flushed HOST NAME TABLE HAND COMMAND
flushed() {
  local id
  id=$(last_event "$1")
  in_ns "$1" sh -c "$5"
  tap_ok "$2: healed within a second" within 1000 heals "$1"
  tap_ok "$2: and the event names the hand" busywait 2 hand_since "$1" "$id" "$3" "$4"
  tap_ok "$2: converged" converged "$1"
  tap_ok "$2: plan is empty" busywait 3 on "$1" plan
}
flushed h1 'nft flush ruleset' service 'nft (pid' 'nft flush ruleset'
lab_run proxy-mode iptables
tap_ok 'iptables mode' mode_everywhere iptables
flushed h1 'iptables-nft -F' service-iptables 'iptables-nft (pid' 'iptables-nft -F; iptables-nft -t nat -F'
flushed h2 'iptables-legacy -F' service-iptables iptables-legacy 'iptables-legacy -w -F; iptables-legacy -w -t nat -F'

# --- rules in both variants -------------------------------------------------------------------------------------------------------

# What h1 had of Docker's went with the ruleset.
for variant in nft legacy; do in_ns h1 "iptables-$variant" -w -A INPUT -s 192.0.2.66 -j DROP; done
tap_ok 'both variants: status says so, and which one has ours' busywait 10 says h1 IPTABLES_BOTH 'ours go to "nft"'
tap_ok 'both variants: so does describe' described h1 IPTABLES_BOTH
tap_ok 'both variants: ours stay in one' variants nft legacy
for variant in legacy nft; do in_ns h1 "iptables-$variant" -w -D INPUT -s 192.0.2.66 -j DROP; done
tap_ok 'both variants: over with the rules of the other' busywait 10 fails says h1 IPTABLES_BOTH

# --- the xtables lock is held ------------------------------------------------------------------------------------------------------

flock "$XTABLES_LOCKFILE" sleep 30 &
disown $!
proc_save "$TRAFFIC_DIR/flock.pid" $!
lock_held() { ! flock -n "$XTABLES_LOCKFILE" true; }
busywait 2 lock_held
service locked 'clusterIPs: [10.0.0.70], selector: { app: web }, ports: [{ name: http, port: 80, targetPort: http }]'
node x1 192.0.2.99 10.244.77.0/24
has_route() { ip -n "$(ns h2)" route show proto 87 | grep '^10.244.77.0/24 '; }
tap_ok 'lock held: what does not need it goes on: a new node has its route' within 4000 has_route
tap_ok 'lock held: status says so, and who has it' busywait 4 table_says h2 'xtables lock is held by' '(pid '
tap_ok 'lock held: as a problem, too' says h2 EBUSY 'xtables lock is held by'
tap_ok 'lock held: and of the Service' described h2 'EBUSY.*xtables lock' locked
tap_ok 'lock held: the other host, with iptables-nft, serves it' within 2000 answers h1/p1 10.0.0.70 80
tap_ok 'lock held: that Services answer stays' answers h2/p1 10.0.0.1 1234
tap_ok 'lock held: it still is' lock_held
busywait 40 fails lock_held
tap_ok 'lock freed: the Service answers soon' within 5000 answers h2/p1 10.0.0.70 80
tap_ok 'lock freed: converged' converged h2
on h1 delete service/default/locked >/dev/null
on h1 delete node/x1 >/dev/null

# --- 10,000 endpoints ---------------------------------------------------------------------------------------------------------------

# All of them are one pod, which takes the whole prefix for its own.
in_ns h1/p1 ip route add local 10.244.64.0/18 dev lo
in_ns h1 ip route add 10.244.64.0/18 via "$(pod_address ipv4 h1/p1)"
many_endpoints >"$TRAFFIC_DIR/many.yaml"
started=0 ended=0
now_ms started
tap_ok '10,000 endpoints: accepted' on h1 apply -f "$TRAFFIC_DIR/many.yaml"
tap_ok '10,000 endpoints: iptables: served' within 10000 answers h1/p2 10.0.0.99 80
now_ms ended
printf '# 10,000 endpoints, from apply to the first answer, iptables: %d ms\n' $((ended - started))
tap_ok '10,000 endpoints: iptables: converged' all_converged
tap_ok '10,000 endpoints: iptables: so many targets' many_targets iptables
tap_is '10,000 endpoints: iptables: ten answers' "$(answers_of h1/p2 10.0.0.99 80 10)" 10
tap_ok '10,000 endpoints: iptables: plan is empty' on h1 plan
now_ms started
lab_run proxy-mode nftables
tap_ok '10,000 endpoints: to nftables' mode_everywhere nftables
now_ms ended
printf '# 10,000 endpoints, from iptables to nftables on two hosts: %d ms\n' $((ended - started))
tap_ok '10,000 endpoints: nftables: so many targets' many_targets nftables
tap_is '10,000 endpoints: nftables: ten answers' "$(answers_of h1/p2 10.0.0.99 80 10)" 10
tap_ok '10,000 endpoints: nftables: plan is empty' on h1 plan
on h1 delete service/default/many endpoints/default/many-0 endpoints/default/many-1 >/dev/null
tap_ok '10,000 endpoints: deleted, and gone' busywait 10 names_are service/default/web

# --- 1,000 objects in one file -----------------------------------------------------------------------------------------------------

thousands 500 "$(pod_address ipv4 h1/p1)" >"$TRAFFIC_DIR/thousand.yaml"
now_ms started
tap_ok '1,000 objects: applied at once' within 15000 on h1 apply -f "$TRAFFIC_DIR/thousand.yaml"
now_ms ended
printf '# 1,000 objects, apply: %d ms\n' $((ended - started))
tap_ok '1,000 objects: the last Service got an address and answers' within 10000 one_answers one-499
tap_ok '1,000 objects: deleted at once' within 15000 on h1 delete -f "$TRAFFIC_DIR/thousand.yaml"
tap_ok '1,000 objects: and nothing else' busywait 10 names_are service/default/web

# --- no iptables -------------------------------------------------------------------------------------------------------------------

tap_ok 'no iptables: h1 runs where there is none' without_iptables h1
lab_run proxy-mode iptables
tap_ok 'no iptables: status says what is missing' busywait 5 table_says h1 'is not installed'
tap_ok 'no iptables: as a problem, too' says h1 ENOENT 'is not installed' 'set proxyMode to nftables'
tap_ok 'no iptables: and of the Service' described h1 'ENOENT.*is not installed'
tap_ok 'no iptables: its nftables rules stay' mode_stands h1 nftables
tap_ok 'no iptables: the other host has changed its mode' busywait 5 mode_stands h2 iptables
tap_ok 'no iptables: every question has its answer' lab_run services 2
tap_ok 'no iptables: it is installed' iptables_again h1
tap_ok 'no iptables: then h1 changes its mode, too' busywait 15 mode_stands h1 iptables
tap_ok 'no iptables: converged' all_converged
tap_ok 'no iptables: every question has its answer at last' lab_run services 2

# --- name, ports and type change ----------------------------------------------------------------------------------------------------

node2=$(host_addr4 2)
# a NAME TYPE PORT [NODEPORT [MORE]]
a() {
  service "$1" "type: $2, clusterIPs: [10.0.0.50], selector: { app: web }, ${5-} ports: [{ name: http, port: $3, targetPort: http${4:+, nodePort: $4} }]"
}
for mode in iptables userspace nftables; do
  lab_run proxy-mode "$mode"
  tap_ok "changes: $mode" mode_everywhere "$mode"
  a one NodePort 80 32050
  tap_ok "changes: $mode: a Service answers by its address" within 2000 answers h1/p1 10.0.0.50 80
  tap_ok "changes: $mode: and by its nodePort" within 2000 answers ext "$node2" 32050
  on h1 delete service/default/one >/dev/null
  a two NodePort 80 32050
  tap_ok "changes: $mode: renamed, it answers by its address" within 2000 answers h1/p1 10.0.0.50 80
  tap_ok "changes: $mode: renamed, it answers by its nodePort" within 2000 answers ext "$node2" 32050
  a two NodePort 81 32051
  tap_ok "changes: $mode: renumbered, it answers" within 2000 answers h1/p1 10.0.0.50 81
  tap_ok "changes: $mode: renumbered, it answers by its nodePort" within 2000 answers ext "$node2" 32051
  tap_ok "changes: $mode: the old port is refused" within 2000 turned_away h1/p1 10.0.0.50 80
  tap_ok "changes: $mode: the old nodePort is refused" within 2000 turned_away ext "$node2" 32050
  a two ClusterIP 81
  tap_ok "changes: $mode: ClusterIP: its nodePort is refused" within 2000 turned_away ext "$node2" 32051
  tap_ok "changes: $mode: ClusterIP: it answers" answers h1/p1 10.0.0.50 81
  a two LoadBalancer 81 32051 'loadBalancerIPs: [203.0.113.9],'
  tap_ok "changes: $mode: LoadBalancer: it answers there" within 2000 answers h2/p1 203.0.113.9 81
  tap_ok "changes: $mode: LoadBalancer: and by its nodePort" within 2000 answers ext "$node2" 32051
  a two NodePort 81 32051
  tap_ok "changes: $mode: NodePort again: no answer there" within 2000 fails answers h2/p1 203.0.113.9 81
  tap_ok "changes: $mode: NodePort again: by its nodePort" answers ext "$node2" 32051
  on h1 delete service/default/two >/dev/null
  tap_ok "changes: $mode: deleted, its nodePort is refused" within 2000 turned_away ext "$node2" 32051
  tap_ok "changes: $mode: deleted, its address does not answer" within 2000 fails answers h1/p1 10.0.0.50 81
  tap_ok "changes: $mode: converged" all_converged
  tap_ok "changes: $mode: plan is empty" on h1 plan
done

# --- cleanup, beside the neighbours ----------------------------------------------------------------------------------------------------

lab_run proxy-mode iptables
tap_ok 'cleanup: in iptables mode' mode_everywhere iptables
docker_rules h1 iptables-nft
firewalld_rules h1
tap_ok 'cleanup: all converge' all_converged
for host in h1 h2; do
  foreign "$host" >"$TRAFFIC_DIR/foreign.$host"
  lab_run stop "$host"
  tap_ok "cleanup: $host" on "$host" cleanup
  tap_ok "cleanup: $host: nothing of theirs has changed" foreign_same "$host"
  tap_is "cleanup: $host: no chain of ours" "$(ours_left "$host")" ''
done

tap_ok 'services: down' lab_run down
tap_is 'services: nothing in the root namespace has changed' \
  "$(ip -o link && ip route show table all && ip rule && nft list tables)" "$root_before"
tap_done
