#!/usr/bin/env bash
# A lab of Warren hosts on one machine: every host is a network namespace with its own warrend, every pod another.
#
#   wl-NAME-ext               wl-NAME-sw (the underlay switch; etcd, with --store etcd)
#  .-----------------.       .---------------------------------------------------.
#  | lo 198.51.100.1 |       |  br0  192.0.2.2  2001:db8::2                      |
#  | 192.0.2.1  eth0 +-------+ ext        h1              h2              h3     |
#  '-----------------'       '-----------+---------------+---------------+-------'
#   "the internet":                      |               |               |
#   knows no pod            wl-NAME-h1   | eth0          | eth0          | eth0
#                          .-------------+------. .------+------. .------+------.
#                          | 192.0.2.11         | | .12         | | .13         |
#                          | 2001:db8::11       | | ::12        | | ::13        |
#                          | warrend            | | warrend     | | warrend     |
#                          | wrn0 (its lease's  | | wrn0        | | wrn0        |
#                          |   first address)   | |  |     |    | |  |     |    |
#                          | veth-p1   veth-p2  | |  |     |    | |  |     |    |
#                          '----+---------+-----' '--+-----+----' '--+-----+----'
#                          eth0 |    eth0 |          |     |         |     |
#               wl-NAME-h1-p1 .-+-. .-----+-.       p1    p2        p1    p2
#          second address of  |p1 | |  p2   |  third ...
#                the lease    '---' '-------'
#
# Exit status: 0; 1 something failed; 2 wrong command line; 77 not root.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/env.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/lab-net.sh"
# shellcheck source=scripts/lab-show.sh
. "$here/lab-show.sh"
# shellcheck source=scripts/lab-bgp.sh
. "$here/lab-bgp.sh"
# shellcheck source=scripts/lab-services.sh
. "$here/lab-services.sh"
# shellcheck source=scripts/lab-tenants.sh
. "$here/lab-tenants.sh"

usage() {
  cat <<'TEXT'
Usage: lab.sh COMMAND [--name NAME] ...          NAME: default "lab", or $WARREN_LAB; several labs live side by side

  up [--hosts 3] [--pods 2] [--backend vxlan|host-gw|bgp] [--store file|etcd] [--family ipv4|ipv6|dual]
     [--underlay ipv4|ipv6|dual] [--mtu 1500] [--direct-routing] [--cluster FILE] [--keep]
     [--services] [--proxy-mode nftables|iptables|userspace] [--tenants] [--tenants-from FILE]
     [--reflectors N] [--bgp-topology mesh|reflectors|auto] [--racks 1|2] [--encapsulation never|crossSubnet]
                        --services: a backend in every pod and a Service in front of them;
                        --racks 2: every other host on a second L2; with backend bgp the router between
                        them (BIRD, in sw) peers with all;
                        --tenants: red and blue with the same addresses, two networks and a router each;
                        --tenants-from: objects of your own instead; the namespaces that its Ports name are made;
                        --cluster: a Cluster object of your own; --keep: leave what is there when it fails
  down [--all]          removes the lab (--all: every lab), whatever state it is in
  exec PLACE [CMD...]   a command or a shell in h2 (`warren` talks to its warrend), h2/p1, ext or sw
  status                one line per host
  pods [-o json]        addresses of the pods
  ping [-o json|--tap]  every pair of pods; exit 1 when one gets no answer
  proxy-mode MODE       serves the Services in another way, from now on
  tenants               every pair of ports inside and across tenants; exit 1 when one is not as it should be
  bgp [...]             `warren bgp` of every host
  kill-gobgpd HOST      SIGKILL for its gobgpd, which is started again
  services [COUNT]      asks the Service from a pod, a node and outside; exit 1 when an answer is missing
  join                  adds a host, and tells how long it took
  start|stop|restart|kill HOST       its warrend (stop: SIGTERM, kill: SIGKILL)
  attach HOST           plugs its pods into wrn0 again (after `warren cleanup` and a start)
  logs HOST [-f]        what its warrend printed
TEXT
}

set_name() {
  [[ $1 =~ ^[a-z][a-z0-9-]{0,15}$ ]] || usage_error "--name \"$1\": 1-16 of a-z, 0-9 and '-', a letter first"
  LAB_NAME=$1
  LAB_DIR=$LAB_BASE/$1
}

need_lab() {
  [[ -r $LAB_DIR/lab.env ]] || die "There is no lab \"$LAB_NAME\"" "lab.sh up --name $LAB_NAME"
  # shellcheck disable=SC1091
  . "$LAB_DIR/lab.env"
}

need_host() {
  [[ $1 =~ ^h([0-9]+)$ && ${BASH_REMATCH[1]} -ge 1 && ${BASH_REMATCH[1]} -le $HOSTS ]] ||
    die "There is no host \"$1\" in lab \"$LAB_NAME\"" "hosts: $(lab_hosts | tr '\n' ' ')"
}

save_env() {
  local name
  for name in HOSTS PODS BACKEND STORE FAMILY UNDERLAY MTU DIRECT_ROUTING SERVICES PROXY_MODE TENANTS REFLECTORS BGP_TOPOLOGY RACKS ENCAPSULATION WARREN_DIST; do
    printf '%s=%q\n' "$name" "${!name}"
  done >"$LAB_DIR/lab.env.new"
  # Whose lab this is, when scripts/test.sh runs it.
  [[ -z ${WARREN_TEST_RUN-} ]] || printf 'TEST_RUN=%s\n' "$WARREN_TEST_RUN" >>"$LAB_DIR/lab.env.new"
  mv "$LAB_DIR/lab.env.new" "$LAB_DIR/lab.env"
}

# One change of a lab at a time. The lock is freed by the kernel when this script ends, however it ends.
lab_lock() {
  mkdir -p "$LAB_BASE"
  local file=$LAB_BASE/.$LAB_NAME.lock
  while true; do
    exec 9>"$file"
    flock -w 60 9 || die "Lab \"$LAB_NAME\" is being changed by another lab.sh" "see: fuser -v $file"
    [[ $file -ef /proc/$$/fd/9 ]] && return # else its last holder removed it while we waited
  done
}
lab_unlock() {
  rm -f "$LAB_BASE/.$LAB_NAME.lock"
  exec 9>&-
  rmdir "$LAB_BASE" 2>/dev/null || :
}

# --- commands ----------------------------------------------------------------------------------------------------------

cmd_up() {
  local keep='' cluster='' started now host n
  while (($#)); do
    case $1 in
      --keep) keep=1 ;;
      --direct-routing) DIRECT_ROUTING=true ;;
      --services) SERVICES=true ;;
      --tenants) TENANTS=true ;;
      --hosts | --pods | --backend | --store | --family | --underlay | --mtu | --cluster | --proxy-mode | --tenants-from | --reflectors | --bgp-topology | --racks | --encapsulation)
        (($# > 1)) || usage_error "$1 needs a value"
        case $1 in
          --hosts) HOSTS=$(number "$1" "$2" 1 200) ;;
          --pods) PODS=$(number "$1" "$2" 0 200) ;;
          --mtu) MTU=$(number "$1" "$2" 1280 65000) ;;
          --backend) BACKEND=$(one_of "$1" "$2" vxlan host-gw bgp) ;;
          --store) STORE=$(one_of "$1" "$2" file etcd) ;;
          --family) FAMILY=$(one_of "$1" "$2" ipv4 ipv6 dual) ;;
          --underlay) UNDERLAY=$(one_of "$1" "$2" ipv4 ipv6 dual) ;;
          --cluster) cluster=$2 ;;
          --reflectors) REFLECTORS=$(number "$1" "$2" 1 16) ;;
          --racks) RACKS=$(number "$1" "$2" 1 2) ;;
          --encapsulation) ENCAPSULATION=$(one_of "$1" "$2" never crossSubnet) ;;
          --bgp-topology) BGP_TOPOLOGY=$(one_of "$1" "$2" mesh reflectors auto) ;;
          --tenants-from) TENANTS=true TENANTS_FILE=$2 ;;
          --proxy-mode) PROXY_MODE=$(one_of "$1" "$2" nftables iptables userspace) ;;
        esac
        shift
        ;;
      *) usage_error "up: \"$1\" is not an option" ;;
    esac
    shift
  done
  # A host needs an address of the family that its pods' routes go through; IPv4 by default.
  [[ -n $UNDERLAY ]] || UNDERLAY=$([[ $FAMILY == ipv4 ]] && echo ipv4 || echo dual)
  [[ -z $cluster || -r $cluster ]] || die "Cannot read the cluster file \"$cluster\"" "give a readable file with --cluster"
  [[ -z $TENANTS_FILE || -r $TENANTS_FILE ]] || die "Cannot read the tenants' file \"$TENANTS_FILE\"" "give a readable file with --tenants-from"
  need_packages "${RUN_PACKAGES[@]}"
  [[ $BACKEND != bgp ]] || need_packages gobgpd:gobgpd bird:bird2
  [[ $STORE != etcd ]] || need_packages 'etcd:etcd-server|etcd' 'etcdctl:etcd-client|etcd'
  [[ $WARREN_DIST != "$WARREN_ROOT/dist" ]] || need_build
  lab_lock
  [[ ! -e $LAB_DIR && -z $(lab_namespaces "$LAB_NAME") ]] ||
    die "Lab \"$LAB_NAME\" is there already" "lab.sh down --name $LAB_NAME, or another --name"
  UP_KEEP=$keep
  on_exit up_ended
  now_ms started
  mkdir -p "$LAB_DIR/cluster"
  save_env
  if [[ -n $cluster ]]; then cp "$cluster" "$LAB_DIR/cluster.yaml"; else write_cluster "$LAB_DIR/cluster.yaml"; fi
  progress "lab \"$LAB_NAME\": switch, $HOSTS hosts, $((HOSTS * PODS)) pods ..."
  make_switch
  [[ $STORE != etcd ]] || start_etcd
  ((RACKS == 1)) || [[ $BACKEND != bgp ]] || start_tor
  [[ $STORE != file ]] || cp "$LAB_DIR/cluster.yaml" "$LAB_DIR/cluster/cluster.yaml"
  for ((n = 1; n <= HOSTS; n++)); do
    make_host "$n" &
  done
  wait_all
  if [[ $STORE == etcd ]]; then
    busywait 10 etcd_ready >/dev/null || die "etcd does not answer after 10 s" "its log: $LAB_DIR/etcd.log"
    in_ns h1 "$WARREN_DIST/warren" apply -f "$LAB_DIR/cluster.yaml" --config "$LAB_DIR/h1/warrend.yaml" >/dev/null ||
      die "Cannot write the Cluster object into etcd" "its log: $LAB_DIR/etcd.log"
  fi
  progress "lab \"$LAB_NAME\": starting warrend ..."
  for host in $(lab_hosts); do start_host "$host"; done
  for host in $(lab_hosts); do
    { await_host "$host" 15 && attach_pods "$host"; } &
  done
  wait_all
  ((PODS == 0)) || await_pings 15
  now_ms now
  UP_DONE=1
  log "lab \"$LAB_NAME\" is up: $HOSTS hosts, $((HOSTS * PODS)) pods, $BACKEND, store $STORE, pods $FAMILY," \
    "underlay $UNDERLAY; all reachable $(seconds $((now - started))) s after the start"
  [[ $SERVICES != true ]] || apply_services
  [[ $TENANTS != true ]] || apply_tenants
  for host in $(lab_hosts); do
    warren_on "$host" wait --converged --timeout 10s >/dev/null &
  done
  wait_all || die "Not every host has converged after 10 s" "lab.sh exec h1 warren status"
}

# A lab that did not come up is taken down again, with the end of every log shown.
UP_KEEP='' UP_DONE=''
up_ended() {
  [[ -z $UP_DONE ]] || return 0
  if [[ -n $UP_KEEP ]]; then
    log "lab \"$LAB_NAME\" did not come up; it is left as it is (--keep)"
    return 0
  fi
  log "lab \"$LAB_NAME\" did not come up: removing it"
  remove_lab "$LAB_NAME"
  lab_unlock
}

await_pings() {
  local out
  out=$(busywait "$1" all_reachable) && return
  local host
  for host in $(lab_hosts); do log_tail "$host"; done
  die "Not every pod reaches every other after $1 s:" "$out"
}

# Waits for every child (daemons are disowned); fails when one did.
wait_all() {
  local job status=0
  for job in $(jobs -p); do
    wait "$job" || status=1
  done
  return "$status"
}

number() {
  [[ $2 =~ ^[0-9]{1,6}$ && $2 -ge $3 && $2 -le $4 ]] || usage_error "$1 \"$2\": a number from $3 to $4"
  printf '%d' "$2"
}

one_of() {
  local option=$1 value=$2 word
  shift 2
  for word in "$@"; do
    if [[ $word == "$value" ]]; then
      printf '%s' "$value"
      return
    fi
  done
  usage_error "$option \"$value\": one of $*"
}

seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

cmd_down() {
  local path names=()
  if [[ ${1-} == --all ]]; then
    for path in "$LAB_BASE"/*/; do [[ ! -d $path ]] || names+=("$(basename "$path")"); done
    for path in /run/netns/wl-*; do
      [[ ! ${path##*/} =~ ^wl-(.+)-(sw|ext|h[0-9]+)$ ]] || names+=("${BASH_REMATCH[1]}")
    done
    ((${#names[@]} == 0)) || mapfile -t names < <(printf '%s\n' "${names[@]}" | sort -u)
  elif (($#)); then
    usage_error "down: \"$1\" is not an option"
  else
    names=("$LAB_NAME")
  fi
  local name was
  for name in "${names[@]}"; do
    set_name "$name"
    was=$(lab_namespaces "$name" | wc -l)
    [[ $was -gt 0 || -e $LAB_DIR ]] || continue
    lab_lock
    remove_lab "$name"
    lab_unlock
    log "lab \"$name\" is down"
  done
}

cmd_exec() {
  (($#)) || usage_error "exec: which place? (h1, h1/p1, ext, sw)"
  local place=$1 path dir=''
  shift
  path=/run/netns/$(ns "$place")
  [[ $place =~ ^(sw|ext|h[0-9]+(/p[0-9]+)?)$ && -e $path ]] || die "There is no place \"$place\" in lab \"$LAB_NAME\"" "lab.sh pods"
  (($#)) || set -- "${SHELL:-/bin/bash}"
  [[ ! $place =~ ^h[0-9]+$ ]] || dir=$(host_dir "$place")
  exec ip netns exec "${path##*/}" env PATH="$WARREN_DIST:$PATH" ${dir:+"WARREN_SOCKET=$dir/warrend.sock"} \
    ${dir:+"WARREN_CONFIG=$dir/warrend.yaml"} WARREN_LAB="$LAB_NAME" "$@"
}

cmd_join() {
  lab_lock
  local n=$((HOSTS + 1)) host started leased now
  host=h$n
  make_host "$n"
  now_ms started
  start_host "$host"
  HOSTS=$n
  save_env
  await_host "$host" 15
  now_ms leased
  attach_pods "$host"
  ((PODS == 0)) || await_pings 15
  now_ms now
  log "$host joined lab \"$LAB_NAME\": lease after $((leased - started)) ms, every pod reached every other after $((now - started)) ms"
}

cmd_start() {
  start_host "$1"
  await_host "$1" 15
  busywait 10 warren_on "$1" wait --converged --timeout 10s >/dev/null || {
    log_tail "$1"
    die "warrend of \"$1\" has not converged after 10 s" "lab.sh exec $1 warren status"
  }
  attach_pods "$1"
}

cmd_stop() { proc_kill "$LAB_DIR/$1/warrend.pid" TERM 10; }
cmd_kill() { proc_kill "$LAB_DIR/$1/warrend.pid" KILL; }

main() {
  case ${1-} in
    '' | -h | --help)
      usage
      exit 0
      ;;
  esac
  local command=$1 rest=()
  shift
  set_name "$LAB_NAME"
  # --name may stand anywhere before the command of `exec`.
  while (($#)); do
    case $1 in
      --name)
        (($# > 1)) || usage_error "--name needs a value"
        set_name "$2"
        shift
        ;;
      --name=*) set_name "${1#*=}" ;;
      -h | --help)
        usage
        exit 0
        ;;
      *)
        rest+=("$1")
        if [[ $command == exec ]]; then
          shift
          rest+=("$@")
          break
        fi
        ;;
    esac
    shift
  done
  set -- "${rest[@]}"
  case $command in
    up | down)
      need_root
      "cmd_$command" "$@"
      ;;
    exec | status | pods | ping | services | proxy-mode | tenants | bgp | join)
      need_root
      need_lab
      "cmd_${command//-/_}" "$@"
      ;;
    start | stop | restart | kill | attach | logs | kill-gobgpd)
      need_root
      need_lab
      (($#)) || usage_error "$command: which host?"
      need_host "$1"
      case $command in
        restart)
          cmd_stop "$1"
          cmd_start "$1"
          ;;
        attach) attach_pods "$1" ;;
        kill-gobgpd) kill_gobgpd "$1" ;;
        logs)
          if [[ ${2-} == -f ]]; then exec tail -n 40 -f "$LAB_DIR/$1/warrend.log"; fi
          cat "$LAB_DIR/$1/warrend.log"
          ;;
        *) "cmd_$command" "$1" ;;
      esac
      ;;
    *) usage_error "\"$command\" is not a command" ;;
  esac
}

main "$@"
