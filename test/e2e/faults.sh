#!/usr/bin/env bash
# What goes wrong around warrend, on hosts that carry traffic meanwhile: the store is down, stands still, is compacted,
# emptied, unreadable or gone; documents are bad; nodes die, leave, have one name or one address. Each time: nothing that
# forwards is lost, and a message says what, where, why and what to do.
# (Faults of the host itself are test/netns/agent.test.ts; a clock that jumps is test/unit: a time namespace can shift a
# process's monotonic clock at its start only, and the wall clock not at all.)

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh"
# shellcheck source=test/support/traffic.sh
. "$here/../support/traffic.sh"

cleanup() {
  streams_kill
  chmod 755 "$LAB_DIR/cluster" 2>/dev/null || :
  lab_run down 2>/dev/null || :
  rm -rf "$TRAFFIC_DIR"
}
on_exit cleanup
lab_use "fa$$"

# --- what is asked of a host ---------------------------------------------------------------------------------------------

up() { lab_run up --pods 1 "$@"; }
# A dead agent is known as such after 3 s, not 15.
impatient() {
  local host
  for host in $(lab_hosts); do printf 'liveTtl: 3\n' >>"$LAB_DIR/$host/warrend.yaml"; done
  each_host lab_run restart
}
routes() { ip -n "$(ns "$1")" route show proto 87 | sed 's/ *$//' | sort; }
has_route() { routes "$1" | grep -q "^$2 " || { routes "$1" && return 1; }; }
lacks_route() { ! routes "$1" | grep "^$2 "; }
source_of() { status_of "$1" | jq -r '.sources[0] | "\(.inSync) \(.error // "")"'; }
# source_says HOST WORDS...: its store is not in sync, and the reason has these words.
source_says() {
  local text word
  text=$(source_of "$1")
  shift
  for word in false "$@"; do [[ $text == *"$word"* ]] || { printf 'no "%s" in: %s\n' "$word" "$text" && return 1; }; done
}
source_in_sync() { [[ $(source_of "$1") == true* ]] || { source_of "$1" && return 1; }; }
no_problems() { [[ -z $(problems "$1") ]] || { problems "$1" && return 1; }; }
# file_says FILE WORDS...
file_says() {
  local file=$1 word
  shift
  for word; do
    grep -qF -- "$word" "$file" || {
      printf 'no "%s" in:\n' "$word"
      tail -n 20 "$file"
      return 1
    }
  done
}
pings() { busywait "${3-5}" in_ns "$1" ping -n -q -c 1 -W 1 "$2"; }
etcdctl_on() { ETCDCTL_API=3 in_ns sw etcdctl --endpoints "$(etcd_url)" "$@"; }
records() { etcdctl_on get --prefix --keys-only /warren/objects/node/ | grep -c node; }
signal_etcd() { kill -s "$1" "$(proc_alive "$LAB_DIR/etcd.pid")"; }
stop_etcd() { proc_kill "$LAB_DIR/etcd.pid" TERM 10; }
etcd_again() { start_etcd && busywait 15 etcd_ready; }
apply() { on "$1" apply -f -; }
node_document() { printf 'apiVersion: warren/v1\nkind: Node\nmetadata: { name: %s }\nspec: { addresses: [%s], podCIDRs: [%s], vtepMAC: "02:00:00:00:00:99" }\n' "$@"; }

# agent_in_ext NAME LINES...: a warrend of its own in the world outside; its files are in $TRAFFIC_DIR/NAME
agent_in_ext() {
  local dir=$TRAFFIC_DIR/$1
  mkdir -p "$dir"
  printf '%s\n' "underlay: { interface: eth0 }" "socket: $dir/warrend.sock" "stateDir: $dir/state" "subnetFile: $dir/subnet.env" \
    "${@:2}" >"$dir/warrend.yaml"
  nsenter --net="/run/netns/$(ns ext)" "$WARREN_DIST/warrend" --config "$dir/warrend.yaml" >"$dir/log" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/server.$1" $!
}
# ext_status NAME: sources and hold of that one
ext_status() {
  WARREN_SOCKET=$TRAFFIC_DIR/$1/warrend.sock in_ns ext "$WARREN_DIST/warren" status -o json 2>&1 |
    jq -r '"\(.hold // "")\n\(.sources[] | "\(.inSync) \(.error // "")")\n\(.problems[] | "\(.code) \(.about): \(.message) (\(.hint // "no hint"))")"'
}
ext_says() {
  local text word
  text=$(ext_status "$1")
  shift
  for word; do [[ $text == *"$word"* ]] || { printf 'no "%s" in:\n%s\n' "$word" "$text" && return 1; }; done
}
ext_ends() {
  proc_kill "$TRAFFIC_DIR/server.$1" TERM 5
  in_ns ext "$WARREN_DIST/warren" cleanup --config "$TRAFFIC_DIR/$1/warrend.yaml" >/dev/null 2>&1 || :
}

# --- etcd: under traffic ---------------------------------------------------------------------------------------------------

tap_ok 'etcd: the lab comes up' up --hosts 3 --store etcd --backend vxlan
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1
tap_ok 'etcd: its agents have a short time to live' impatient
before=$(routes h1)
tap_is 'etcd: h1 has a route to each of the two others' "$(wc -l <<<"$before")" 2
stream_echo ipv4 h1/p1 h2/p1

tap_ok 'etcd down: it ends' stop_etcd
tap_ok 'etcd down: status names the endpoint and what it said' busywait 20 source_says h1 192.0.2.2:2379
tap_is 'etcd down: every route stays' "$(routes h1)" "$before"
tap_ok 'etcd down: it comes back' etcd_again
tap_ok 'etcd down: and all are in sync again' busywait 30 each_host source_in_sync

tap_ok 'etcd stopped: it gets SIGSTOP' signal_etcd STOP
tap_ok 'etcd stopped: status says that it does not answer' busywait 40 source_says h1 192.0.2.2:2379
tap_is 'etcd stopped: every route stays' "$(routes h1)" "$before"
tap_ok 'etcd stopped: SIGCONT' signal_etcd CONT
tap_ok 'etcd stopped: and all are in sync again' busywait 30 each_host source_in_sync

# h3 alone cannot reach etcd while the model changes and its history is thrown away.
cut() {
  in_ns "$1" nft -f - <<'NFT'
table inet cut {
	chain output {
		type filter hook output priority 0; policy accept;
		tcp dport 2379 drop
	}
	chain input {
		type filter hook input priority 0; policy accept;
		tcp sport 2379 drop
	}
}
NFT
}
x1_gone() { lacks_route "$1" 10.244.77.0/24; }
compact() { etcdctl_on compaction "$(etcdctl_on get x -w json | jq .header.revision)"; }
tap_ok 'compacted: h3 is cut off from etcd' cut h3
tap_ok 'compacted: meanwhile a node is written' apply h1 < <(node_document x1 192.0.2.99 10.244.77.0/24)
tap_ok 'compacted: h1 has a route to it' busywait 10 has_route h1 10.244.77.0/24
tap_ok 'compacted: etcd forgets its history' compact
tap_ok 'compacted: h3 knows nothing of it' lacks_route h3 10.244.77.0/24
tap_ok 'compacted: h3 may reach etcd again' in_ns h3 nft delete table inet cut
tap_ok 'compacted: it has the route too' busywait 40 has_route h3 10.244.77.0/24
tap_ok 'compacted: the node is deleted again' on h2 delete node/x1
tap_ok 'compacted: and its route goes everywhere' busywait 10 each_host x1_gone

# (The keys of liveness come back at once: they say who runs, not what the model is.)
wipe() { etcdctl_on del --prefix "" && ! etcdctl_on get --prefix --keys-only "" | grep -v -e '^$' -e /warren/live/; }
all_records() { [[ $(records) == 3 ]] || { records && return 1; }; }
all_without_problems() { each_host no_problems; }
tap_ok 'emptied: every key is deleted' wipe
for host in h1 h2 h3; do
  tap_ok "emptied: $host says STORE_EMPTY, what it does and what to do" busywait 10 says "$host" STORE_EMPTY 'warren apply'
done
tap_is 'emptied: every route stays' "$(routes h1)" "$before"
tap_ok 'emptied: warren apply of the Cluster' on h2 apply -f "$LAB_DIR/cluster.yaml"
tap_ok 'emptied: all records are written again' busywait 20 all_records
tap_ok 'emptied: nobody has a problem any more' busywait 20 all_without_problems
tap_ok 'emptied: all converge' all_converged
tap_is 'emptied: every route is as before' "$(routes h1)" "$before"
streams_end 'etcd down, stopped, compacted, emptied'

# --- etcd: names, addresses, dead nodes --------------------------------------------------------------------------------------

etcd_config="store: { etcd: { endpoints: [\"$(etcd_url)\"], prefix: /warren } }"
written_before=$(written h1)
agent_in_ext twin 'node: h1' 'liveTtl: 2' "$etcd_config"
twin_ended() { ! proc_alive "$TRAFFIC_DIR/server.twin" >/dev/null; }
tap_ok 'one name twice: the second agent ends' busywait 25 twin_ended
tap_ok 'one name twice: its last words name both and what to do' \
  file_says "$TRAFFIC_DIR/twin/log" 'Cannot run as node "h1"' "at 192.0.2.11" "pid $(proc_alive "$LAB_DIR/h1/warrend.pid")" 'at 192.0.2.1,' 'stop one of the two'
tap_ok 'one name twice: the first converges as ever' converged h1
tap_is 'one name twice: and had nothing to write' "$(written h1)" "$written_before"
ext_ends twin

tap_ok 'one address twice: a node publishes that of h2' apply h1 < <(node_document x2 192.0.2.12 10.244.88.0/24)
for host in h1 h2; do
  tap_ok "one address twice: $host names both" busywait 10 says "$host" DUPLICATE_ADDRESS 192.0.2.12 x2 h2
done
tap_ok 'one address twice: it is deleted' on h1 delete node/x2
tap_ok 'one address twice: nobody has a problem any more' busywait 10 all_without_problems

peer_state() { status_of "$1" | jq -r --arg peer "$2" '.peers[] | select(.name == $peer) | .state'; }
peer_is() { [[ $(peer_state "$1" "$2") == "$3" ]] || { peer_state "$1" "$2" && return 1; }; }
tap_ok 'dead node: warrend of h3 is killed' lab_run kill h3
tap_ok 'dead node: h1 sees it silent' busywait 15 peer_is h1 h3 silent
tap_is 'dead node: its route stays' "$(routes h1)" "$before"
tap_ok 'dead node: its pod answers' pings h1/p1 10.244.3.2
tap_ok 'dead node: warren delete node/h3' on h1 delete node/h3
tap_ok 'dead node: its route goes at h1' busywait 10 lacks_route h1 10.244.3.0/24
tap_ok 'dead node: and at h2' busywait 10 lacks_route h2 10.244.3.0/24
tap_ok 'dead node: it starts again' lab_run start h3
tap_ok 'dead node: with its block' busywait 10 has_route h1 10.244.3.0/24

stop_h3() { lab_run stop h3; }
no_traces_of() { ! etcdctl_on get --prefix /warren/ | grep -F "$1"; }
tap_ok 'leave: refused while warrend runs' fails on h3 cleanup --leave
tap_ok 'leave: h3 stops' stop_h3
tap_ok 'leave: warren cleanup --leave' on h3 cleanup --leave
tap_ok 'leave: no key in etcd has its name or block' no_traces_of h3
tap_ok 'leave: h1 drops its route' busywait 10 lacks_route h1 10.244.3.0/24
tap_ok 'leave: it may come again' lab_run start h3

# --- etcd: down while hosts start ----------------------------------------------------------------------------------------------

# A reboot takes links, routes and rules; etcd does not come up after it.
no_links() { ! ip -n "$(ns "$1")" -br link | grep wrn; }
saved() { [[ -s $LAB_DIR/h2/state/snapshot.json ]]; }
tap_ok 'no etcd at start: h2 has its last good model on disk' busywait 10 saved
tap_ok 'no etcd at start: etcd ends' stop_etcd
for host in h2 h3; do
  lab_run kill "$host"
  on "$host" cleanup >/dev/null
  rm -f "$LAB_DIR/$host/subnet.env"
done
rm -f "$LAB_DIR/h3/state/snapshot.json"
tap_ok 'no etcd at start: nothing of ours is left on h2' no_links h2
start_host h2
start_host h3
tap_ok 'no etcd at start: h2 has its block and bridge from the last good model' busywait 20 host_has_lease h2
attach_pods h2
tap_ok 'no etcd at start: its pod reaches h1' pings h2/p1 10.244.1.2 10
tap_ok 'no etcd at start: its status says that etcd does not answer' busywait 10 source_says h2 192.0.2.2:2379
tap_ok 'no etcd at start: h3, without a model, waits and says for what' busywait 15 source_says h3 192.0.2.2:2379
tap_is 'no etcd at start: nothing is written until then' "$(status_of h3 | jq -r '"\(.converged) \(.hold)"')" 'false waiting for its sources'
tap_ok 'no etcd at start: it has written nothing' no_links h3
ready() { in_ns "$1" curl -s -o /dev/null -w '%{http_code}' --unix-socket "$LAB_DIR/$1/warrend.sock" http://warren/readyz; }
tap_is 'no etcd at start: it is not ready' "$(ready h3)" 503
tap_ok 'no etcd at start: etcd comes' etcd_again
tap_ok 'no etcd at start: all converge' all_converged
attach_pods h3
tap_ok 'no etcd at start: the pod of h3 reaches h1' pings h3/p1 10.244.1.2
tap_is 'no etcd at start: h3 is ready' "$(ready h3)" 200

# --- etcd: behind TLS ------------------------------------------------------------------------------------------------------------

# certificate NAME CA SUBJECT-ALT: in $tls
tls=$TRAFFIC_DIR/tls
authority() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -keyout "$tls/$1.key" -out "$tls/$1.crt" 2>/dev/null; }
certificate() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$tls/$1.key" -out "$tls/$1.csr" 2>/dev/null
  openssl x509 -req -in "$tls/$1.csr" -CA "$tls/$2.crt" -CAkey "$tls/$2.key" -CAcreateserial -days 2 \
    -extfile <(printf 'subjectAltName=IP:%s\n' "$ETCD4") -out "$tls/$1.crt" 2>/dev/null
}
tls_etcd() {
  mkdir -p "$tls"
  authority ca && authority other-ca && certificate server ca && certificate client ca && certificate stranger other-ca || return
  ETCD_UNSUPPORTED_ARCH=$([[ $(uname -m) == x86_64 ]] || echo arm64) nsenter --net="/run/netns/$(ns sw)" etcd --name tls \
    --data-dir "$tls/data" --listen-client-urls "https://$ETCD4:2479" --advertise-client-urls "https://$ETCD4:2479" \
    --listen-peer-urls http://127.0.0.1:2480 --initial-advertise-peer-urls http://127.0.0.1:2480 \
    --initial-cluster tls=http://127.0.0.1:2480 --cert-file "$tls/server.crt" --key-file "$tls/server.key" \
    --trusted-ca-file "$tls/ca.crt" --client-cert-auth >"$tls/log" 2>&1 </dev/null &
  disown $!
  proc_save "$TRAFFIC_DIR/server.etcd" $!
}
tls_ready() {
  ETCDCTL_API=3 in_ns sw etcdctl --endpoints "https://$ETCD4:2479" --cacert "$tls/ca.crt" --cert "$tls/client.crt" --key "$tls/client.key" \
    endpoint health
}
tls_store() { printf 'store: { etcd: { endpoints: ["https://%s:2479"], tls: { ca: %s, cert: %s, key: %s } } }' "$ETCD4" "$tls/$1.crt" "$tls/$2.crt" "$tls/$2.key"; }
tls_etcd
tap_ok 'TLS: an etcd that asks for client certificates' busywait 15 tls_ready
agent_in_ext stranger 'node: e1' "$(tls_store ca stranger)"
tap_ok 'TLS: a certificate of another authority: status names etcd, what it refuses and what to do' \
  busywait 20 ext_says stranger "https://$ETCD4:2479" 'refuses our client certificate' 'tls.cert and tls.key'
ext_ends stranger
agent_in_ext distrust 'node: e2' "$(tls_store other-ca client)"
tap_ok 'TLS: an etcd whose authority is not ours: status names etcd, the field and what to do' \
  busywait 20 ext_says distrust "https://$ETCD4:2479" 'not signed by the CA in tls.ca' 'tls.ca must be'
ext_ends distrust
agent_in_ext friend 'node: e3' "$(tls_store ca client)"
tap_ok 'TLS: with the right ones it reads the store, which is empty, and says so' \
  busywait 20 ext_says friend STORE_EMPTY "https://$ETCD4:2479/warren" 'warren apply'
ext_ends friend
agent_in_ext nofile 'node: e4' "$(tls_store ca missing)"
tap_ok 'TLS: a certificate file that is not there is named' busywait 20 eval "ext_says nofile '$tls/missing' || file_says '$TRAFFIC_DIR/nofile/log' '$tls/missing'"
ext_ends nofile
proc_kill "$TRAFFIC_DIR/server.etcd" TERM 5
lab_run down 2>/dev/null

# --- the file store ------------------------------------------------------------------------------------------------------------

cat >"$TRAFFIC_DIR/small.yaml" <<'YAML'
apiVersion: warren/v1
kind: Cluster
metadata: { name: default }
spec:
  podCIDRs: [10.244.0.0/23]
  nodeSubnetLength: { ipv4: 24, ipv6: 64 }
  backend: { type: vxlan, vni: 1, port: 4789, directRouting: false }
  masquerade: true
YAML
tap_ok 'files: the lab comes up' up --hosts 2 --store file --cluster "$TRAFFIC_DIR/small.yaml"
lab_use "$LAB_NAME"
[[ -r $LAB_DIR/lab.env ]] || exit 1
tap_ok 'files: its agents have a short time to live' impatient
before=$(routes h1)
store=$LAB_DIR/cluster
stream_echo ipv4 h1/p1 h2/p1

agent_in_ext missing 'node: e5' "store: { file: $TRAFFIC_DIR/nowhere/cluster }"
tap_ok 'missing directory: status names it and says what to do' busywait 20 ext_says missing "$TRAFFIC_DIR/nowhere/cluster"
ext_ends missing

# said_meanwhile NAME WORDS...: h1 has a problem with these words, and forwards.
said_meanwhile() {
  local name=$1
  shift
  tap_ok "$name: status says $*" busywait 15 says h1 "$@"
  tap_is "$name: every route stays" "$(routes h1)" "$before"
}
well_again() {
  tap_ok "$1: no problem is left" busywait 20 all_without_problems
  tap_ok "$1: all converge" all_converged
}

mv "$store" "$store.away"
tap_ok 'directory gone: status names it' busywait 20 says h1 "$store"
tap_is 'directory gone: every route stays' "$(routes h1)" "$before"
mv "$store.away" "$store"
well_again 'directory gone: it is back'

# root may read everything unless it lacks two capabilities.
unprivileged() {
  lab_run stop h1
  nsenter --net="/run/netns/$(ns h1)" setpriv --inh-caps=-dac_override,-dac_read_search --bounding-set=-dac_override,-dac_read_search \
    "$WARREN_DIST/warrend" --config "$LAB_DIR/h1/warrend.yaml" >>"$LAB_DIR/h1/warrend.log" 2>&1 </dev/null &
  disown $!
  proc_save "$LAB_DIR/h1/warrend.pid" $!
  busywait 20 converged h1
}
tap_ok 'unreadable: h1 runs without the right to read everything' unprivileged
chmod 000 "$store"
said_meanwhile 'unreadable' "$store" "permission denied" 'run as root'
chmod 755 "$store"
well_again 'unreadable: it may be read again'
chmod 000 "$store/cluster.yaml"
said_meanwhile 'unreadable file' "$store/cluster.yaml" "permission denied"
chmod 644 "$store/cluster.yaml"
well_again 'unreadable file: it may be read again'
tap_ok 'unreadable: h1 runs as before' lab_run restart h1

# edit FILE: from stdin, as an editor does it: a new file in the place of the old one.
edit() {
  cat >"$store/.$1.new"
  mv "$store/.$1.new" "$store/$1"
}
cluster_with() { sed -E "s#^  $1: .*#  $1: $2#" "$TRAFFIC_DIR/small.yaml"; }
plan_says() {
  local out word
  out=$(on h1 plan 2>&1) || :
  for word; do [[ $out == *"$word"* ]] || { printf '%s\n' "$out" && return 1; }; done
}

cluster_with podCIDRs '[10.244.0.0/23' | edit cluster.yaml
said_meanwhile 'malformed YAML' "$store/cluster.yaml:" YAML
tap_ok 'malformed YAML: warren plan says it too' plan_says "$store/cluster.yaml:"
cluster_with podCIDRs '[10.244.0.1/23]' | edit cluster.yaml
said_meanwhile 'host bits' "$store/cluster.yaml:5" podCIDRs 10.244.0.1/23 10.244.0.0/23
cluster_with backend '{ type: vxlan, vni: 16777216 }' | edit cluster.yaml
said_meanwhile 'VNI out of range' "$store/cluster.yaml:7" vni 16777216 16777215
cluster_with backend '{ type: vxlan, port: 70000 }' | edit cluster.yaml
said_meanwhile 'port out of range' "$store/cluster.yaml:7" port 70000 65535
cluster_with masquerad true | sed 's/masquerade:/masquerad:/' | edit cluster.yaml
said_meanwhile 'unknown field' "$store/cluster.yaml:8" masquerad masquerade
tap_is 'bad documents: the last good version stays in force' "$(on h1 get cluster default -o json | jq -r '.spec.backend.vni // .[0].spec.backend.vni')" 1
edit cluster.yaml <"$TRAFFIC_DIR/small.yaml"
printf 'apiVersion: warren/v1\nkind: Clutser\nmetadata: { name: x }\nspec: {}\n' | edit other.yaml
said_meanwhile 'unknown kind' "$store/other.yaml:2" Clutser Cluster
rm "$store/other.yaml"
well_again 'bad documents: all are good again'

# Two blocks for three nodes.
exhausted=$(lab_run join 2>&1) || :
lab_use "$LAB_NAME"
tap_ok 'exhausted: the third node names the pool and what to do' busywait 15 says h3 EXHAUSTED 10.244.0.0/23 /24 podCIDRs
tap_is 'exhausted: the others forward as before' "$(routes h1)" "$before"
tap_ok "exhausted: and lab.sh join says that there is no lease" test "${exhausted/no lease/}" != "$exhausted"
streams_end 'file store missing, gone, unreadable, malformed; pool exhausted'

# h2 dies; with no grace its block goes to h3.
block=$(status_of h2 | jq -r '.lease.ipv4')
tap_ok 'dead block: h2 is killed' lab_run kill h2
printf 'leaseGrace: 0\n' >>"$LAB_DIR/h3/warrend.yaml"
has_block() { [[ $(status_of h3 | jq -r '.lease.ipv4') == "$1" ]] || { problems h3 && return 1; }; }
lab_run stop h3
start_host h3
tap_ok 'dead block: h3, which keeps no grace, gets it' busywait 30 has_block "$block"
vtep() { ip -n "$(ns "$1")" -j link show wrn-ovl | jq -r '.[0].address'; }
block_at() {
  local mac
  mac=$(ip -n "$(ns h1)" -j neigh show dev wrn-ovl | jq -r --arg ip "${block%/*}" '.[] | select(.dst == $ip) | .lladdr')
  [[ $mac == "$(vtep h3)" ]] || { printf '%s is at %s, want %s\n' "$block" "$mac" "$(vtep h3)" && return 1; }
}
tap_ok 'dead block: h1 sends it to h3' busywait 10 block_at
attach_pods h3
tap_ok 'dead block: plugged in there, a pod answers' pings h1/p1 "$(pod_address ipv4 h3/p1)"
start_host h2
tap_ok 'dead block: h2 comes back, has no block and says so' busywait 15 says h2 EXHAUSTED
tap_ok 'dead block: and the block stays where it is' block_at

tap_done
