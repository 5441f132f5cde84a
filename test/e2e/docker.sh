#!/usr/bin/env bash
# Docker and CNI beside warrend: two hosts of a lab, each with a real dockerd of its own (its network namespace and a
# private mount namespace), first on wrn0 (--bridge), then on docker0 (--bip, from subnet.env); FORWARD policy DROP by
# Docker in iptables-nft and iptables-legacy; CNI's bridge plugin with flannel's `delegate`.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"

lab=$WARREN_ROOT/scripts/lab.sh
name=td$$
state=${WARREN_LAB_DIR:-/run/warren-lab}/$name
work=$(mktemp -d)
cgroup=warren-$name
docker=/usr/bin/docker dockerd=/usr/sbin/dockerd cni=/usr/lib/cni
hosts=(h1 h2)
mount_points=()

# --- hosts -----------------------------------------------------------------------------------------------------------

run() {
  local command=$1
  shift
  "$lab" "$command" --name "$name" "$@"
}
in_net() {
  local host=$1
  shift
  nsenter --net="/run/netns/wl-$name-$host" "$@"
}
warren_on() {
  local host=$1
  shift
  WARREN_SOCKET=$state/$host/warrend.sock in_net "$host" "${WARREN_DIST:-$WARREN_ROOT/dist}/warren" "$@"
}
converged() { for host in "${hosts[@]}"; do warren_on "$host" wait --converged --timeout 10s; done; }
env_of() { sed -n "s/^$2=//p" "$state/$1/subnet.env"; }

# dockerd's plugin sockets, shims' sockets and firewalld's bus: hidden, each host has its own.
start_holder() {
  local host=$1
  mkdir -p "$work/$host"
  # shellcheck disable=SC2016 # expanded by the inner shell
  setsid unshare -m --propagation private nsenter --net="/run/netns/wl-$name-$host" bash -c '
    mount -t tmpfs tmpfs /run/docker && mount -t tmpfs tmpfs /run/containerd || exit
    [[ ! -d /run/dbus ]] || mount -t tmpfs tmpfs /run/dbus
    touch "$1"
    exec sleep 3600' holder "$work/$host/held" >/dev/null 2>&1 </dev/null &
  disown $!
  proc_save "$work/$host/holder.pid" $!
  busywait 5 test -e "$work/$host/held"
}

# start_docker HOST VARIANT ARGS...: dockerd calls whatever is called "iptables" first on PATH.
start_docker() {
  local host=$1 variant=$2 holder
  shift 2
  holder=$(proc_alive "$work/$host/holder.pid")
  PATH=$work/$variant:$PATH setsid nsenter -t "$holder" -m -n -- "$dockerd" --config-file "$work/daemon.json" \
    --data-root "$work/$host/data" --exec-root "$work/$host/exec" --pidfile "$work/$host/pid" -H "unix://$work/$host/sock" \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$cgroup" --ip-masq=false "${direct[@]}" "$@" \
    >>"$work/$host/log" 2>&1 </dev/null &
  disown $!
  proc_save "$work/$host/dockerd.pid" $!
  busywait 30 docker_settled "$host" >/dev/null && docker_on "$host" version >/dev/null
}
docker_settled() { ! proc_alive "$work/$1/dockerd.pid" >/dev/null || docker_on "$1" version; }

# Its containerd outlives it by a moment; a new dockerd would trip over that.
stop_docker() {
  local host=$1 child pid
  child=$work/$host/exec/containerd/containerd.pid
  if [[ -s $child ]] && pid=$(<"$child"); then proc_save "$work/$host/containerd.pid" "$pid" || :; fi
  proc_kill "$work/$host/dockerd.pid" TERM 15
  [[ ! -e $work/$host/containerd.pid ]] || busywait 10 lib_proc_gone "$work/$host/containerd.pid" ||
    proc_kill "$work/$host/containerd.pid" KILL
}
docker_on() {
  local host=$1
  shift
  DOCKER_CONFIG=$work "$docker" -H "unix://$work/$host/sock" "$@"
}
remove_containers() {
  local ids
  ids=$(docker_on "$1" ps -aq 2>/dev/null) || return 0
  # shellcheck disable=SC2086 # one word each
  [[ -z $ids ]] || docker_on "$1" rm -f $ids >/dev/null
}

cleanup() {
  local host path pid
  for host in "${hosts[@]}"; do
    {
      [[ ! -S $work/$host/sock ]] || remove_containers "$host"
      stop_docker "$host"
    } 2>/dev/null &
  done
  wait
  # After a crash of dockerd: what still runs in its containers.
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" 2>/dev/null | while read -r path; do
    while read -r pid; do kill -KILL "$pid" 2>/dev/null; done <"$path/cgroup.procs"
    busywait 2 rmdir "$path" >/dev/null 2>&1
  done
  for host in "${hosts[@]}"; do proc_kill "$work/$host/holder.pid" KILL; done
  for path in "/run/netns/wt-$$-"*; do [[ ! -e $path ]] || ip netns delete "${path##*/}"; done
  "$lab" down --name "$name" 2>/dev/null
  rm -rf --one-file-system "$work"
  for path in "${mount_points[@]}"; do rmdir "$path" 2>/dev/null; done
}
on_exit cleanup

# --- what is looked at ---------------------------------------------------------------------------------------------------

# The filter and nat tables without counters and dates; VARIANT nft or legacy.
saved() { in_net "$1" "iptables-$2-save" | sed -E '/^#/d; s/\[[0-9]+:[0-9]+\]/[0:0]/'; }
foreign() { saved "$1" "$2" | grep -v WRN-; }
# jump_is_first HOST VARIANT CHAIN: and there once, with rules behind it.
jump_is_first() {
  local all
  all=$(saved "$1" "$2")
  [[ $(grep -m 1 -- "-A $3 " <<<"$all") == "-A $3 -m comment --comment warren -j WRN-$3" ]] &&
    [[ $(grep -c -- "-j WRN-$3" <<<"$all") == 1 ]] && grep -q -- "-A WRN-$3 .* -j ACCEPT" <<<"$all" && return
  printf '%s\n' "$all"
  return 1
}
# tap_back NAME HOST VARIANT: within 2 s even on a busy machine; how long it took is said.
tap_back() {
  local started now
  now_ms started
  tap_ok "$1" busywait 2 jump_is_first "$2" "$3" FORWARD
  now_ms now
  printf '# seen again after %d ms\n' $((now - started))
}
nothing_of_ours() { ! saved "$1" "$2" | grep WRN-; }
policy() { saved "$1" "$2" | sed -n "/^\*filter/,/^COMMIT/s/^:$3 \([A-Z]*\) .*/\1/p"; }
by_hand() { # HOST VARIANT ARGS
  local host=$1 variant=$2
  shift 2
  in_net "$host" "iptables-$variant" -w 10 "$@"
}
repaired_by() { # HOST HAND: the newest repair of the jump
  warren_on "$1" events -o json | jq -s -e --arg hand "$2" \
    '[.[] | select(.table == "jump" and .cause == "drift")] | last | .hand | startswith($hand)' >/dev/null ||
    { warren_on "$1" events | grep jump && return 1; }
}
address() { docker_on "$1" exec "$2" ip -4 -o addr show dev eth0 | awk '{ sub("/.*", "", $4); print $4 }'; }
mtu() { docker_on "$1" exec "$2" cat /sys/class/net/eth0/mtu; }
pings() { docker_on "$1" exec "$2" ping -c 2 -i 0.2 -w 8 "$3"; }
# busybox's own -T ends in a crash of a static wget.
# Who the web server at ADDRESS says we are.
seen_as() { docker_on "$1" exec "$2" timeout 5 wget -q -O - "http://$3:8080/cgi-bin/who" | sed 's/^\[::ffff:\(.*\)\]$/\1/'; }
download() { docker_on "$1" exec "$2" timeout 10 wget -q -O - "http://$3:8080/big" | wc -c; }
serve() { # HOST NAME
  # The mark of scripts/test.sh, by which it finds what a crashed suite left.
  docker_on "$1" run -d --name "$2" -e WARREN_TEST_RUN wt/web httpd -f -p 8080 -h /www >/dev/null
}
both_ping() { pings h1 aa "$b" && pings h2 bb "$a"; }
bridge_nf() { in_net "$1" cat /proc/sys/net/bridge/bridge-nf-call-{ip,ip6,arp}tables 2>/dev/null | tr '\n' ' '; }
nf_call() { in_net "$1" ip -j -d link show "$2" | jq -c '.[0].linkinfo.info_data | [.nf_call_iptables, .nf_call_ip6tables]'; }
bridged_counted() { # HOST: packets that WRN-FORWARD let through
  in_net "$1" iptables-nft-save -c -t filter | sed -n 's/^\[\([0-9]*\):.*-A WRN-FORWARD -s .*/\1/p'
}

make_image() {
  local root=$work/image busybox applet
  busybox=$(command -v busybox)
  mkdir -p "$root"/{bin,etc,proc,sys,dev,tmp,www/cgi-bin}
  cp "$busybox" "$root/bin/busybox"
  # Debian's "busybox" is dynamic, "busybox-static" is not.
  ldd "$busybox" 2>/dev/null | grep -o '/[^ ]*' | while read -r applet; do cp -L --parents "$applet" "$root"; done || :
  for applet in sh ip ping wget timeout httpd cat; do ln -s busybox "$root/bin/$applet"; done
  # shellcheck disable=SC2016 # expanded by the server
  printf '%s\n' '#!/bin/sh' 'printf "\n%s\n" "$REMOTE_ADDR"' >"$root/www/cgi-bin/who"
  chmod 755 "$root/www/cgi-bin/who"
  head -c 1000000 /dev/zero >"$root/www/big"
  tar -C "$root" -cf "$work/image.tar" .
}

# --- can it run here? ------------------------------------------------------------------------------------------------------

need_root
for path in "$dockerd" "$docker" "$(command -v busybox || echo busybox)"; do
  if [[ ! -x $path ]]; then
    tap_skip 'docker: containers of two hosts reach each other' "$path is not there (apt-get install docker.io busybox-static)"
    tap_done
    exit
  fi
done
for path in /run/docker /run/containerd; do
  [[ -d $path ]] || { mkdir "$path" && mount_points+=("$path"); }
done
echo '{}' >"$work/daemon.json"
direct=()
# Docker 28 drops what is routed to a container unless told otherwise.
! "$dockerd" --help | grep -q -- '--allow-direct-routing' || direct=(--allow-direct-routing)
for variant in nft legacy; do
  mkdir "$work/$variant"
  for path in iptables ip6tables; do
    ! command -v "$path-$variant" >/dev/null || ln -s "$(readlink -f "$(command -v "$path-$variant")")" "$work/$variant/$path"
  done
done
make_image
root_before=$(ip -o link && ip route show table all && ip rule && nft list tables && cat /proc/sys/net/bridge/* 2>/dev/null)

run up --hosts 2 --pods 0 2>"$work/why" || die "the lab does not come up: $(<"$work/why")"
found=$(bridge_nf h1)
for host in "${hosts[@]}"; do start_holder "$host"; done
if ! start_docker h1 nft --bridge=none >"$work/why" 2>&1; then
  reason=$(tail -n 1 "$work/h1/log" | cut -c 1-200)
  tap_skip 'docker: containers of two hosts reach each other' "dockerd does not run here: $reason"
  tap_done
  exit
fi
stop_docker h1

# --- 1. dockerd on wrn0, iptables-nft, vxlan ----------------------------------------------------------------------------

mtu=$(env_of h1 FLANNEL_MTU)
# While warrend is away, and with forwarding off: only a dockerd that turned it on itself sets the policy.
for host in "${hosts[@]}"; do
  run stop "$host" 2>/dev/null
  in_net "$host" sysctl -q -w net.ipv4.ip_forward=0
  start_docker "$host" nft --bridge=wrn0 --mtu="$mtu" &
done
wait
tap_is 'docker: dockerd has set policy DROP on FORWARD' "$(policy h1 nft FORWARD)" DROP
alone=$(saved h2 nft)
for host in "${hosts[@]}"; do run start "$host" 2>/dev/null & done
wait
for host in "${hosts[@]}"; do
  tap_ok "docker: on $host one jump of ours stands first" busywait 2 jump_is_first "$host" nft FORWARD
done
for host in "${hosts[@]}"; do docker_on "$host" import "$work/image.tar" wt/web >/dev/null; done
serve h1 aa
serve h2 bb
serve h1 cc
a=$(address h1 aa) b=$(address h2 bb) c=$(address h1 cc)
subnet=$(env_of h1 FLANNEL_SUBNET)
tap_is 'wrn0: a container has an address of the node'\''s block' "${a%.*}" "${subnet%.*}"
subnet=$(env_of h2 FLANNEL_SUBNET)
tap_is 'wrn0: and on the other host one of that block' "${b%.*}" "${subnet%.*}"
tap_is 'wrn0: a container has the MTU of subnet.env' "$(mtu h1 aa)" "$mtu"
tap_ok 'wrn0, vxlan: containers of two hosts ping each other' both_ping
tap_is 'wrn0, vxlan: a container sees the address of the other host'\''s container' "$(seen_as h1 aa "$b")" "$a"
tap_is 'wrn0, vxlan: a megabyte comes across' "$(download h1 aa "$b")" 1000000

(exec nsenter --net="/run/netns/wl-$name-ext" busybox httpd -f -p 8080 -h "$work/image/www") >/dev/null 2>&1 &
disown $!
proc_save "$work/web.pid" $!
on_exit proc_kill "$work/web.pid"
tap_is 'wrn0: the world outside sees the node'\''s address' "$(busywait 5 seen_as h1 aa 198.51.100.1)" 192.0.2.11
tap_is 'wrn0: Docker masquerades nothing itself' "$(saved h1 nft | grep -c MASQUERADE)" 0

counted=$(bridged_counted h1)
tap_ok 'wrn0: two containers on one bridge ping each other' pings h1 aa "$c"
tap_is 'wrn0: bridge-nf-call-* of the host are as found' "$(bridge_nf h1)" "$found"
if [[ -n $found ]]; then
  tap_is 'wrn0: has nf_call_iptables and nf_call_ip6tables of its own' "$(nf_call h1 wrn0)" '[1,1]'
  # With the host's switch off only the bridge's own is left.
  in_net h1 sysctl -q -w net.bridge.bridge-nf-call-iptables=0
  counted=$(bridged_counted h1)
  pings h1 aa "$c" >/dev/null || :
  tap_ok 'wrn0: bridged packets pass iptables by that alone' test "$(bridged_counted h1)" -gt "$counted"
  in_net h1 sysctl -q -w net.bridge.bridge-nf-call-iptables=1
else
  tap_skip 'wrn0: nf_call_iptables' 'this kernel has no br_netfilter'
fi

# --- 2. others at iptables-nft --------------------------------------------------------------------------------------------

before=$(foreign h1 nft)
by_hand h1 nft -F FORWARD
by_hand h1 nft -P FORWARD DROP
tap_back 'nft: after iptables -F FORWARD the jump is back' h1 nft
tap_ok 'nft: warren events names the hand' busywait 2 repaired_by h1 iptables
tap_ok 'nft: containers reach each other with no rule of Docker left' both_ping
stop_docker h1
start_docker h1 nft --bridge=wrn0 --mtu="$mtu"
tap_ok 'nft: after a restart of dockerd the jump is first within 2 s' busywait 2 jump_is_first h1 nft FORWARD
tap_is 'nft: Docker'\''s rules are what they were' "$(foreign h1 nft)" "$before"
docker_on h1 start aa >/dev/null
a=$(address h1 aa)
tap_ok 'nft: containers reach each other after that' both_ping
for host in "${hosts[@]}"; do by_hand "$host" nft -P INPUT DROP; done
for host in "${hosts[@]}"; do
  tap_ok "nft: INPUT policy DROP on $host: a jump there too" busywait 2 jump_is_first "$host" nft INPUT
done
tap_ok 'nft: INPUT policy DROP: containers of two hosts ping each other' both_ping
subnet=$(env_of h1 FLANNEL_SUBNET)
tap_ok 'nft: INPUT policy DROP: a container pings its gateway' pings h1 aa "${subnet%/*}"
for host in "${hosts[@]}"; do by_hand "$host" nft -P INPUT ACCEPT; done

# --- 3. CNI on wrn0 -------------------------------------------------------------------------------------------------------

# cni HOST COMMAND NAMESPACE: what flannel's plugin hands to its delegate {bridge: wrn0}.
cni() {
  local subnet
  subnet=$(env_of "$1" FLANNEL_SUBNET)
  jq -n --arg subnet "${subnet%.*}" --argjson mtu "$(env_of "$1" FLANNEL_MTU)" --arg dir "$work/$1/ipam" '{
      cniVersion: "0.4.0", name: "cbr0", type: "bridge", bridge: "wrn0", isGateway: true, ipMasq: false, mtu: $mtu,
      ipam: { type: "host-local", dataDir: $dir, routes: [{ dst: "10.244.0.0/16" }],
        ranges: [[{ subnet: ($subnet + ".0/24"), rangeStart: ($subnet + ".200"), rangeEnd: ($subnet + ".220") }]] } }' |
    CNI_COMMAND=$2 CNI_CONTAINERID=$3 CNI_NETNS=/run/netns/$3 CNI_IFNAME=eth0 CNI_PATH=$cni in_net "$1" "$cni/bridge"
}
if [[ -x $cni/bridge && -x $cni/host-local ]]; then
  ip netns add "wt-$$-c1"
  ip netns add "wt-$$-c2"
  tap_ok 'cni: bridge on wrn0, ADD on h1' cni h1 ADD "wt-$$-c1"
  tap_ok 'cni: bridge on wrn0, ADD on h2' cni h2 ADD "wt-$$-c2"
  subnet=$(env_of h2 FLANNEL_SUBNET)
  tap_ok 'cni: pods of two hosts ping each other' ip netns exec "wt-$$-c1" ping -n -c 2 -i 0.2 -w 8 "${subnet%.*}.200"
  tap_ok 'cni: a pod pings a container of the other host' ip netns exec "wt-$$-c1" ping -n -c 2 -i 0.2 -w 8 "$b"
  tap_is 'cni: a pod has the MTU of subnet.env' \
    "$(ip -n "wt-$$-c1" -j link show dev eth0 | jq '.[0].mtu')" "$mtu"
  tap_ok 'cni: DEL' cni h1 DEL "wt-$$-c1"
  cni h2 DEL "wt-$$-c2" >/dev/null || :
else
  tap_skip 'cni: pods of two hosts ping each other' "$cni/bridge is not there (apt-get install containernetworking-plugins)"
fi

# --- 4. dockerd goes ------------------------------------------------------------------------------------------------------

for host in "${hosts[@]}"; do remove_containers "$host"; done
for host in "${hosts[@]}"; do stop_docker "$host" & done
wait
tap_ok 'nft: with dockerd stopped the policy stays, and so does our jump' jump_is_first h2 nft FORWARD
for host in "${hosts[@]}"; do by_hand "$host" nft -P FORWARD ACCEPT; done
tap_ok 'nft: with policy ACCEPT again the jump goes within 2 s' busywait 2 nothing_of_ours h2 nft
tap_is 'nft: Docker'\''s tables are byte for byte what they were without us' "$(saved h2 nft)" "${alone/:FORWARD DROP/:FORWARD ACCEPT}"
tap_ok 'nft: on h1 the jump goes too' busywait 2 nothing_of_ours h1 nft
for host in "${hosts[@]}"; do
  by_hand "$host" nft -F
  by_hand "$host" nft -t nat -F
  by_hand "$host" nft -X
  by_hand "$host" nft -t nat -X
done

# --- 5. podBridge: none, docker0 from subnet.env; h2 with iptables-legacy -------------------------------------------------------

second=legacy
if ! why=$(unshare -n iptables-legacy -w 10 -S 2>&1); then
  second=nft
  tap_skip 'legacy: the jump in iptables-legacy' "no iptables-legacy here: ${why%%$'\n'*}"
fi
for host in "${hosts[@]}"; do
  sed -i 's/^podBridge: .*/podBridge: none/' "$state/$host/warrend.yaml"
  { run stop "$host" && run start "$host"; } 2>/dev/null &
done
wait
docker0_on() {
  local subnet
  subnet=$(env_of "$1" FLANNEL_SUBNET)
  start_docker "$1" "$2" --bip="$subnet" --mtu="$(env_of "$1" FLANNEL_MTU)"
}
docker0_on h2 "$second" &
docker0_on h1 nft
wait
# Forwarding was on already, so this dockerd leaves the policy alone; others (ufw, firewalld) do not.
by_hand h1 nft -P FORWARD DROP
by_hand h2 "$second" -P FORWARD DROP
tap_ok 'docker0: the jump stands in iptables-nft of h1' busywait 2 jump_is_first h1 nft FORWARD
tap_ok "docker0: the jump stands in iptables-$second of h2" busywait 2 jump_is_first h2 "$second" FORWARD
alone=$(foreign h2 "$second")
serve h1 aa
serve h2 bb
a=$(address h1 aa) b=$(address h2 bb)
subnet=$(env_of h2 FLANNEL_SUBNET)
tap_is 'docker0: a container has an address of the node'\''s block' "${b%.*}" "${subnet%.*}"
tap_is 'docker0: and the MTU of subnet.env' "$(mtu h2 bb)" "$mtu"
tap_ok 'docker0, vxlan: containers of two hosts ping each other' both_ping
tap_is 'docker0, vxlan: a container sees the address of the other host'\''s container' "$(seen_as h1 aa "$b")" "$a"
tap_is 'docker0, vxlan: a megabyte comes across' "$(download h1 aa "$b")" 1000000
tap_is 'docker0: the world outside sees the node'\''s address' "$(seen_as h2 bb 198.51.100.1)" 192.0.2.12
if [[ -n $found ]]; then tap_is 'docker0: its own nf_call_iptables is left alone' "$(nf_call h2 docker0)" '[0,0]'; fi

by_hand h2 "$second" -F FORWARD
tap_back "$second: after iptables -F FORWARD the jump is back" h2 "$second"
tap_ok "$second: warren events names the hand as far as the kernel tells" busywait 2 repaired_by h2 iptables
remove_containers h2
stop_docker h2
docker0_on h2 "$second"
tap_ok "$second: after a restart of dockerd the jump is first within 2 s" busywait 2 jump_is_first h2 "$second" FORWARD
tap_is "$second: Docker's rules are what they were" "$(foreign h2 "$second")" "$alone"
serve h2 bb
b=$(address h2 bb)
by_hand h2 "$second" -P INPUT DROP
tap_ok "$second: INPUT policy DROP: a jump there too" busywait 2 jump_is_first h2 "$second" INPUT
tap_ok "$second: containers of two hosts ping each other" both_ping
by_hand h2 "$second" -P INPUT ACCEPT

# --- 6. host-gw -------------------------------------------------------------------------------------------------------------

sed -i -E 's/^( *backend:).*/\1 { type: host-gw }/' "$state/cluster/cluster.yaml"
routed() { in_net h1 ip route get "$b" | grep 'via 192.0.2.12 dev eth0'; }
tap_ok 'host-gw: the peer'\''s block is routed by its address' busywait 10 routed
tap_ok 'host-gw: both hosts converge' converged
tap_ok 'docker0, host-gw: containers of two hosts ping each other' both_ping
tap_is 'docker0, host-gw: a container sees the address of the other host'\''s container' "$(seen_as h2 bb "$a")" "$b"

remove_containers h2
stop_docker h2
by_hand h2 "$second" -P FORWARD ACCEPT
tap_ok "$second: with policy ACCEPT again the jump goes within 2 s" busywait 2 nothing_of_ours h2 "$second"
tap_is "$second: Docker's tables are what they were" "$(saved h2 "$second")" "${alone/:FORWARD DROP/:FORWARD ACCEPT}"

# --- 7. warren cleanup ------------------------------------------------------------------------------------------------------

by_hand h2 "$second" -P FORWARD DROP
busywait 2 jump_is_first h2 "$second" FORWARD >/dev/null || :
cleaned() { # HOST VARIANT: the policy DROP, Docker's rules and docker0 are there all along
  local before after
  before=$(foreign "$1" "$2" && in_net "$1" ip -br address show dev docker0)
  jump_is_first "$1" "$2" FORWARD && run stop "$1" && run exec "$1" warren cleanup || return
  after=$(saved "$1" "$2" && in_net "$1" ip -br address show dev docker0)
  [[ $after == "$before" ]] || { diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") && return 1; }
}
tap_ok 'nft: warren cleanup leaves what others have, beside a running dockerd' cleaned h1 nft
tap_ok "$second: warren cleanup leaves what others have" cleaned h2 "$second"
tap_is 'docker: nothing in the root namespace has changed' \
  "$(ip -o link && ip route show table all && ip rule && nft list tables && cat /proc/sys/net/bridge/* 2>/dev/null)" "$root_before"

tap_done
