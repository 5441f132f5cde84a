#!/usr/bin/env bash
# The README's first command: on a fresh machine it installs what is missing, builds, brings up three hosts with two pods
# each (scripts/lab.sh draws them), proves that every pod reaches every other, and says where to look next.
# `run.sh down` takes everything down again.
#
# Exit status: 0; 1 something failed (an error says what to do); 2 wrong command line; 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"

usage() {
  cat <<'TEXT'
Usage: run.sh [UP-OPTIONS...]    brings up the lab (options of `lab.sh up`: --hosts, --backend, --store, --name ...)
       run.sh down [--name NAME] removes it
TEXT
}

case ${1-} in
  -h | --help)
    usage
    exit 0
    ;;
  down)
    need_root
    exec "$here/lab.sh" "$@"
    ;;
  '' | --*) ;;
  *) usage_error "\"$1\" is not a command" ;;
esac

need_root
need_packages "${RUN_PACKAGES[@]}"
need_build

name=${WARREN_LAB:-lab}
for ((i = 1; i <= $#; i++)); do
  [[ ${!i} != --name ]] || { j=$((i + 1)) && name=${!j-}; }
done
# The last lab of this name makes room: the command may be typed twice.
"$here/lab.sh" down --name "$name" 2>/dev/null || die "Cannot remove the lab \"$name\" that was up" "scripts/lab.sh down --name $name"
services=(--services)
[[ " $* " != *' --cluster '* ]] || services=()
"$here/lab.sh" up "${services[@]}" "$@"

bold='' plain=''
if [[ -t 1 && -z ${NO_COLOR-} && ${TERM-dumb} != dumb ]]; then bold=$BOLD plain=$PLAIN; fi
lab=scripts/lab.sh
suffix=''
[[ $name == lab ]] || suffix=" --name $name"

printf '\n'
"$here/lab.sh" ping --name "$name"
if ((${#services[@]} > 0)); then
  printf '\nService "web": cluster IP 10.0.0.1:1234 or fd00:10::1:1234, nodePort 31234, an HTTP and UDP backend in every pod\n'
  "$here/lab.sh" services --name "$name" 6
fi
cat <<TEXT

${bold}Where to look next${plain}
  $lab status$suffix                              each host: lease, revision, converged
  $lab exec$suffix h1 warren status               what one warrend knows; also: plan, show observed, events
  $lab exec$suffix h1 ip -d link show type vxlan  what it made in the kernel; routes: ip route show proto 87
  $lab exec$suffix h1 bridge fdb                  where it sends the frames for each peer
  $lab exec$suffix h1 nft list ruleset            masquerade, Services and the guard around VXLAN
  $lab exec$suffix h1 warren get service web -o yaml   what is served; nft list map ip warren-services eps
  $lab exec$suffix h1 ip route flush proto 87     break it: it is back before you look (warren events)
  $lab exec$suffix h1/p1 ping 198.51.100.1        a pod talks to the world outside
  $lab join$suffix                                one more host
  scripts/run.sh down$suffix                                  takes it all down
TEXT
