#!/usr/bin/env bash
# Lays the tree of an installed Warren down below DESTDIR, for scripts/install.sh and scripts/package.sh: files only, nothing is
# started, enabled or fetched. dist/ and node_modules/ have to be there (npm ci && npm run build).
#
#   PREFIX/lib/warren/dist, node_modules, LICENSE    the build, and what it loads on this architecture only
#   PREFIX/lib/warren/node/bin/node                  with --node FILE
#   PREFIX/sbin/warrend, PREFIX/bin/warren           links to the launchers in dist/
#   PREFIX/share/...                                 man pages, completions for bash, zsh and fish, docs
#   /etc/warren/warrend.yaml                         every default, commented out
#   /var/lib/warren/cluster                          empty
#   UNITS                                            units of scripts/systemd: PREFIX /usr: /usr/lib; else: /etc
#   {UNITS}/../networkd.conf.d, /usr/lib/sysctl.d    and what goes with them, from the folders of that name in scripts/systemd
#
# Exit status: 0; 1 something is missing; 2 wrong command line.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"

usage() {
  cat <<'TEXT'
Usage: stage.sh [--dist DIR] [--node FILE] [--arch x64|arm64] DESTDIR PREFIX
  DESTDIR      folder that stands for /; "" or / is this host
  PREFIX       /usr or /usr/local
  --dist DIR   the build; default: dist of this tree
  --node FILE  a Node to bring along; default: none, the one on PATH is used
  --arch ARCH  architecture of the host; default: this machine's
TEXT
}

dist=${WARREN_DIST:-$WARREN_ROOT/dist} node='' arch='' places=()
while (($#)); do
  case $1 in
    --dist | --node | --arch)
      (($# > 1)) || usage_error "$1 needs a value"
      case $1 in
        --dist) dist=$2 ;;
        --node) node=$2 ;;
        --arch) arch=$2 ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*) usage_error "\"$1\" is not an option" ;;
    *) places+=("$1") ;;
  esac
  shift
done
((${#places[@]} == 2)) || usage_error "needs DESTDIR and PREFIX"
dest=${places[0]%/} prefix=${places[1]}
[[ $prefix =~ ^(/[A-Za-z0-9._-]+)+$ ]] || usage_error "PREFIX \"$prefix\" is not a plain absolute path"
[[ -r $dist/warrend.cjs && -r $dist/warren.cjs ]] || die "No build in \"$dist\"" "npm ci && npm run build"
command -v node >/dev/null || die "No node on PATH" "scripts/install.sh brings one"
# A code cache fits the Node that made it; one of another architecture cannot even be asked.
version=$("${node:-node}" --version 2>/dev/null) || version=''

umask 022
lib=$dest$prefix/lib/warren
install -d "$lib" "$dest$prefix/bin" "$dest$prefix/sbin" "$dest/etc/warren"

# put SOURCE TARGET [MODE]: a copy with the paths of PREFIX in it.
put() {
  install -d "${2%/*}"
  rewrite <"$1" >"$2"
  chmod "${3-644}" "$2"
}
rewrite() {
  if [[ $prefix == /usr ]]; then cat; else
    sed -E "s#/usr/(lib/warren|s?bin/warrend?)(\$|[^A-Za-z0-9_-])#$prefix/\\1\\2#g"
  fi
}

# --- programs ------------------------------------------------------------------------------------------------------------

stage_programs() {
  local list folder file
  rm -rf "$lib/dist" "$lib/node_modules"
  install -d "$lib/dist"
  for file in "$dist"/*; do
    case $file in
      *.map) continue ;; # for debugging, and larger than all the rest
      *.cache) [[ $(<"$dist/.built") == "$version" ]] || continue ;;
    esac
    install -m "$([[ -x $file ]] && echo 755 || echo 644)" "$file" "$lib/dist/"
  done
  ln -sfn "../lib/warren/dist/warrend" "$dest$prefix/sbin/warrend"
  ln -sfn "../lib/warren/dist/warren" "$dest$prefix/bin/warren"
  install -m 644 "$WARREN_ROOT/LICENSE" "$lib/LICENSE"
  install -m 755 "$here/compile-cache.sh" "$lib/compile-cache"
  if [[ -n $node ]]; then
    # Not over the one that runs: a busy text file cannot be written.
    rm -rf "$lib/node"
    install -D -m 755 "$node" "$lib/node/bin/node"
    [[ ! -r ${node%/bin/*}/LICENSE ]] || install -m 644 "${node%/bin/*}/LICENSE" "$lib/node/LICENSE"
  fi
  list=$(node "$here/runtime-modules.mjs" ${arch:+"$arch"}) || die "Runtime modules are missing (see above)" "npm ci"
  while IFS=$'\t' read -r folder file; do
    printf '%s\0' "$folder/$file"
  done <<<"$list" | (cd "$WARREN_ROOT" && tar --create --null --mode=u=rwX,go=rX --files-from=-) |
    tar --extract --directory="$lib" --no-same-owner
  # koffi and netlink are loaded, never run.
  find "$lib/node_modules" -type f -exec chmod 644 {} +
}

# --- units and what goes with them ---------------------------------------------------------------------------------------

stage_units() {
  local base=/usr/lib file name folder etc=/etc
  [[ $prefix == /usr ]] || base=$etc
  for file in "$WARREN_ROOT"/scripts/systemd/*; do
    name=${file##*/}
    if [[ -d $file ]]; then
      case $name in
        sysctl.d | modules-load.d | tmpfiles.d | sysusers.d) folder=$base/$name ;;
        NetworkManager) folder=$base/NetworkManager/conf.d ;;
        examples) folder=$prefix/share/doc/warren/examples ;;
        *) folder=$base/systemd/$name ;; # network, networkd.conf.d, UNIT.d, ...
      esac
      while IFS= read -r name; do put "$file/$name" "$dest$folder/$name"; done < <(cd "$file" && find . -type f -printf '%P\n')
      continue
    fi
    case $name in
      *.service | *.socket | *.target | *.timer | *.path | *.slice | *.mount) put "$file" "$dest$base/systemd/system/$name" ;;
      *.link | *.network | *.netdev) put "$file" "$dest$base/systemd/network/$name" ;;
      *) if [[ -x $file ]]; then put "$file" "$lib/$name" 755; fi ;; # what units run
    esac
  done
}

# --- texts ---------------------------------------------------------------------------------------------------------------

stage_texts() {
  local share=$dest$prefix/share page shell doc
  for page in "$WARREN_ROOT"/docs/man/*.[0-9]; do
    [[ -e $page ]] || continue
    put "$page" "$share/man/man${page##*.}/${page##*/}"
    gzip -9nf "$share/man/man${page##*.}/${page##*/}"
  done
  for shell in bash:bash-completion/completions/warren zsh:zsh/vendor-completions/_warren \
    fish:fish/vendor_completions.d/warren.fish; do
    doc=$share/${shell#*:}
    # zsh of a distribution reads vendor-completions below /usr only; below /usr/local it is site-functions.
    [[ $prefix == /usr ]] || doc=${doc/vendor-completions/site-functions}
    install -d "${doc%/*}"
    "$dist/warren" completion "${shell%%:*}" >"$doc"
    chmod 644 "$doc"
  done
  doc=$share/doc/warren
  install -d "$doc"
  (cd "$WARREN_ROOT" && tar --create --mode=u=rwX,go=rX --exclude=docs/man --exclude='*.svg' README.md docs) |
    tar --extract --directory="$doc" --no-same-owner
  put "$WARREN_ROOT/CHANGELOG.md" "$doc/CHANGELOG.md"
  put "$WARREN_ROOT/docs/warrend.yaml" "$doc/examples/warrend.yaml"
}

# An edited one is the user's: the new one goes beside it.
stage_config() {
  local file=$dest/etc/warren/warrend.yaml
  if [[ ! -e $file ]]; then
    put "$WARREN_ROOT/docs/warrend.yaml" "$file"
  fi
}

# The default store: an empty one is no model, and `warren apply` fills it.
stage_state() { install -d "$dest/var/lib/warren/cluster"; }

stage_programs
stage_state
stage_units
stage_texts
stage_config
