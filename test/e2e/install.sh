#!/usr/bin/env bash
# The package and scripts/install.sh on a host under a real systemd: installed, used, upgraded under traffic, removed, purged, and
# then the kernel's tables and the disk as they were. The package carries its own Node; the release is what npm pack makes.
#
#   wt-PID-client              wt-PID-host: systemd, warrend
#  .---------------.         .-----------------------------------.      wt-PID-p1
#  | 192.0.2.20    +---------+ eth0 192.0.2.11                   |   .------------------.
#  | 2001:db8::20  |         |      2001:db8::11      wrn0       +---+ the node's block |
#  '---------------'         | Service 10.0.0.1 fd00:10::1       |   | echo, port 8080  |
#   TCP, UDP, all the time   |   port 1234, nodePort 31234       |   '------------------'
#                            '-----------------------------------'

# shellcheck disable=SC2016 # expanded by the shell inside, and by dpkg-query

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../../scripts/env.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh" # kill_inside
# shellcheck source=test/support/systemd.sh
. "$here/../support/systemd.sh"
# shellcheck source=test/support/clients.sh
. "$here/../support/clients.sh"

name=wt-$$
work=$(mktemp -d) share=$(mktemp -d)
clients_use "$name" "$work"

if why=$(systemd_missing); then
  tap_skip 'install: the package and install.sh' "$why"
  tap_done
  exit
fi
if [[ -n ${WARREN_DIST-} ]]; then need_node; else need_build; fi

cleanup() {
  local place
  systemd_down
  kill_inside "/run/netns/$name"-*
  for place in "/run/netns/$name"-*; do ip netns delete "${place##*/}"; done
  rm -rf "$work" "$share"
}
on_exit cleanup

# --- what is installed -------------------------------------------------------------------------------------------------

pack() {
  "$WARREN_ROOT/scripts/package.sh" --out "$share/deb" "$@" 2>/dev/null
}
make_packages() {
  # Other commits while this runs are no other package.
  SOURCE_DATE_EPOCH=$(date +%s)
  export SOURCE_DATE_EPOCH
  mkdir -p "$share/deb" "$share/release"
  deb=$(pack --compress gzip)
  newer=$(pack --compress none --version "$(jq -r .version "$WARREN_ROOT/package.json")+up1")
  (cd "$WARREN_ROOT" && npm pack --silent --ignore-scripts --pack-destination "$share/release" >/dev/null)
  tar --extract --gzip --file "$share"/release/*.tgz --directory "$share/release"
}
contents() {
  dpkg-deb --contents "$1" | grep -v 'warren/changelog\.gz$'
  dpkg-deb --ctrl-tarfile "$1" | tar --extract --to-stdout ./md5sums | grep -v 'warren/changelog\.gz$'
}
megabytes() { (($(stat -c %s "$1") <= $2 * 1000000)); }

# --- the places --------------------------------------------------------------------------------------------------------

make_places() {
  printf 'netns add %s\n' "$name-"{host,client,p1} | ip -batch -
  in_place host sysctl -qw net.ipv6.conf.default.accept_dad=0
  ip -n "$name-host" -batch - <<IP
link set lo up
link add eth0 type veth peer name eth0 netns $name-client
link set eth0 up
address add 192.0.2.11/24 dev eth0
address add 2001:db8::11/64 dev eth0 nodad
IP
  ip -n "$name-client" -batch - <<IP
link set lo up
link set eth0 up
address add 192.0.2.20/24 dev eth0
address add 2001:db8::20/64 dev eth0 nodad
route add default via 192.0.2.11
route add default via 2001:db8::11
IP
}

# plug: a pod on wrn0, with the second addresses of this node's block, as flannel's file tells them.
plug() {
  local block4 block6
  block4=$(systemd_in sed -n 's/^FLANNEL_SUBNET=//p' /run/flannel/subnet.env)
  block6=$(systemd_in sed -n 's/^FLANNEL_IPV6_SUBNET=//p' /run/flannel/subnet.env)
  pod4=${block4%1/*}2 pod6=${block6%1/*}2
  ip -n "$name-host" -batch - <<IP
link add p1 type veth peer name eth0 netns $name-p1
link set p1 master wrn0 up
IP
  ip -n "$name-p1" -batch - <<IP
link set lo up
link set eth0 up
address add $pod4/${block4#*/} dev eth0
address add $pod6/${block6#*/} dev eth0 nodad
route add default via ${block4%/*}
route add default via ${block6%/*}
IP
  run_in p1 tcp-p1 node "$WARREN_ROOT/test/support/tcp-echo.mjs" server 8080 p1
  run_in p1 udp-p1 node "$WARREN_ROOT/test/support/udp-echo.mjs" server 8080
  ready tcp-p1 && ready udp-p1
}
unplug() {
  proc_kill "$work/tcp-p1.pid"
  proc_kill "$work/udp-p1.pid"
  ip -n "$name-host" link delete p1
}

model() {
  cat <<YAML
apiVersion: warren/v1
kind: Cluster
metadata: { name: default }
spec: { podCIDRs: [10.244.0.0/16, "fd00:244::/48"], serviceCIDRs: [10.0.0.0/16, "fd00:10::/112"] }
---
apiVersion: warren/v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  clusterIPs: [10.0.0.1, "fd00:10::1"]
  ports:
    - { name: tcp, protocol: TCP, port: 1234, targetPort: 8080, nodePort: 31234 }
    - { name: udp, protocol: UDP, port: 1234, targetPort: 8080, nodePort: 31234 }
YAML
}
endpoints() {
  cat <<YAML
apiVersion: warren/v1
kind: Endpoints
metadata: { name: web-1 }
spec:
  service: web
  endpoints: [{ addresses: [$pod4, "$pod6"] }]
  ports: [{ name: tcp, port: 8080 }, { name: udp, protocol: UDP, port: 8080 }]
YAML
}

# --- the host ----------------------------------------------------------------------------------------------------------

running() { [[ $(systemd_in systemctl show warrend -P ActiveState -P StatusText) == *converged* ]] && systemd_in systemctl --quiet is-active warrend; }
main_pid() { systemd_in systemctl show -P MainPID warrend; }
another_pid() { running && [[ $(main_pid) != "$1" ]]; }
version() { systemd_in dpkg-query --show --showformat='${Version}' warren; }
apply() { systemd_in warren apply -f -; }
absent() { systemd_in sh -c 'for path; do [ ! -e "$path" ] || { echo "$path is there"; exit 1; }; done' sh "$@"; }
doctor_finds_nothing_bad() {
  local text
  text=$(systemd_in warren doctor -o json) || :
  jq -e '[.checks[] | select(.status == "bad")] == []' <<<"$text" >/dev/null || { printf '%s\n' "$text" && return 1; }
}

# What the kernel has that an agent could have left: one line each, in an order of its own.
kernel_list() {
  systemd_in bash -c '
    ip -o link | sed "s/^[0-9]*: //; s/@[^:]*:/:/; s/ qdisc .* state / state /; s/\\\\.*//"
    ip -o address | sed "s/^[0-9]*: //; s/ valid_lft.*//"
    ip route show table all | sed "s/ expires [^ ]*//"
    ip -6 route show table all | sed "s/ expires [^ ]*//"
    ip rule && ip -6 rule
    nft list ruleset
    for tool in iptables-nft-save ip6tables-nft-save iptables-legacy-save ip6tables-legacy-save; do
      $tool 2>/dev/null | grep -e WRN -e warren
    done
    ls /run/netns 2>/dev/null
    sysctl --all --pattern "^net\.(ipv4|ipv6)\.(conf\.(all|default|eth0)|ip_forward)" 2>/dev/null' | sort
}

# The files in the layer over this machine's root (nothing of it below), and folders and deletions there that are none below.
disk_list() {
  local pid upper path
  pid=$(proc_alive "$work/nspawn.pid")
  upper=/proc/$pid/root$work/mounts/upper
  # What dpkg, journald and systemd themselves write.
  (cd "$upper" && find . \( -path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/systemd/random-seed \
    -o -path ./var/lib/systemd/timers -o -path ./tmp -o -path ./var/tmp -o -path ./etc/ld.so.cache \) -prune -o -printf '%y %P\n') |
    sort | while read -r type path; do
    [[ $type == d && -d /$path ]] || printf '%s %s\n' "$type" "$path"
  done
}
same_as() { diff "$1" - >"$work/diff" || { cat "$work/diff" && return 1; }; }

converges() {
  model | apply
  busywait 15 systemd_in test -s /run/flannel/subnet.env && busywait 15 running
}
serves() {
  endpoints | apply
  busywait 10 answers
}

# --- the package -------------------------------------------------------------------------------------------------------

# Errors. Node's own binary is its makers' (scripts/deb/lintian-overrides) and would take a quarter of a minute: a small one stands
# for it, with the same overrides.
lintian_finds_nothing() {
  local tree=$work/lintian
  dpkg-deb --raw-extract "$deb" "$tree"
  cp /bin/true "$tree/usr/lib/warren/node/bin/node"
  (cd "$tree" && find usr etc -type f -exec md5sum {} + >DEBIAN/md5sums)
  dpkg-deb --root-owner-group -Zgzip -z1 --build "$tree" "$work/lintian.deb" >/dev/null
  rm -rf "$tree"
  lintian --fail-on none --tag-display-limit 0 "$work/lintian.deb" >"$work/lintian.out" 2>&1 || :
  ! grep '^E:' "$work/lintian.out" || return 1
}

package() {
  local pid out
  if command -v lintian >/dev/null; then
    tap_ok 'package: lintian finds no error' lintian_finds_nothing
  else
    tap_skip 'package: lintian finds no error' 'no lintian'
  fi
  tap_ok 'package: at most 60 MB, even by gzip' megabytes "$deb" 60
  # Built twice, with two versions: what differs is where the version stands.
  contents "$deb" >"$work/contents"
  tap_ok 'package: the same files and times from the same sources' same_as "$work/contents" < <(contents "$newer")
  out=$(systemd_in dpkg --install "/mnt/deb/${deb##*/}" 2>&1) || printf '# %s\n' "$out"
  tap_is 'package: it installs' "$(systemd_in dpkg-query --show --showformat='${db:Status-Abbrev}' warren)" 'ii '
  tap_is 'package: nothing is started' "$(systemd_in systemctl is-active warrend)" inactive
  tap_is 'package: nothing is enabled' "$(systemd_in systemctl is-enabled warrend)" disabled
  tap_is 'package: systemd-analyze verify finds nothing' "$(systemd_in systemd-analyze verify warrend.service 2>&1 && echo fine)" fine
  tap_ok 'package: systemctl enable --now' systemd_in systemctl enable --now warrend
  tap_is 'package: its own Node runs it' "$(systemd_in readlink "/proc/$(main_pid)/exe")" /usr/lib/warren/node/bin/node
  tap_is 'package: warren says its version' "$(systemd_in warren --version)" "$(jq -r .version "$WARREN_ROOT/package.json")"
  tap_ok 'package: a Cluster, and it converges' converges
  tap_ok 'package: warren status says so' systemd_in warren wait --converged --timeout 5s
  tap_ok 'package: warren doctor finds nothing bad' doctor_finds_nothing_bad
  plug
  tap_ok 'package: a Service in front of a pod answers' serves

  systemd_in sed -i 's/^#resyncInterval: 60/resyncInterval: 50/' /etc/warren/warrend.yaml
  pid=$(main_pid)
  traffic
  out=$(systemd_in dpkg --force-confdef --force-confold --install "/mnt/deb/${newer##*/}" 2>&1) || printf '# %s\n' "$out"
  tap_is 'upgrade: the newer version is there' "$(version)" "$(dpkg-deb --field "$newer" Version)"
  tap_ok 'upgrade: warrend runs again, another process' busywait 15 another_pid "$pid"
  traffic_end
  tap_ok 'upgrade: no TCP client is refused or cut' none_failed_since 0
  tap_ok 'upgrade: no datagram is lost' lost_at_most 0
  tap_ok 'upgrade: an edited configuration stays' systemd_in grep -qx 'resyncInterval: 50' /etc/warren/warrend.yaml

  unplug
  tap_ok 'package: its manual pages are found' systemd_in man -w warren warrend warrend.yaml
  tap_ok 'package: bash, zsh and fish complete' systemd_in ls /usr/share/bash-completion/completions/warren \
    /usr/share/zsh/vendor-completions/_warren /usr/share/fish/vendor_completions.d/warren.fish
  out=$(systemd_in dpkg --remove warren 2>&1) || printf '# %s\n' "$out"
  tap_ok 'remove: the kernel is as before' same_as "$work/kernel" < <(kernel_list)
  tap_ok 'remove: the configuration stays' systemd_in test -e /etc/warren/warrend.yaml
  tap_ok 'remove: the state stays' systemd_in test -d /var/lib/warren/cluster/.warren
  tap_ok 'remove: the programs go' absent /usr/lib/warren /usr/sbin/warrend /usr/bin/warren
  systemd_in dpkg --purge warren >/dev/null 2>&1 || :
  tap_ok 'purge: the disk is as before' same_as "$work/disk" < <(disk_list)
  tap_ok 'purge: and what is in /run' absent /run/warren /run/warren-netns.sock /run/flannel
}

# --- scripts/install.sh ------------------------------------------------------------------------------------------------

install() { systemd_in env NO_COLOR=1 /mnt/release/package/scripts/install.sh "$@"; }

release() {
  local pid
  tap_ok 'install.sh: it installs from a release' install
  tap_is 'install.sh: nothing is started' "$(systemd_in systemctl is-active warrend)" inactive
  tap_ok 'install.sh: systemctl enable --now' systemd_in systemctl enable --now warrend
  tap_ok 'install.sh: a Cluster, and it converges' converges
  plug
  tap_ok 'install.sh: a Service in front of a pod answers' serves
  disk_list | grep -v ' var/lib/warren/' >"$work/installed"
  pid=$(main_pid)
  traffic
  tap_ok 'install.sh: once more' install
  tap_ok 'install.sh: warrend runs again, another process' busywait 15 another_pid "$pid"
  traffic_end
  tap_ok 'install.sh: no TCP client is refused or cut' none_failed_since 0
  tap_ok 'install.sh: no datagram is lost' lost_at_most 0
  tap_ok 'install.sh: the same files are there' same_as "$work/installed" < <(disk_list | grep -v ' var/lib/warren/')

  tap_ok '--uninstall: it ends well' install --uninstall
  tap_ok '--uninstall: the programs go' absent /usr/local/lib/warren /usr/local/sbin/warrend /etc/systemd/system/warrend.service
  tap_ok '--uninstall: the configuration stays' systemd_in test -e /etc/warren/warrend.yaml
  tap_ok '--uninstall: the kernel forwards as before' answers
  unplug
  tap_ok '--uninstall: once more is no error' install --uninstall
  tap_ok '--purge: it ends well' install --purge
  tap_ok '--purge: the kernel is as before' same_as "$work/kernel" < <(kernel_list)
  tap_ok '--purge: the disk is as before' same_as "$work/disk" < <(disk_list)
  tap_ok '--purge: and what is in /run' absent /run/warren /run/warren-netns.sock /run/flannel
}

make_packages
make_places
mkdir -p "$work/root/etc"
SYSTEMD_BINDS=(--bind-ro="$share:/mnt")
systemd_boot "$name" "$name-host" "$work" || cat "$work/console"
# nspawn lays a boot id of its own over the kernel's, which a sandboxed unit does not see; on a host there is one only.
systemd_in umount /proc/sys/kernel/random/boot_id
# Images of containers forbid packages to stop and start services; hosts do not.
systemd_in rm -f /usr/sbin/policy-rc.d
kernel_list >"$work/kernel"
disk_list >"$work/disk"
package
release
tap_done
