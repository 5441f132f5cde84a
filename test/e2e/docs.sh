#!/usr/bin/env bash
# Documents followed to the letter: every block of docs/first-cluster.md and docs/store.md that begins with "# on HOSTS" is run on
# those hosts, at once, one block after the other, and none may fail. A host is a network, a mount and a pid namespace with
# /etc, /run and /var/lib of its own; each page begins with new ones.
#
#   wt-PID-sw: br0 .--------.---------.
#               h1 .11   h2 .12    h3 .13     192.0.2.0/24, a default route by .1 (nobody)
#
# systemctl and apt are stand-ins here (test/e2e/systemd.sh and install.sh have the real ones): warrend and etcd are started as
# their units would start them, with the files that the document wrote.
#
# Usage: docs.sh [PAGE...]; SHOW=1 prints what the blocks printed.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"

(($# > 0)) || set -- "$WARREN_ROOT/docs/first-cluster.md" "$WARREN_ROOT/docs/store.md"
dist=${WARREN_DIST:-$WARREN_ROOT/dist}
readonly HOSTS=(h1 h2 h3)
top=$(mktemp -d)
work=$top
prefix=wt-$$

remove_hosts() {
  local host
  for host in "${HOSTS[@]}"; do
    # The first process of its pid namespace: all others end with it, and so do the namespaces that they made.
    proc_kill "$work/$host.pid" KILL
    ip netns delete "$prefix-$host" 2>/dev/null || :
  done
  ip netns delete "$prefix-sw" 2>/dev/null || :
}
cleanup() {
  remove_hosts
  rm -rf "$top"
}
on_exit cleanup

make_host() {
  local host=$1 address=$2
  ip netns add "$prefix-$host"
  ip -n "$prefix-sw" link add "$host" type veth peer name eth0 netns "$prefix-$host"
  ip -n "$prefix-sw" link set "$host" master br0 up
  ip -n "$prefix-$host" link set lo up
  ip -n "$prefix-$host" link set eth0 up
  ip -n "$prefix-$host" address add "$address/24" dev eth0
  ip -n "$prefix-$host" route add default via 192.0.2.1
  # shellcheck disable=SC2016 # expanded by the inner shell
  nsenter --net="/run/netns/$prefix-$host" unshare --mount --uts --pid --fork --mount-proc --propagation private sh -e -c '
    hostname "$1"
    mkdir -p "$2"
    mount -t tmpfs tmpfs "$2"
    for dir in etc var/lib root; do
      mkdir -p "$2/$dir/upper" "$2/$dir/work"
      mount -t overlay overlay -o "lowerdir=/$dir,upperdir=$2/$dir/upper,workdir=$2/$dir/work" "/$dir"
    done
    mount -t sysfs sysfs /sys
    mount -t tmpfs tmpfs /run
    : >"$2.ready"
    exec sleep infinity' sh "$host" "$work/$host" </dev/null >"$work/$host.log" 2>&1 &
  local holder=$! first
  disown "$holder"
  busywait 5 test -e "$work/$host.ready"
  first=$(pgrep -P "$holder")
  proc_save "$work/$host.pid" "$first"
}

# on HOST: runs the script on standard input there, as root's shell would.
on() {
  nsenter --target "$(proc_alive "$work/$1.pid")" --mount --net --uts --pid env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
    ${WARREN_TEST_RUN:+WARREN_TEST_RUN="$WARREN_TEST_RUN"} \
    PATH="$work/bin:$dist:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    bash -o errexit -o pipefail -s
}

# block FILE: as it is typed, in root's home. A look that finds something at that moment is no failure: a doctor (exit 1 and 2: on
# a busy machine etcd is slow), a status while another host joins (1), a plan with something in it (2).
block() {
  echo cd
  sed -E 's/^warren (doctor|status|plan .*)$/& || [ $? -le 2 ]/' "$1"
}

# Stand-ins, in front of PATH.
make_tools() {
  mkdir "$work/bin"
  cat >"$work/bin/systemctl" <<'SH'
#!/bin/bash
# Enough of systemctl for the document: starts warrend and etcd, and waits until they are ready.
case "$*" in
  'enable --now warrend' | 'restart warrend' | 'start warrend')
    [[ ! -e /run/warrend.pid ]] || kill "$(</run/warrend.pid)" || :
    setsid warrend </dev/null >>/run/warrend.log 2>&1 & echo $! >/run/warrend.pid
    for ((i = 0; i < 250; i++)); do [[ ! -S /run/warren/warrend.sock ]] || exit 0; sleep 0.02; done
    cat /run/warrend.log
    exit 1
    ;;
  'stop warrend' | 'disable --now warrend') kill "$(</run/warrend.pid)" && for ((i = 0; i < 250; i++)); do kill -0 "$(</run/warrend.pid)" 2>/dev/null || break; sleep 0.02; done && rm /run/warrend.pid ;;
  'restart etcd')
    export ETCD_DATA_DIR=/var/lib/etcd/default # as Debian's unit has it
    set -a && . /etc/default/etcd && set +a
    setsid etcd </dev/null >>/run/etcd.log 2>&1 &
    tls=(${ETCD_CERT_FILE:+--cacert "$ETCD_TRUSTED_CA_FILE" --cert "$ETCD_CERT_FILE" --key "$ETCD_KEY_FILE"})
    for ((i = 0; i < 250; i++)); do ETCDCTL_API=3 etcdctl --endpoints="$ETCD_ADVERTISE_CLIENT_URLS" "${tls[@]}" endpoint health >/dev/null 2>&1 && exit 0; sleep 0.02; done
    cat /run/etcd.log
    exit 1
    ;;
  *) echo "systemctl $*: this stand-in does not know it" >&2; exit 1 ;;
esac
SH
  printf '#!/bin/sh\nexit 0\n' >"$work/bin/apt"
  chmod 755 "$work/bin/"*
}

# read_blocks PAGE: as files $work/block-N, each with its hosts in block-N.hosts and its heading in block-N.name.
read_blocks() {
  awk -v out="$work/block-" '
    /^#+ / && !inside { sub(/^#+ /, ""); heading = $0 }
    /^```/ {
      if (inside) { if (file != "") close(file); inside = 0; file = ""; next }
      inside = 1; first = ($0 == "```sh"); next
    }
    inside && first {
      first = 0
      if ($0 !~ /^# on /) next
      n++; file = sprintf("%s%02d", out, n)
      hosts = $0; sub(/^# on /, "", hosts); sub(/[:,] .*/, "", hosts)
      print hosts > (file ".hosts"); close(file ".hosts")
      print heading > (file ".name"); close(file ".name")
      printf "" > file
    }
    inside && file != "" { print > file }' "$1"
}

hosts_of() {
  case $1 in
    'every host') printf '%s\n' "${HOSTS[@]}" ;;
    *) grep -oE 'h[1-3]' <<<"$1" ;;
  esac
}

# What was applied is in force when `warren wait` says so: "revision N" is followed by "converged at revision N" or later.
waited() {
  awk '$1 == "revision" { wrote = $2 } / converged at revision / { if ($5 < wrote) exit 1 }' "$@"
}

# walk PAGE
walk() {
  local title file name host hosts
  title=$(basename "$1" .md)
  work=$top/$title
  mkdir "$work"
  read_blocks "$1"
  make_tools
  ip netns add "$prefix-sw"
  ip -n "$prefix-sw" link add br0 type bridge stp_state 0 mcast_snooping 0
  ip -n "$prefix-sw" link set br0 up
  for host in "${HOSTS[@]}"; do
    if grep -qE "every host|$host" "$work"/*.hosts; then make_host "$host" "192.0.2.1${host#h}"; fi
  done
  for file in "$work"/block-[0-9][0-9]; do
    name="$title: $(<"$file.name"): $(sed -n 2p "$file")"
    mapfile -t hosts < <(hosts_of "$(<"$file.hosts")")
    local -A jobs=()
    for host in "${hosts[@]}"; do
      on "$host" < <(block "$file") >"$file.$host.out" 2>&1 &
      jobs[$host]=$!
    done
    for host in "${hosts[@]}"; do
      if ! wait "${jobs[$host]}"; then
        tap_ok "$name ... (on $host)" sh -c "cat '$file.$host.out'; exit 1"
        remove_hosts
        return
      fi
      [[ -z ${SHOW-} ]] || sed "s/^/#  $host  /" "$file.$host.out"
    done
    tap_ok "$name" true
  done
  tap_ok "$title: what was written was waited for" waited "$work"/*.out
  tap_is "$title: no ping lost a packet, not while the backend changed either" "$(grep -hE '[1-9][0-9.]*% packet loss' "$work"/*.out)" ''
  remove_hosts
}

for page in "$@"; do walk "$page"; done
tap_done
