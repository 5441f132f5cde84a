#!/usr/bin/env bash
# The Vagrant lab's files, without a VM: that they fit together and that Warren takes the configuration and the model. The lab
# itself is run by `scripts/test.sh --vagrant`.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../../scripts/env.sh"

dist=${WARREN_DIST:-$WARREN_ROOT/dist}
work=$(mktemp -d)
on_exit rm -rf "$work"
need_node
[[ -n ${WARREN_DIST-} ]] || need_build
cd "$WARREN_ROOT/vagrant"

# --- the Vagrantfile -----------------------------------------------------------------------------------------------------

# host_lines: "h1 192.168.56.11", as the Vagrantfile has them.
host_lines() { sed -n '/^nodes = /p' Vagrantfile | grep -o '"h[0-9]*" => "[0-9.]*"' | sed 's/[">]//g; s/ *= */ /'; }
takes() { "$@" </dev/null; }
validates() { VAGRANT_HOME=$work/home VAGRANT_CHECKPOINT_DISABLE=1 VAGRANT_DEFAULT_PROVIDER=$1 timeout 60 vagrant validate --ignore-provider; }

if command -v ruby >/dev/null; then
  tap_is 'Vagrantfile: ruby takes it' "$(ruby -c Vagrantfile 2>&1)" 'Syntax OK'
else
  tap_skip 'Vagrantfile: ruby takes it' 'no ruby here'
fi
if command -v vagrant >/dev/null; then
  tap_ok 'Vagrantfile: vagrant validate' validates libvirt
else
  tap_skip 'Vagrantfile: vagrant validate' 'no vagrant here'
fi
tap_is 'Vagrantfile: three hosts, numbered as their addresses' "$(host_lines | paste -sd ,)" \
  'h1 192.168.56.11,h2 192.168.56.12,h3 192.168.56.13'
tap_is 'Vagrantfile: two knobs' "$(grep -o 'ENV[^ ]*"[A-Z_]*"' Vagrantfile | grep -o '[A-Z]*_[A-Z]*' | paste -sd ' ')" 'LAB_BOX LAB_TCG'

# --- what provision.sh puts on a host ------------------------------------------------------------------------------------

# rsync_patterns: the arguments for /warren, one a line.
rsync_patterns() { sed -n '/rsync__args/,/\]/p' Vagrantfile | grep -o '"--[^"]*"' | tr -d '"'; }
synced() {
  local args
  mapfile -t args < <(rsync_patterns)
  mkdir -p "$work/tree/dist" "$work/tree/scripts" "$work/tree/agent" "$work/synced"
  cp -a "$WARREN_ROOT/vagrant" "$work/tree/"
  cp "$WARREN_ROOT"/scripts/*.{sh,mjs} "$work/tree/scripts/"
  : >"$work/tree/dist/warren_1_amd64.deb"
  : >"$work/tree/dist/warrend.cjs"
  rsync "${args[@]}" "$work/tree/" "$work/synced/"
  (cd "$work/synced" && find . -type f -printf '%P\n' | sort)
}
# needed: what is read below /warren, of provision.sh's own words.
needed() { grep -o '/warren/\(vagrant\|scripts\)/[a-z.-]*' provision.sh | sed 's#^/warren/##' | sort -u; }
has_all() {
  local file
  while read -r file; do [[ -e $work/synced/$file ]] || { echo "not synced: $file" && return 1; }; done < <(needed)
}
if command -v rsync >/dev/null; then
  synced >"$work/list"
  tap_is 'rsync: the package and what belongs to the lab, nothing else' "$(grep -v '^vagrant/' "$work/list" | paste -sd ' ')" \
    'dist/warren_1_amd64.deb scripts/lab-echo.mjs'
  tap_ok 'rsync: whatever provision.sh reads is there' has_all
else
  tap_skip 'rsync: the package and what belongs to the lab, nothing else' 'no rsync here'
fi

# Its own file, as each host has it: only the places differ.
tap_ok 'warrend.yaml: warrend takes it' takes "$dist/warrend" --config warrend.yaml --check
{
  printf 'node: h1\nstore: { file: %s }\n' "$work/store"
} >"$work/warrend.yaml"
mkdir "$work/store"
applied=$(takes "$dist/warren" --config "$work/warrend.yaml" apply -f lab.yaml 2>"$work/errors") || :
tap_is 'lab.yaml: warren takes every object' "$(awk '/created/ { n++ } END { print n + 0 }' <<<"$applied")" "$(grep -c 'apiVersion: warren/v1' lab.yaml)"
tap_is 'lab.yaml: and refuses none' "$(grep -c refused <<<"$applied" || :)" 0
tap_is 'lab.yaml: its ports are on the hosts that are there' \
  "$(grep -o 'node: h[0-9]*' lab.yaml | cut -d ' ' -f 2 | sort -u | paste -sd ' ')" "$(host_lines | cut -d ' ' -f 1 | paste -sd ' ')"
tap_is 'lab.yaml: no namespace that pods.sh does not make' \
  "$(grep -o 'netns: [a-z-]*' lab.yaml | cut -d ' ' -f 2 | sort -u | paste -sd ' ')" \
  "$(sed -n 's/.*for name in \(.*\); do namespace.*/\1/p' pods.sh | tr ' ' '\n' | sort | paste -sd ' ')"
tap_is 'warrend.yaml: etcd is on h1' "$(grep -o 'http://[0-9.]*' warrend.yaml)" "http://$(host_lines | sed -n 's/^h1 //p')"

# --- socketGroup -----------------------------------------------------------------------------------------------------------

# As warrend.service runs it: root, without CAP_CHOWN.
printf '%s\n' 'node: h1' "store: { file: $work/store }" "stateDir: $work/state" "socket: $work/socket" 'subnetFile: none' \
  'metrics: { socket: none }' 'socketGroup: daemon' >"$work/group.yaml"
start_as() {
  unshare --net setpriv --bounding-set=-chown "--groups=$1" "$dist/warrend" --config "$work/group.yaml" >"$work/log" 2>&1 </dev/null &
  proc_save "$work/warrend.pid" $!
}
gone() { ! proc_alive "$work/warrend.pid" >/dev/null; }
given() { [[ $(stat -c %G "$work/socket") == daemon ]]; }
on_exit proc_kill "$work/warrend.pid"
start_as 0
tap_ok 'socketGroup: without CAP_CHOWN, and not in the group: warrend ends' busywait 30 gone
tap_is 'socketGroup: and says what to do' "$(grep -c 'SupplementaryGroups=daemon' "$work/log")" 1
start_as "$(getent group daemon | cut -d : -f 3)"
tap_ok 'socketGroup: in the group it gives its socket away' busywait 30 given
proc_kill "$work/warrend.pid"

# --- scripts -------------------------------------------------------------------------------------------------------------

status_of() {
  local status=0
  takes "$@" >"$work/out" 2>&1 || status=$?
  printf '%s' "$status"
}
for script in 'mkbox.sh' 'libvirt-lab.sh' 'libvirt-lab.sh up' 'libvirt-lab.sh other DIR' 'pods.sh' 'pods.sh other'; do
  read -r -a words <<<"$script"
  tap_is "$script: a wrong command line" "$(status_of "./${words[0]}" "${words[@]:1}")" 2
done
tap_is 'libvirt-lab.sh: without its libvirtd it says so' "$(status_of ./libvirt-lab.sh exec "$work/none" true)" 1
tap_done
