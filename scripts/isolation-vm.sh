# shellcheck shell=bash
# A virtual machine for scripts/isolation.sh: Debian's cloud kernel, not installed but unpacked, with an initrd of one static
# busybox and the modules of a virtio network card. Its shell is on the serial line. Sourced after env.sh.

VM_CACHE=${WARREN_VM_CACHE:-/var/cache/warren-vm}
# In the order in which they are loaded; what is built into a kernel has no file.
VM_MODULES=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net)

# vm_image: prints the folder with vmlinuz and initrd; fails, with a reason on stdout, where there can be none.
vm_image() {
  [[ $(uname -m) == x86_64 ]] || { echo "no VM for $(uname -m)" && return 1; }
  want_packages qemu-system-x86_64:qemu-system-x86 >&2
  command -v qemu-system-x86_64 >/dev/null || { echo 'QEMU cannot be installed' && return 1; }
  if [[ ! -e $VM_CACHE/initrd || $VM_CACHE/initrd -ot ${BASH_SOURCE[0]} ]]; then
    local work status=0
    mkdir -p "$VM_CACHE"
    work=$(mktemp -d "$VM_CACHE/new.XXXXXX")
    (cd "$work" && vm_make) >"$VM_CACHE/log" 2>&1 || status=$?
    if ((status == 0)); then mv "$work/vmlinuz" "$work/initrd" "$VM_CACHE/"; fi
    rm -rf -- "$work"
    ((status == 0)) || { echo "no kernel for the VM: $(tail -n 1 "$VM_CACHE/log")" && return 1; }
  fi
  printf '%s\n' "$VM_CACHE"
}

# vm_make: in an empty folder, vmlinuz and initrd.
vm_make() {
  local kernel module path
  if ! vm_download; then
    env_apt update
    vm_download
  fi
  for path in ./*.deb; do dpkg-deb -x "$path" unpacked; done
  kernel=$(echo unpacked/boot/vmlinuz-*)
  cp "$kernel" vmlinuz
  mkdir -p root/{bin,lib,proc,sys,dev,etc,tmp}
  path=unpacked/bin/busybox
  [[ -e $path ]] || path=unpacked/usr/bin/busybox
  cp "$path" root/bin/busybox
  for module in "${VM_MODULES[@]}"; do
    path=$(find unpacked -name "$module.ko" | head -n 1)
    [[ -z $path ]] || cp "$path" root/lib/
  done
  vm_init >root/init
  vm_lease >root/etc/lease
  chmod 755 root/init root/etc/lease
  (cd root && find . | ./bin/busybox cpio -o -H newc) | gzip -1 >initrd
  # The shell goes on after a failure in here (its caller asks for the status): a busybox alone is this large.
  (($(stat -c %s initrd) > 500000))
}

vm_download() {
  local kernel
  kernel=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [[ -n $kernel ]] && apt-get download -q "$kernel" busybox-static
}

vm_init() {
  cat <<SH
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in ${VM_MODULES[*]}; do [ ! -e /lib/\$module.ko ] || insmod /lib/\$module.ko; done
echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
ip link set lo up
stty -echo
echo "vm is up"
exec sh
SH
}

# What udhcpc runs; keeps what it was told.
vm_lease() {
  cat <<'SH'
#!/bin/busybox sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
echo "ip=$ip/$mask router=$router dns=$dns mtu=$mtu hostname=$hostname" >/tmp/lease
ip link set eth0 mtu "$mtu"; ip addr replace "$ip/$mask" dev eth0; ip route replace default via "$router"
SH
}
