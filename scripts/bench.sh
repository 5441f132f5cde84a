#!/usr/bin/env bash
# Runs a benchmark of test/bench: builds dist/ and the benchmark, and runs it inside a network namespace of its own, from
# where it makes more of them. What it leaves behind after a crash is removed by its next run.
#
#   npm run bench -- overlay|services|tenants [--quick] [--json FILE] [--only NAME,...]
#
# Exit status: 0 it ran (a goal that is missed is printed, not an error); 1 something failed; 2 wrong command line; 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"

need_root
need_packages "${RUN_PACKAGES[@]}" 'etcd:etcd-server|etcd' gobgpd:gobgpd
need_build

bundle() {
  "$WARREN_ROOT/node_modules/.bin/esbuild" "$WARREN_ROOT/test/bench/main.ts" --bundle --platform=node --target=node20 --format=cjs \
    --external:koffi --external:netlink --define:import.meta.url=importMetaUrl --log-level=warning \
    --banner:js="const importMetaUrl = require('node:url').pathToFileURL(__filename).href;" --outfile="$1"
}

# The namespaces of runs whose process is gone.
sweep() {
  local path pid
  for path in /run/netns/wb-*; do
    [[ ${path##*/} =~ ^wb-([0-9]+)- ]] || continue
    pid=${BASH_REMATCH[1]}
    [[ $pid == "$$" || ! -e /proc/$pid ]] || continue
    ip netns delete "${path##*/}" 2>/dev/null || :
  done
  rm -f "$WARREN_ROOT/dist/bench.$$.cjs"
}

ns=wb-$$
sweep
on_exit sweep
ip netns add "$ns-sw"
bundle "$WARREN_ROOT/dist/bench.$$.cjs"
WARREN_BENCH_NS=$ns WARREN_DIST=${WARREN_DIST:-$WARREN_ROOT/dist} nsenter --net="/run/netns/$ns-sw" \
  node "$WARREN_ROOT/dist/bench.$$.cjs" "$@"
