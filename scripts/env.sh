# shellcheck shell=bash
# Brings a bare checkout to where it can build and run, as root, without a question; sourced after lib.sh.
#
#   need_packages COMMAND:PACKAGE[|OTHER] ...   apt packages for the commands that are missing; dies when one cannot be had
#   want_packages COMMAND:PACKAGE[|OTHER] ...   the same, but only warns: what needs it is skipped
#   need_node                                   Node >= 20.19 and npm on PATH; else both come from npm into .node/
#   need_modules                                node_modules as package-lock.json says
#   need_tap                                    tap's own build for the plugins that .taprc names
#   need_build                                  dist/, when a source is newer
#   RUN_PACKAGES, TEST_PACKAGES                 what a host and the lab need, and what the tests need besides
#
# Nothing here costs more than a few milliseconds when there is nothing to do: commands are looked up on PATH and the
# rest is keyed by stamp files (node_modules/.warren-stamp: hash of the lock file; dist/.built: time and Node of the build).
# Packages are installed without starting or enabling the services in them (docker, etcd): tests start their own.

# Node's own archive is a download from elsewhere; the npm registry has the same binary as a package, without npm in it.
readonly LOCAL_NODE_VERSION=24.21.0 LOCAL_NPM_VERSION=11.19.1
readonly NODE_MIN_MAJOR=20 NODE_MIN_MINOR=19

# shellcheck disable=SC2034 # for the scripts that source this
RUN_PACKAGES=(
  nft:nftables ip:iproute2 iptables:iptables ping:iputils-ping ethtool:ethtool jq:jq sysctl:procps
  nsenter:util-linux flock:util-linux openssl:openssl dnsmasq:dnsmasq-base
)
# shellcheck disable=SC2034
TEST_PACKAGES=(
  iperf3:iperf3 conntrack:conntrack tcpdump:tcpdump socat:socat
  'etcd:etcd-server|etcd' 'etcdctl:etcd-client|etcd' shellcheck:shellcheck shfmt:shfmt
  gobgpd:gobgpd bird:bird2 /usr/lib/frr/bgpd:frr mandoc:mandoc
)
# shellcheck disable=SC2034
TEST_PACKAGES_OPTIONAL=(
  /usr/sbin/dockerd:docker.io '/usr/bin/docker:docker-cli|docker.io' 'busybox:busybox-static|busybox'
  /usr/lib/cni/bridge:containernetworking-plugins systemd-nspawn:systemd-container lintian:lintian promtool:prometheus
)

# --- apt -----------------------------------------------------------------------------------------------------------

ENV_APT_UPDATED=''

need_packages() {
  local missing
  mapfile -t missing < <(env_missing "$@")
  ((${#missing[@]} == 0)) && return
  env_apt_install "${missing[@]}" || die "Cannot install \"${missing[*]}\": apt-get failed (its output is above)" \
    "install what provides these commands by hand, then run this again"
  mapfile -t missing < <(env_missing "$@")
  ((${#missing[@]} == 0)) || die "Cannot find the commands of \"${missing[*]}\" although the packages are installed" \
    "is PATH complete? PATH=$PATH"
}

want_packages() {
  local missing
  mapfile -t missing < <(env_missing "$@")
  ((${#missing[@]} == 0)) && return
  env_apt_install "${missing[@]}" || warn "cannot install \"${missing[*]}\": what needs it will be skipped"
}

# Prints the packages of those commands that are not there.
env_missing() {
  local pair
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || printf '%s\n' "${pair#*:}"
  done | sort -u
}

env_apt_install() {
  [[ $EUID -eq 0 ]] || die "Packages are missing: $*" "run this as root, or: apt-get install ${*%%|*}"
  command -v apt-get >/dev/null || die "Packages are missing and there is no apt-get: $*" \
    "Debian 12/13 and Ubuntu 22.04/24.04 are supported; elsewhere install them by hand"
  if [[ -z $ENV_APT_UPDATED ]]; then
    progress "apt-get update ..."
    env_quietly env_apt update || warn "apt-get update failed; trying with the lists that are there"
    ENV_APT_UPDATED=1
  fi
  local choice name names=()
  for choice in "$@"; do
    local found=''
    for name in ${choice//|/ }; do
      if [[ -n $(apt-cache --quiet=1 show --no-all-versions "$name" 2>/dev/null) ]]; then
        found=$name
        break
      fi
    done
    # Not in the lists: let apt say so with its own words.
    names+=("${found:-${choice%%|*}}")
  done
  progress "apt-get install ${names[*]} ..."
  local status=0
  env_services_hold
  env_quietly env_apt install --no-install-recommends "${names[@]}" || status=$?
  env_services_release
  ((status != 0)) || log "installed ${names[*]}"
  return "$status"
}

env_apt() {
  local verb=$1
  shift
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -y -q -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$verb" "$@" </dev/null
}

# No service of a new package starts (policy-rc.d, 101 = "not allowed") or stays enabled for the next boot: a dockerd
# would rewrite the firewall of the machine, an etcd take the port of the user's own.
readonly ENV_POLICY=/usr/sbin/policy-rc.d
env_services_hold() {
  ENV_POLICY_OURS='' ENV_SERVICES=()
  local unit
  if command -v systemctl >/dev/null; then
    for unit in docker.service docker.socket containerd.service etcd.service gobgpd.service bird.service frr.service \
      prometheus.service; do
      [[ -e /lib/systemd/system/$unit || -e /usr/lib/systemd/system/$unit ]] || ENV_SERVICES+=("$unit")
    done
  fi
  [[ -e $ENV_POLICY ]] && return
  printf '#!/bin/sh\nexit 101\n' >"$ENV_POLICY"
  chmod 755 "$ENV_POLICY"
  ENV_POLICY_OURS=1
}
env_services_release() {
  [[ -z $ENV_POLICY_OURS ]] || rm -f "$ENV_POLICY"
  local unit
  for unit in "${ENV_SERVICES[@]}"; do
    if [[ -e /lib/systemd/system/$unit || -e /usr/lib/systemd/system/$unit ]]; then
      systemctl disable --quiet "$unit" >/dev/null 2>&1 || :
    fi
  done
}

# Runs a chatty command; its output is shown only when it fails.
env_quietly() {
  local out status=0
  out=$(mktemp)
  "$@" >"$out" 2>&1 || status=$?
  if ((status != 0)); then
    lib_clear
    printf '%s (exit status %d):\n' "$*" "$status" >&2
    tail -n 40 "$out" | sed 's/^/  /' >&2
  fi
  rm -f "$out"
  return "$status"
}

# --- Node and its packages -----------------------------------------------------------------------------------------

need_node() {
  local local_bin=$WARREN_ROOT/.node/bin
  [[ -z $ENV_NODE_VERSION ]] || return 0
  [[ ! -x $local_bin/node ]] || PATH=$local_bin:$PATH
  if env_node_fits && command -v npm >/dev/null; then return; fi
  local arch
  case $(uname -m) in
    x86_64) arch=x64 ;;
    aarch64) arch=arm64 ;;
    *) die "No Node >= $NODE_MIN_MAJOR.$NODE_MIN_MINOR here and no package of it for \"$(uname -m)\"" "install Node by hand" ;;
  esac
  # Any npm, however old, can fetch the two packages; apt's (with an old Node behind it) is the bootstrap of the bootstrap.
  need_packages npm:npm
  if env_node_fits; then return; fi
  env_lock
  if [[ ! -x $local_bin/node ]]; then
    progress "Node $LOCAL_NODE_VERSION into .node/ ..."
    local fresh=$WARREN_ROOT/.node.new
    rm -rf "$fresh" && mkdir "$fresh"
    printf '{"private":true}\n' >"$fresh/package.json"
    (cd "$fresh" && env_quietly npm install --no-save --ignore-scripts --no-audit --no-fund \
      "node-linux-$arch@$LOCAL_NODE_VERSION" "npm@$LOCAL_NPM_VERSION") ||
      die "Cannot bring Node $LOCAL_NODE_VERSION: npm failed" \
        "can this machine reach the npm registry (npm ping)? Or install Node >= $NODE_MIN_MAJOR.$NODE_MIN_MINOR by hand"
    ln -s node_modules/.bin "$fresh/bin"
    "$fresh/bin/node" -e 0 || die "The Node of package node-linux-$arch does not run here" "install Node by hand"
    rm -rf "$WARREN_ROOT/.node" && mv "$fresh" "$WARREN_ROOT/.node"
    log "brought Node $LOCAL_NODE_VERSION and npm $LOCAL_NPM_VERSION into .node/"
  fi
  env_unlock
  PATH=$local_bin:$PATH
  env_node_fits || die "Node in .node/ does not run" "rm -r $WARREN_ROOT/.node, then run this again"
}

# The version of the node on PATH ("v24.21.0"), known after need_node.
ENV_NODE_VERSION=''
env_node_fits() {
  local major minor
  ENV_NODE_VERSION=$(node --version 2>/dev/null) || return 1
  IFS=. read -r major minor _ <<<"${ENV_NODE_VERSION#v}"
  ((major > NODE_MIN_MAJOR || (major == NODE_MIN_MAJOR && minor >= NODE_MIN_MINOR)))
}

need_modules() {
  need_node
  local stamp=$WARREN_ROOT/node_modules/.warren-stamp hash
  hash=$(env_lock_hash)
  [[ -r $stamp && $(<"$stamp") == "$hash" ]] && return
  env_lock
  if [[ ! -r $stamp || $(<"$stamp") != "$hash" ]]; then
    progress "npm ci ..."
    # --ignore-scripts: package.json's allowScripts denies them all, but an npm before 11 does not know that field.
    (cd "$WARREN_ROOT" && env_quietly npm ci --ignore-scripts --no-audit --no-fund) ||
      die "Cannot install node_modules: npm ci failed" \
        "can this machine reach the npm registry (npm ping)? Is package-lock.json the one of package.json?"
    printf '%s\n' "$hash" >"$stamp"
    log "installed node_modules"
  fi
  env_unlock
}

# tap generates its test class from the plugins in .taprc. Left to itself it does so in the first run, too late for that
# run: which then compiles every test twice, by the plugin that .taprc switches off and by ours.
need_tap() {
  need_modules
  local stamp=$WARREN_ROOT/node_modules/.warren-tap
  [[ $stamp -nt $WARREN_ROOT/.taprc && $stamp -nt $WARREN_ROOT/node_modules/.warren-stamp ]] && return
  env_lock
  progress "tap build ..."
  (cd "$WARREN_ROOT" && env_quietly npx --no-install tap build) || die "Cannot build tap's plugins (its output is above)" \
    "rm -r node_modules .tap, then run this again"
  : >"$stamp"
  env_unlock
}

env_lock_hash() {
  local hash
  hash=$(sha256sum "$WARREN_ROOT/package-lock.json")
  printf '%s %s\n' "${hash%% *}" "$(uname -m)"
}

need_build() {
  need_modules
  env_build_fresh && return
  env_lock
  if ! env_build_fresh; then
    progress "building dist/ ..."
    (cd "$WARREN_ROOT" && env_quietly node scripts/build.mjs) ||
      die "Cannot build dist/ (the compiler's output is above)" "npx tsc --noEmit says more"
    log "built dist/"
  fi
  env_unlock
}

# dist/.built is newer than every source (a folder's own time tells of files that went) and made by this Node.
env_build_fresh() {
  local built=$WARREN_ROOT/dist/.built
  [[ -r $built && $(<"$built") == "$ENV_NODE_VERSION" ]] || return 1
  [[ -z $(find "$WARREN_ROOT/agent" "$WARREN_ROOT/lib" "$WARREN_ROOT/scripts/build.mjs" \
    "$WARREN_ROOT/package-lock.json" -newer "$built" -print -quit) ]]
}

# One bootstrap at a time per checkout; scripts that run side by side wait for each other here (the lock is on this file).
env_lock() {
  exec {ENV_LOCK_FD}<"$WARREN_ROOT/scripts/env.sh"
  flock -w 600 "$ENV_LOCK_FD" || die "Another script has been at the bootstrap of this checkout for 10 minutes" \
    "see: fuser -v $WARREN_ROOT/scripts/env.sh"
}
env_unlock() { exec {ENV_LOCK_FD}<&-; }
