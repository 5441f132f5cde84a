#!/usr/bin/env bash
# Builds the box for a machine without the internet at hand for its VMs: Debian 12 that boots by itself, with every package in
# it that provision.sh would install. No KVM, no mount, no loop device.
#
#   mkbox.sh OUT.box [RELEASE]     RELEASE: bookworm; what vagrant-libvirt wants: metadata.json, Vagrantfile, box.img in a tar
#
# Exit status: 0; 1 a step failed; 2 wrong command line; 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../scripts/env.sh"

(($# == 1 || $# == 2)) || usage_error 'needs OUT.box'
out=$(realpath -m -- "$1") release=${2-bookworm}
readonly MIB=2048 # of the disk; the root has some 550
need_root
need_packages mmdebstrap:mmdebstrap grub-mkimage:grub-common qemu-img:qemu-utils mke2fs:e2fsprogs
# Its command is none, so a file of it tells.
[[ -r /usr/lib/grub/i386-pc/boot.img ]] || env_apt_install grub-pc-bin

work=$(mktemp -d)
chmod 755 "$work"
on_exit rm -rf "$work"

# Vagrant's own first key; its other half is public, and Vagrant replaces it at the first `vagrant up`.
key='ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key'
# What the public box has, what Warren's package depends on, and what provision.sh adds.
packages=(
  linux-image-cloud-amd64 initramfs-tools systemd systemd-sysv udev dbus kmod openssh-server sudo rsync ca-certificates
  iproute2 iputils-ping procps nftables iptables ethtool conntrack tcpdump dnsmasq-base libcap2-bin e2fsprogs
  gobgpd etcd-server etcd-client iperf3
)

cat >"$work/initramfs.conf" <<'TEXT'
MODULES=list
COMPRESS=gzip
TEXT
cat >"$work/before.sh" <<'TEXT'
set -eu
mkdir -p "$1/etc/initramfs-tools/conf.d"
cp "$2/initramfs.conf" "$1/etc/initramfs-tools/conf.d/lab"
printf '%s\n' virtio_pci virtio_blk virtio_mmio ext4 >"$1/etc/initramfs-tools/modules"
TEXT
cat >"$work/setup.sh" <<'TEXT'
set -eu
root=$1
chroot "$root" useradd --create-home --shell /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
printf '%s\n' "$KEY" >"$root/home/vagrant/.ssh/authorized_keys"
chmod 600 "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant: /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
echo 'UseDNS no' >"$root/etc/ssh/sshd_config.d/vagrant.conf"
printf '%s\n' '[Match]' Name=eth0 '[Network]' DHCP=ipv4 IPv6AcceptRA=no >"$root/etc/systemd/network/10-eth0.network"
echo 'LABEL=labroot / ext4 noatime 0 1' >"$root/etc/fstab"
echo lab >"$root/etc/hostname"
printf '%s\n' '127.0.0.1 localhost' '127.0.1.1 lab' >"$root/etc/hosts"
chroot "$root" systemctl --quiet enable systemd-networkd
# provision.sh starts those where they belong.
chroot "$root" systemctl --quiet disable etcd gobgpd nftables
# Minutes of an emulated CPU at every boot, and nothing for a lab.
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer systemd-hwdb-update.service
rm -rf "$root/var/lib/etcd"/*
# Each node makes its own at the first boot: DHCP tells them apart by it.
: >"$root/etc/machine-id"
TEXT

progress "Debian $release ..."
include=$(
  IFS=,
  echo "${packages[*]}"
)
KEY=$key env_quietly mmdebstrap --variant=minbase --include="$include" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' \
  --essential-hook="sh $work/before.sh \"\$1\" $work" --customize-hook="sh $work/setup.sh \"\$1\"" "$release" "$work/root"

# --- the disk: an MBR, GRUB in the gap behind it, one partition from 1 MiB on, filled without a mount ---------------------

# le NUMBER: its four bytes, the lowest first.
le() {
  local i byte
  for i in 0 8 16 24; do
    printf -v byte '\\x%02x' $(($1 >> i & 255))
    printf '%b' "$byte"
  done
}

progress 'disk ...'
sectors=$(((MIB - 1) * 2048))
truncate --size="${MIB}M" "$work/disk.raw"
mke2fs -q -t ext4 -O '^metadata_csum_seed,^orphan_file' -m 0 -L labroot -E offset=1048576,root_owner=0:0 \
  -d "$work/root" "$work/disk.raw" $((sectors / 2))k
cat >"$work/grub.cfg" <<'TEXT'
set root=(hd0,msdos1)
linux /vmlinuz root=LABEL=labroot rw net.ifnames=0 console=ttyS0 quiet
initrd /initrd.img
boot
TEXT
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -c "$work/grub.cfg" -o "$work/core.img" biosdisk part_msdos ext2 linux
dd status=none conv=notrunc bs=440 count=1 if=/usr/lib/grub/i386-pc/boot.img of="$work/disk.raw"
dd status=none conv=notrunc bs=512 seek=1 if="$work/core.img" of="$work/disk.raw"
{
  printf '\x80\xfe\xff\xff\x83\xfe\xff\xff'
  le 2048
  le "$sectors"
} | dd status=none conv=notrunc bs=1 seek=446 of="$work/disk.raw"
printf '\x55\xaa' | dd status=none conv=notrunc bs=1 seek=510 of="$work/disk.raw"

progress 'box ...'
qemu-img convert -c -O qcow2 "$work/disk.raw" "$work/box.img"
printf '{"provider":"libvirt","format":"qcow2","virtual_size":%d}\n' $(((MIB + 1023) / 1024)) >"$work/metadata.json"
echo 'Vagrant.configure("2") { |config| }' >"$work/Vagrantfile"
tar -C "$work" -cf "$out" metadata.json Vagrantfile box.img
log "$out: $(($(stat -c %s "$out") >> 20)) MiB, of a root of $(du -sm "$work/root" | cut -f 1) MiB"
