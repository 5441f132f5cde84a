# shellcheck shell=bash
# A host under a real systemd: systemd-nspawn boots this machine's own root file system (read-only below, a tmpfs above; no
# image) in a network namespace that the test made. Sourced after scripts/lib.sh.
#
#   systemd_missing                    prints why none can run here; fails when one can
#   systemd_boot NAME NETNS DIR        boots it; DIR/root is laid over the root, the tree of warrend's build over
#                                      /usr/lib/warren. Units enabled on this machine are not: DIR/root brings its own
#                                      SYSTEMD_BINDS, when set: what nspawn binds in place of those
#   systemd_in CMD...                  a command beside its PID 1
#   systemd_down                       powers it off, and removes what is left of it
#
# All mounts are made in a mount namespace of its own, and go with it; of a cgroup v1 machine it sees a cgroup2 tree only. Its
# PID 1 outlives a systemd-nspawn that was killed, and all others end with it: its pid is in DIR/init.pid, and it has
# WARREN_TEST_RUN in its environment for scripts/test.sh.

SYSTEMD_NAME='' SYSTEMD_DIR='' SYSTEMD_BINDS=()

# In one place, so that a trial and the boot do the same: NAME of the cgroup, DIR for the mounts.
# shellcheck disable=SC2016 # expanded by the inner shell
SYSTEMD_MOUNTS='
  mkdir -p "$2"
  mount -t tmpfs -o size=512m,mode=755 tmpfs "$2"
  mkdir "$2/upper" "$2/work" "$2/root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/root"
  if [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
  fi
  mkdir "/sys/fs/cgroup/$1"'

systemd_missing() {
  local out command dir
  for command in systemd-nspawn /lib/systemd/systemd; do
    command -v "$command" >/dev/null || {
      echo "no $command (package systemd-container)"
      return
    }
  done
  dir=$(mktemp -d)
  # shellcheck disable=SC2016
  if out=$(unshare --mount --propagation private sh -euc "$SYSTEMD_MOUNTS"'; rmdir "/sys/fs/cgroup/$1"' sh "wt-$$-try" "$dir" 2>&1); then
    rmdir "$dir"
    return 1
  fi
  rmdir "$dir"
  printf 'this machine does not let us mount what it needs: %s\n' "$(tail -n 1 <<<"$out")"
}

systemd_boot() {
  local netns=$2 node build binds=("${SYSTEMD_BINDS[@]}")
  SYSTEMD_NAME=$1 SYSTEMD_DIR=$3
  node=$(readlink -f "$(command -v node)")
  build=$(dirname "$(readlink -f "${WARREN_DIST:-$WARREN_ROOT/dist}")")
  ((${#binds[@]} > 0)) || binds=(--bind-ro="$build:/usr/lib/warren" --bind-ro="$node:/usr/local/bin/node")
  # shellcheck disable=SC2016
  setsid unshare --mount --propagation private sh -euc "$SYSTEMD_MOUNTS"'
    echo $$ >"/sys/fs/cgroup/$1/cgroup.procs"
    mkdir -p /run/systemd && mount -t tmpfs -o mode=755 tmpfs /run/systemd
    cd "$2/root"
    : >etc/machine-id
    rm -rf etc/hostname etc/systemd/system etc/systemd/system-generators usr/lib/systemd/system-generators
    mkdir -p etc/systemd/system
    cp -a "$4/root/." .
    name=$1 root=$2/root netns=$3
    shift 4
    export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
    exec systemd-nspawn --quiet --boot --directory="$root" --machine="$name" --hostname="$name" --register=no --keep-unit \
      --network-namespace-path="/run/netns/$netns" --capability=CAP_NET_ADMIN --console=pipe "$@" \
      --setenv=WARREN_TEST_RUN="${WARREN_TEST_RUN-}" systemd.unit=basic.target
    ' sh "$SYSTEMD_NAME" "$SYSTEMD_DIR/mounts" "$netns" "$SYSTEMD_DIR" "${binds[@]}" >"$SYSTEMD_DIR/console" 2>&1 </dev/null &
  disown $!
  proc_save "$SYSTEMD_DIR/nspawn.pid" $!
  busywait 20 systemd_settled || return
  proc_alive "$SYSTEMD_DIR/nspawn.pid" >/dev/null
}

systemd_settled() {
  local pid
  pid=$(proc_alive "$SYSTEMD_DIR/nspawn.pid") || return 0
  pid=$(pgrep -P "$pid") && proc_save "$SYSTEMD_DIR/init.pid" "$pid" && systemd_in systemctl --quiet is-active basic.target
}

systemd_in() {
  local pid
  pid=$(proc_alive "$SYSTEMD_DIR/init.pid") || return
  nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C "$@"
}

systemd_down() {
  local cgroup
  [[ -n $SYSTEMD_NAME ]] || return 0
  # nspawn tells PID 1 to power off.
  proc_kill "$SYSTEMD_DIR/nspawn.pid" TERM 5
  proc_kill "$SYSTEMD_DIR/init.pid" KILL
  for cgroup in /sys/fs/cgroup{,/unified}/"$SYSTEMD_NAME"; do
    [[ ! -d $cgroup ]] || busywait 2 find "$cgroup" -depth -type d -exec rmdir {} + || :
  done
  SYSTEMD_NAME=''
}
