#!/usr/bin/env bash
# npm run package: dist/warren_VERSION_ARCH.deb, for Debian 12 and Ubuntu 22.04 and newer, with a Node of its own.
#
# The tree is that of scripts/stage.sh. Node comes from the npm package node-linux-ARCH, in the version and with the checksum of
# scripts/node-runtime.json; nothing is fetched when the package is installed. The same sources give the same bytes: times are
# SOURCE_DATE_EPOCH's (default: that of the last commit), owners root's, and code caches are made on the host (postinst).
#
# Exit status: 0; 1 something failed; 2 wrong command line.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"

usage() {
  cat <<'TEXT'
Usage: package.sh [--arch amd64|arm64] [--out DIR] [--version VERSION] [--compress xz|gzip|none]
  --arch ARCH         architecture of the hosts; default: this machine's
  --out DIR           where the package is put; default: dist
  --version VERSION   default: that of package.json
  --compress HOW      xz (default, small), gzip (seconds instead of a minute), none
TEXT
}

arch='' out='' version='' compress=xz
while (($#)); do
  case $1 in
    --arch | --out | --version | --compress)
      (($# > 1)) || usage_error "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) usage_error "\"$1\" is not an option" ;;
  esac
  shift
done

case $(uname -m) in
  x86_64) machine=amd64 ;;
  aarch64) machine=arm64 ;;
  *) machine=$(uname -m) ;;
esac
arch=${arch:-$machine}
case $arch in
  amd64) node_arch=x64 ;;
  arm64) node_arch=arm64 ;;
  *) usage_error "\"$arch\" is not one of amd64, arm64" ;;
esac
[[ $compress =~ ^(xz|gzip|none)$ ]] || usage_error "\"$compress\" is not one of xz, gzip, none"

need_packages dpkg-deb:dpkg jq:jq openssl:openssl
if [[ -n ${WARREN_DIST-} ]]; then need_node; else need_build; fi
cd "$WARREN_ROOT"
dist=${WARREN_DIST:-$WARREN_ROOT/dist}
out=${out:-$WARREN_ROOT/dist}
version=${version:-$(jq -r .version package.json)}
version=${version/-/\~} # 1.0.0-rc.1 comes before 1.0.0
[[ $version =~ ^[0-9][A-Za-z0-9.+~]*$ ]] || die "Version \"$version\" is none of a Debian package" "digits, letters, \".\", \"+\", \"~\""
if [[ -z ${SOURCE_DATE_EPOCH-} ]]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(stat -c %Y package.json)
fi
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
on_exit rm -rf "$work"
tree=$work/tree

# fetch NAME VERSION INTEGRITY: $work/FILE.tgz of the npm registry, checked by npm and against INTEGRITY (sha512-BASE64).
fetch() {
  local name=$1 file sum
  progress "$name@$2 ..."
  file=$(cd "$work" && npm pack --silent --ignore-scripts "$name@$2" | tail -n 1) ||
    die "Cannot fetch \"$name@$2\"" "can this machine reach the npm registry (npm ping)?"
  sum=sha512-$(openssl dgst -sha512 -binary "$work/$file" | base64 -w 0)
  [[ $sum == "$3" ]] || die "\"$name@$2\" is not what it was: its checksum is \"$sum\", and should be \"$3\"" \
    "do not use it; scripts/node-runtime.json and package-lock.json have the checksums"
  fetched=$work/$file
}

fetch "node-linux-$node_arch" "$(jq -r .version scripts/node-runtime.json)" "$(jq -r ".$node_arch" scripts/node-runtime.json)"
mkdir "$work/node"
tar --extract --gzip --file="$fetched" --directory="$work/node" --strip-components=1 package/bin/node package/LICENSE
chmod 755 "$work/node/bin/node"

progress "laying the tree down ..."
"$here/stage.sh" --dist "$dist" --node "$work/node/bin/node" --arch "$node_arch" "$tree" /usr
if [[ $arch != "$machine" ]]; then
  native=@koromix/koffi-linux-$node_arch
  read -r native_version integrity < <(jq -r ".packages[\"node_modules/$native\"] | \"\(.version) \(.integrity)\"" package-lock.json)
  fetch "$native" "$native_version" "$integrity"
  mkdir -p "$tree/usr/lib/warren/node_modules/$native"
  tar --extract --gzip --file="$fetched" --directory="$tree/usr/lib/warren/node_modules/$native" --strip-components=1 --no-same-owner \
    --exclude='*/musl_*' --exclude='*.md'
  find "$tree/usr/lib/warren/node_modules/$native" -type f -exec chmod 644 {} +
fi

# --- what dpkg wants beside the files ------------------------------------------------------------------------------------

doc=$tree/usr/share/doc/warren
install -m 644 "$here/deb/copyright" "$doc/copyright"
gzip -9nf "$doc/CHANGELOG.md"
gzip -9n >"$doc/changelog.gz" <<TEXT
warren ($version) stable; urgency=medium

  * What changed is in CHANGELOG.md.gz.

 -- $(sed -n 's/^Maintainer: //p' "$here/deb/control")  $(LC_ALL=C date -R -u -d "@$SOURCE_DATE_EPOCH")
TEXT
install -D -m 644 "$here/deb/lintian-overrides" "$tree/usr/share/lintian/overrides/warren"
mkdir "$tree/DEBIAN"
printf '/etc/warren/warrend.yaml\n' >"$tree/DEBIAN/conffiles"
units=$(cd "$tree/usr/lib/systemd/system" && grep -l '^\[Install\]' -- *.* | tr '\n' ' ')
for script in postinst prerm postrm; do
  sed "s/@UNITS@/${units% }/" "$here/deb/$script" >"$tree/DEBIAN/$script"
  chmod 755 "$tree/DEBIAN/$script"
done
(cd "$tree" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
# Kilobytes of the files, each to the next full one, and one for each folder: the same on every file system (deb-substvars(5)).
size=$(find "$tree" -not -path "$tree/DEBIAN*" \( -type f -printf '%s\n' -o -printf '1\n' \) | awk '{ n += int(($1 + 1023) / 1024) } END { print n }')
sed -e "s/@VERSION@/$version/" -e "s/@ARCH@/$arch/" -e "s/@SIZE@/$size/" "$here/deb/control" >"$tree/DEBIAN/control"
chmod -R u=rwX,go=rX "$tree"
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

progress "dpkg-deb ($compress) ..."
mkdir -p "$out"
deb=$out/warren_${version}_$arch.deb
level=6
[[ $compress != none ]] || level=0
[[ $compress != gzip ]] || level=3
env_quietly dpkg-deb --root-owner-group "-Z$compress" "-z$level" --build "$tree" "$work/new.deb" || die "Cannot build \"$deb\""
mv "$work/new.deb" "$deb"
lib_clear
printf '%s\n' "$deb"
