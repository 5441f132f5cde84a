#!/usr/bin/env bash
# The isolation harness with its reports: what it says is this suite's TAP.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
exec "$here/../../scripts/isolation.sh" --name "ti$$"
