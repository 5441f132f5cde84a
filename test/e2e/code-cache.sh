#!/usr/bin/env bash
# V8 refuses a code cache that was written under other flags, or for another text, and says nothing: the programs only start
# slower. Those that the build made must fit.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
dist=${WARREN_DIST:-$here/../../dist}
number=0
status=0
for program in warrend warren; do
  number=$((number + 1))
  if WARREN_CODE_CACHE=check "$dist/$program"; then
    echo "ok $number - the code cache of $program fits"
  else
    status=1
    echo "not ok $number - the code cache of $program fits"
  fi
done
echo "1..$number"
exit "$status"
