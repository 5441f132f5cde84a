#!/usr/bin/env bash
# Proves the isolation of tenants' networks: makes a lab with the real product, uses it, attacks it, and says what came of it.
#
#            red (10.0.1.0/24, 10.0.2.0/24)   blue and green (the same addresses and MACs)
#   h1       a1 a3 a4 a5 a6 a7  b2            a1 a7 b2    green a1
#   h2       a2 a9 (a real VM)  b1            a2 a9 b1    (no green: a stranger to it)
#   h3       a8                 b3            a8 b3       green a8
#
# Every attack is made twice: with all guards, where it must fail, and with its own guard taken out by hand, where it must
# work. TAP on stdout. Needs root; about two minutes on two cores.
#
# Exit status: 0; 1 something is not as it must be; 2 wrong command line; 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"
# shellcheck source=scripts/isolation-vm.sh
. "$here/isolation-vm.sh"

usage() {
  cat <<'TEXT'
Usage: isolation.sh [--json FILE] [--markdown FILE] [--html FILE] [--name LAB] [--no-vm] [--keep]
                    [--underlay ipv4|ipv6]
  --json, --markdown, --html   the report, beside the TAP on stdout
  --no-vm                      without the virtual machine (it is skipped, and counted)
  --underlay ipv6              between hosts that have no IPv4
  --keep                       leaves the lab as it is: lab.sh exec h1 --name LAB
TEXT
}

name=iso$$ keep='' vm=1 underlay=ipv4 reports=()
while (($#)); do
  case $1 in
    --json | --markdown | --html | --name)
      (($# > 1)) || usage_error "$1 needs a value"
      if [[ $1 == --name ]]; then name=$2; else reports+=("$1" "$(realpath -m -- "$2")"); fi
      shift
      ;;
    --underlay)
      (($# > 1)) || usage_error "$1 needs a value"
      underlay=$2
      shift
      ;;
    --keep) keep=1 ;;
    --no-vm) vm='' ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) usage_error "\"$1\" is not an option" ;;
  esac
  shift
done
need_root
need_packages "${RUN_PACKAGES[@]}"
[[ ${WARREN_DIST:-$WARREN_ROOT/dist} != "$WARREN_ROOT/dist" ]] || need_build
need_modules

work=$(mktemp -d)
cleanup() {
  [[ -n $keep ]] || "$here/lab.sh" down --name "$name" 2>/dev/null
  rm -rf -- "$work"
}
on_exit cleanup

node_ts() { node --no-warnings --import "$WARREN_ROOT/test/support/register.mjs" "$WARREN_ROOT/test/support/isolation/$1.ts" "${@:2}"; }

cd "$WARREN_ROOT"
node_ts topology "$name" >"$work/tenants.yaml"
"$here/lab.sh" up --name "$name" --hosts 3 --pods 1 --underlay "$underlay" --tenants-from "$work/tenants.yaml"
if [[ -z $vm ]]; then
  reports+=(--no-vm 'left out with --no-vm')
elif image=$(vm_image); then
  reports+=(--vm "$image")
else
  reports+=(--no-vm "$image")
fi
node_ts main --lab "$name" --root "$WARREN_ROOT" "${reports[@]}"
