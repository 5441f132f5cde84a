#!/usr/bin/env bash
# A libvirtd of the lab's own, for a machine without systemd or with a libvirt that is not to be touched: it lives in a network
# and a mount namespace of its own, with an /etc/libvirt, /var/lib/libvirt and /run/libvirt of its own in DIR. All that is left
# after `down` is DIR.
#
#   libvirt-lab.sh up DIR            starts it; DIR: an empty folder, or that of the last time
#   libvirt-lab.sh exec DIR CMD...   in its namespaces: vagrant, virsh, ssh to the hosts, a client outside of them
#   libvirt-lab.sh down DIR          ends it and its networks; the hosts go before: exec DIR vagrant destroy -f
#
# Exit status: 0; 1 it does not start; 2 wrong command line; 77 not root; exec: that of CMD.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../scripts/env.sh"

(($# >= 2)) || usage_error 'needs a verb and DIR'
need_root
verb=$1 dir=$(realpath -m -- "$2")
shift 2

lab_exec() {
  local pid
  pid=$(proc_alive "$dir/libvirtd.pid") || die "No libvirtd of \"$dir\" runs" "vagrant/libvirt-lab.sh up $dir"
  nsenter --target "$pid" --net --mount --wd="$PWD" env VAGRANT_HOME="$dir/home" VAGRANT_DEFAULT_PROVIDER=libvirt \
    VAGRANT_CHECKPOINT_DISABLE=1 LIBVIRT_DEFAULT_URI=qemu:///system "$@"
}

lab_up() {
  if proc_alive "$dir/libvirtd.pid" >/dev/null; then return; fi
  need_packages vagrant:vagrant libvirtd:libvirt-daemon-system virsh:libvirt-clients qemu-system-x86_64:qemu-system-x86 \
    qemu-img:qemu-utils dnsmasq:dnsmasq-base iptables:iptables rsync:rsync ssh:openssh-client
  dpkg-query --show vagrant-libvirt >/dev/null 2>&1 || env_apt_install vagrant-libvirt
  mkdir -p "$dir"/{etc,log,home} "$dir"/lib/{images,qemu,boot,dnsmasq}
  chmod 755 "$dir" "$dir/lib"
  [[ -e $dir/etc/libvirtd.conf ]] || cp -a /etc/libvirt/. "$dir/etc/"
  rm -rf "$dir/etc/qemu/networks/autostart"
  # Without cgroups, virtlogd and namespaces per host: all three want systemd.
  printf '%s\n' 'user = "root"' 'group = "root"' 'security_driver = "none"' 'stdio_handler = "file"' \
    'cgroup_controllers = []' 'remember_owner = 0' 'namespaces = []' >"$dir/etc/qemu.conf"
  # shellcheck disable=SC2016 # expanded by the inner shell
  setsid unshare --net --mount --propagation private bash -euc '
    ip link set lo up
    mount --bind "$0/etc" /etc/libvirt
    mount --bind "$0/lib" /var/lib/libvirt
    mkdir -p /run/libvirt
    mount -t tmpfs -o mode=755 tmpfs /run/libvirt
    mount -t sysfs sysfs /sys 2>/dev/null || :
    mkdir /run/libvirt/common
    exec libvirtd' "$dir" >"$dir/log/libvirtd.log" 2>&1 </dev/null &
  disown $!
  proc_save "$dir/libvirtd.pid" $!
  busywait 15 lab_exec virsh -q version >/dev/null || {
    tail -n 20 "$dir/log/libvirtd.log" >&2
    proc_kill "$dir/libvirtd.pid"
    die "libvirtd does not start (its log is above)"
  }
}

lab_down() {
  local name
  proc_alive "$dir/libvirtd.pid" >/dev/null || return 0
  # A host that was not destroyed would live on without its libvirtd.
  for name in $(lab_exec virsh -q list --name); do lab_exec virsh -q destroy "$name" >/dev/null || :; done
  for name in $(lab_exec virsh -q net-list --name); do lab_exec virsh -q net-destroy "$name" >/dev/null || :; done
  proc_kill "$dir/libvirtd.pid" TERM 10
}

case $verb in
  up) lab_up ;;
  exec)
    (($# > 0)) || usage_error 'exec needs a command'
    lab_exec "$@"
    ;;
  down) lab_down ;;
  *) usage_error "\"$verb\" is neither up, exec nor down" ;;
esac
