#!/usr/bin/env bash
# The whole lab on a machine without the internet for its VMs and without KVM, as `scripts/test.sh --vagrant` runs it: package, box,
# private libvirtd, three hosts, smoke.sh, and all of it away again.
# TAP: that of smoke.sh, and the time of each step.
#
#   run.sh [HOST...]     h1 h2 h3, or fewer (h1 h2); LAB_TCG=0 uses /dev/kvm
#
# Exit status: 0; 1 a test failed or a step did (its output is shown); 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../scripts/env.sh"

need_root
hosts=("$@")
export LAB_BOX=warren-lab LAB_TCG=${LAB_TCG-1}
# Some 2 GiB: the box, a disk per host, and its log.
dir=$(mktemp -d "${TMPDIR:-/tmp}/warren-vagrant.XXXXXX")
in_lab() { "$here/libvirt-lab.sh" exec "$dir" "$@"; }
cleanup() {
  in_lab vagrant destroy -f >/dev/null 2>&1 || :
  "$here/libvirt-lab.sh" down "$dir" || :
  rm -rf "$dir"
}
on_exit cleanup
cd "$here"

# timed NAME CMD...: how long a step took, as a comment in the TAP.
timed() {
  local name=$1 start=$SECONDS
  shift
  env_quietly "$@"
  printf '# %s: %d s\n' "$name" $((SECONDS - start))
}

timed package "$WARREN_ROOT/scripts/package.sh" --compress gzip
timed box ./mkbox.sh "$dir/lab.box"
timed libvirtd ./libvirt-lab.sh up "$dir"
timed 'box add' in_lab vagrant box add --name "$LAB_BOX" "$dir/lab.box"
rm "$dir/lab.box"
timed 'vagrant up' in_lab vagrant up "${hosts[@]}"
status=0
./smoke.sh ./libvirt-lab.sh exec "$dir" || status=$?
timed destroy in_lab vagrant destroy -f
((status == 0))
