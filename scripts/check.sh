#!/usr/bin/env bash
# Format, lint and types of the TypeScript, lint and format of the shell; every check runs, then the failed ones decide.
# (That arrows only point down is test/layers.test.ts.) `check.sh --tap` prints TAP for scripts/test.sh.
#
# Exit status: 0; 1 a check failed; 2 wrong command line.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"

case ${1-} in
  '') tap='' ;;
  --tap) tap=1 ;;
  -h | --help)
    sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *) usage_error "\"$1\" is not an option" ;;
esac

# Every shell script of the repository: by name, and by its first line where it has no suffix.
shell_scripts() {
  local file line
  find . \( -name node_modules -o -name .git -o -name '.node*' -o -name 'dist*' -o -name .tap \) -prune -o \
    -type f -print0 | sort -z | while IFS= read -r -d '' file; do
    case ${file##*/} in
      *.sh) printf '%s\0' "$file" ;;
      *.*) ;;
      *)
        IFS= read -r line <"$file" || :
        [[ ! $line =~ ^\#\!.*[/\ ](ba|da)?sh ]] || printf '%s\0' "$file"
        ;;
    esac
  done
}

check_biome() { npx --no-install biome check --error-on-warnings --max-diagnostics=100; }
check_types() { npx --no-install tsc -p . --noEmit; }
check_shellcheck() { shell_scripts | xargs -0 -r shellcheck -x; }
check_shfmt() { shell_scripts | xargs -0 -r shfmt -d -i 2 -ci; }

run_check() {
  if [[ -n $tap ]]; then
    tap_ok "$1" "$2"
    return
  fi
  progress "$1 ..."
  "$2" || {
    log "${RED}failed:${PLAIN} $1"
    TAP_FAILED=1
  }
}

need_packages shellcheck:shellcheck shfmt:shfmt
need_modules
cd "$WARREN_ROOT"
run_check 'check: biome finds nothing' check_biome
run_check 'check: tsc finds nothing' check_types
run_check 'check: shellcheck finds nothing' check_shellcheck
run_check 'check: shfmt would change nothing' check_shfmt
[[ -z $tap ]] || tap_done
lib_clear
((TAP_FAILED == 0))
