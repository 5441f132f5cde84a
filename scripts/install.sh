#!/usr/bin/env bash
# Installs Warren on this host, from a checkout or from an unpacked release (npm pack); asks nothing, and may be run again: the
# same is then there, or the newer version, and a running warrend is restarted (the kernel forwards meanwhile).
#
# Everything goes where scripts/stage.sh says, below /usr/local; LIB/manifest has the list of it. Nothing is enabled or started:
#   sudo systemctl enable --now warrend
#
#   --uninstall   takes the files away; configuration, state and what is in the kernel stay: it forwards as it does after a stop
#   --purge       these too: links, routes, rules and sysctls as before, /var/lib/warren and /etc/warren/warrend.yaml gone
#
# Exit status: 0; 1 something failed; 2 wrong command line; 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"

verb=install
case ${1-} in
  '') ;;
  --uninstall | --purge) verb=${1#--} ;;
  -h | --help)
    printf 'Usage: install.sh [--uninstall | --purge]\n'
    sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) usage_error "\"$1\" is not an option" ;;
esac
(($# <= 1)) || usage_error "too many arguments"

prefix=/usr/local
lib=$prefix/lib/warren
manifest=$lib/manifest
config=/etc/warren/warrend.yaml

systemd_runs() { [[ -d /run/systemd/system ]]; }
systemd_reload() { if systemd_runs; then systemctl daemon-reload; fi; }

# --- install -------------------------------------------------------------------------------------------------------------

# A Node of its own, which no upgrade of another package changes: a copy of the one that is here. One that is linked with
# libnode.so (a distribution's) would not be whole: that one stays where it is, on PATH.
own_node() {
  local node
  node=$(node -p process.execPath)

  if ldd "$node" 2>/dev/null | grep -q libnode; then return; fi
  printf '%s\n' "$node"
}

# The files of a staged tree, and those folders of it that were not here before Warren.
list_of() {
  local path
  (cd "$1" && find . -mindepth 1 \( -type f -o -type l \) -printf '%P\n') | sort
  (cd "$1" && find . -mindepth 1 -type d -printf '%P\n') | sort | while IFS= read -r path; do
    if [[ ! -e /$path ]] || grep -qsxF -e "$path/" "$manifest"; then printf '%s/\n' "$path"; fi
  done
}

# The rule of dpkg's conffiles: one that nobody edited is renewed, an edited one stays.
install_config() {
  local fresh=$1 was=$lib/warrend.yaml.shipped
  if [[ ! -e $config ]] || cmp -s "$config" "$was"; then
    install -D -m 644 "$fresh" "$config"
  elif [[ -e $was ]] && ! cmp -s "$fresh" "$was"; then
    install -m 644 "$fresh" "$config.new"
    log "$config is yours and stays; the new one, with what is new in it, is $config.new"
  fi
}

install_all() {
  local work tree node fresh path
  ! dpkg-query --show --showformat='${db:Status-Abbrev}' warren 2>/dev/null | grep -q '^.i' ||
    die "The package \"warren\" is installed on this host" "upgrade it (apt install ./warren_*.deb), or first: apt remove warren"
  need_packages nft:nftables ip:iproute2
  want_packages iptables:iptables dnsmasq:dnsmasq-base
  if [[ -d $WARREN_ROOT/agent ]]; then need_build; else need_node; fi
  work=$(mktemp -d)
  on_exit rm -rf "$work"
  tree=$work/tree
  progress "installing ..."
  node=$(own_node)
  "$here/stage.sh" ${node:+--node "$node"} "$tree" "$prefix"
  fresh=$work/warrend.yaml
  mv "$tree$config" "$fresh"
  rmdir "${tree}${config%/*}"
  list_of "$tree" >"$work/manifest"
  [[ -d /etc/warren ]] && ! grep -qsxF etc/warren/ "$manifest" || printf 'etc/warren/\n' >>"$work/manifest"
  printf '%s\n' "${manifest#/}" "${lib#/}/warrend.yaml.shipped" >>"$work/manifest"
  install_config "$fresh"
  # Files by unlink and create: what runs goes on with its own. Folders that are there keep their owner and mode.
  tar --create --directory="$tree" . | tar --extract --directory=/ --no-same-owner --no-overwrite-dir --keep-directory-symlink
  if [[ -e $manifest ]]; then
    # What an older version had and this one has not.
    grep -vxFf "$work/manifest" "$manifest" | grep -v '/$' | while IFS= read -r path; do rm -f -- "/$path"; done || :
  fi
  install -m 644 "$fresh" "$lib/warrend.yaml.shipped"
  install -m 644 "$work/manifest" "$manifest"
  "$lib/compile-cache"
  systemd_reload
  log "installed Warren $("$prefix/bin/warren" --version) below $prefix"
  if systemd_runs && systemctl --quiet is-active warrend.service; then
    systemctl restart warrend.service || die "warrend does not start again" "journalctl -u warrend"
    log "restarted warrend"
  else
    log "configure: $config; start: systemctl enable --now warrend; look: warren doctor"
  fi
}

# --- uninstall -----------------------------------------------------------------------------------------------------------

stop_units() {
  systemd_runs || return 0
  local unit
  while read -r unit; do
    if [[ -n $unit ]]; then systemctl --quiet stop "$unit" || :; fi
  done < <(systemctl list-units --all --plain --no-legend 'warrend.service' 'warrend-*' 'warren-*' | awk '{ print $1 }')
  while read -r unit _; do
    if [[ -e /etc/systemd/system/$unit ]]; then systemctl --quiet disable "$unit" 2>/dev/null || :; fi
  done < <(systemctl list-unit-files --no-legend 'warrend.service' 'warren-*')
}

remove_files() {
  local path
  [[ -e $manifest ]] || return 0
  "$lib/compile-cache" --remove || :
  cp "$manifest" "$1"
  grep -v '/$' "$1" | while IFS= read -r path; do rm -f -- "/$path"; done
  # The deepest first; one that others use too stays.
  grep '/$' "$1" | sort -r | while IFS= read -r path; do
    [[ $path == etc/warren/ && $verb == uninstall ]] || rmdir --ignore-fail-on-non-empty -- "/$path" 2>/dev/null || :
  done
}

take_away() {
  local list warren=$prefix/bin/warren out
  if [[ ! -e $manifest ]]; then
    log "no Warren of scripts/install.sh on this host"
    [[ $verb == purge ]] || return 0
  fi
  stop_units
  if [[ $verb == purge ]]; then
    if [[ ! -x $warren ]]; then
      if [[ -d $WARREN_ROOT/agent ]]; then need_build; else need_node; fi
      warren=$WARREN_ROOT/dist/warren
    fi
    out=$("$warren" cleanup 2>&1) || die "Cannot take Warren off the kernel: $out" \
      "nothing is removed yet; end every warrend of this host, then run this again"
  fi
  list=$(mktemp)
  on_exit rm -f "$list"
  remove_files "$list"
  systemd_reload
  if [[ $verb == purge ]]; then
    rm -rf /var/lib/warren /run/warren /run/warren-netns.sock
    rmdir --ignore-fail-on-non-empty /run/flannel 2>/dev/null || :
    rm -f "$config" "$config.new"
    if [[ -d /etc/warren ]]; then
      rmdir --ignore-fail-on-non-empty /etc/warren
      # Keys and certificates are the operator's own.
      [[ ! -d /etc/warren ]] || log "what else is in /etc/warren stays: $(find /etc/warren -mindepth 1 -printf '%P ')"
    fi
    log "Warren is gone, with its configuration, its state and all that it had in the kernel"
  else
    log "Warren's files are gone; $config, /var/lib/warren and what is in the kernel stay (--purge takes them away)"
  fi
}

need_root
if [[ $verb == install ]]; then install_all; else take_away; fi
