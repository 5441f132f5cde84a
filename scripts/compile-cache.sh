#!/bin/sh
# compile-cache [--remove]: makes V8's code cache for the two programs of this tree, by the Node that will run them: a third of a
# start's CPU time less. Part of the installed tree (PREFIX/lib/warren/compile-cache); a cache is a gain, never a condition.
set -u
here=$(dirname -- "$(readlink -f -- "$0")")
rm -f -- "$here"/dist/*.cache
[ "${1-}" != --remove ] || exit 0
work=$(mktemp -d) || exit 0
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/model"
# A configuration of our own: the host's may be wrong, or name a store that is slow to answer.
printf '%s\n' 'node: compile' "store: { file: $work/model }" "stateDir: $work" "socket: $work/socket" >"$work/warrend.yaml"
export WARREN_CODE_CACHE=write
"$here/dist/warrend" --config "$work/warrend.yaml" --check >/dev/null 2>&1 || :
"$here/dist/warren" --help >/dev/null 2>&1 || :
