# shellcheck shell=bash
# The namespaces, links and processes of a lab; sourced by lab.sh, which has the drawing. Everything is made inside
# namespaces with batches of `ip`: nothing of the machine's own network is touched, and a host costs four processes.
#
# State of lab NAME, below $LAB_DIR = /run/warren-lab/NAME (WARREN_LAB_DIR moves /run/warren-lab):
#   lab.env            the options of `up`, as shell variables
#   cluster.yaml       the Cluster object; cluster/ the file store that all hosts share; etcd/ etcd.pid etcd.log
#   h1/                warrend.yaml .pid .log .sock, subnet.env, state/, pods (name, IPv4, IPv6 of each pod)

# Defaults of `lab.sh up`; the other commands read what `up` was given from lab.env.
# shellcheck disable=SC2034 # some are for lab-bgp.sh and lab-services.sh
HOSTS=3 PODS=2 BACKEND=vxlan STORE=file FAMILY=ipv4 UNDERLAY='' MTU=1500 DIRECT_ROUTING=false SERVICES=false PROXY_MODE=nftables TENANTS=false REFLECTORS=0 BGP_TOPOLOGY=auto RACKS=1 ENCAPSULATION=never
LAB_NAME=${WARREN_LAB:-lab}
WARREN_DIST=${WARREN_DIST:-$WARREN_ROOT/dist}
LAB_LOCK_FD=9

LAB_BASE=${WARREN_LAB_DIR:-/run/warren-lab}

# Reserved for documentation (RFC 5737, RFC 3849): no machine's real network.
readonly EXT4=192.0.2.1 EXT6=2001:db8::1 ETCD4=192.0.2.2 ETCD6=2001:db8::2
# Of the second rack, whose L2 `sw` routes to the first one's.
readonly RACK4=203.0.113.1 RACK6=2001:db8:113::1
readonly INTERNET4=198.51.100.1 INTERNET6=2001:db8:ffff::1

ns() { printf 'wl-%s-%s' "$LAB_NAME" "${1//\//-}"; }
host_dir() { printf '%s/%s' "$LAB_DIR" "$1"; }
has4() { [[ $UNDERLAY != ipv6 ]]; }
has6() { [[ $UNDERLAY != ipv4 ]]; }
# With two racks every other host is in the second one.
second_rack() { ((RACKS == 2 && $1 % 2 == 0)); }
host_addr4() { printf '%s.%d' "$(second_rack "$1" && echo 203.0.113 || echo 192.0.2)" $((10 + $1)); }
host_addr6() { printf '%s::%d' "$(second_rack "$1" && echo 2001:db8:113 || echo 2001:db8)" $((10 + $1)); }

# Names of the lab's hosts, in order.
lab_hosts() {
  local n
  for ((n = 1; n <= HOSTS; n++)); do printf 'h%d\n' "$n"; done
}

# in_ns PLACE CMD...: quick (no mount namespace); `lab.sh exec` is the thorough one.
in_ns() {
  local place=$1
  shift
  nsenter --net="/run/netns/$(ns "$place")" "$@"
}

ip_batch() { ip -n "$(ns "$1")" -batch -; }

# Paths of the namespaces of lab $1; a lab named "a-h1" and a pod of lab "a" never match each other.
lab_namespaces() {
  local path
  for path in "/run/netns/wl-$1-"*; do
    [[ ${path##*/} =~ ^wl-"$1"-(sw|ext|h[0-9]+(-p[0-9]+|-fabric|-routed|-r-[0-9a-f]+|-s-[0-9]+|-t-[a-z0-9-]+)?)$ ]] && printf '%s\n' "$path"
  done
  return 0
}

# --- topology --------------------------------------------------------------------------------------------------------

# make_switch: the underlay switch (also etcd's place) and the world outside.
make_switch() {
  printf 'netns add %s\n' "$(ns sw)" "$(ns ext)" | ip -batch -
  {
    echo "link set lo up"
    echo "link add br0 mtu $MTU type bridge stp_state 0 mcast_snooping 0"
    echo "link set br0 up"
    ! has4 || echo "address add $ETCD4/24 dev br0"
    ! has6 || echo "address add $ETCD6/64 dev br0 nodad"
    echo "link add ext mtu $MTU type veth peer name eth0 mtu $MTU netns $(ns ext)"
    echo "link set ext master br0 up"
    ((RACKS == 1)) || {
      printf 'link add br1 mtu %s type bridge stp_state 0 mcast_snooping 0\nlink set br1 up\n' "$MTU"
      ! has4 || printf '%s\n' "address add $RACK4/24 dev br1" "route add default via $EXT4"
      ! has6 || printf '%s\n' "address add $RACK6/64 dev br1 nodad" "route add default via $EXT6"
    }
  } | ip_batch sw
  ((RACKS == 1)) || in_ns sw sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  {
    echo "link set lo up"
    echo "link set eth0 up"
    ! has4 || printf 'address add %s\n' "$EXT4/24 dev eth0" "$INTERNET4/32 dev lo"
    ! has6 || printf 'address add %s nodad\n' "$EXT6/64 dev eth0" "$INTERNET6/128 dev lo"
    ((RACKS == 1)) || {
      ! has4 || echo "route add ${RACK4%.*}.0/24 via $ETCD4"
      ! has6 || echo "route add ${RACK6%::*}::/64 via $ETCD6"
    }
  } | ip_batch ext
}

# make_host N: namespaces of the host and its pods, its cable, and a veth for each pod that no bridge has yet.
make_host() {
  local n=$1 host=h$1 p bridge=br0 gw4=$EXT4 gw6=$EXT6
  ! second_rack "$n" || bridge=br1 gw4=$RACK4 gw6=$RACK6
  mkdir -p "$(host_dir "$host")/state"
  write_host_config "$host"
  {
    echo "netns add $(ns "$host")"
    for ((p = 1; p <= PODS; p++)); do echo "netns add $(ns "$host/p$p")"; done
  } | ip -batch -
  # A host is up long before its warrend: its link-local address is no news any more.
  in_ns "$host" sysctl -qw net.ipv6.conf.default.accept_dad=0
  {
    echo "link add $host mtu $MTU type veth peer name eth0 mtu $MTU netns $(ns "$host")"
    echo "link set $host master $bridge up"
  } | ip_batch sw
  {
    echo "link set lo up"
    echo "link set eth0 up"
    ! has4 || printf '%s\n' "address add $(host_addr4 "$n")/24 dev eth0" "route add default via $gw4"
    ! has6 || printf '%s\n' "address add $(host_addr6 "$n")/64 dev eth0 nodad" "route add default via $gw6"
    ((RACKS == 1)) || second_rack "$n" || {
      ! has4 || echo "route add ${RACK4%.*}.0/24 via $ETCD4"
      ! has6 || echo "route add ${RACK6%::*}::/64 via $ETCD6"
    }
    for ((p = 1; p <= PODS; p++)); do
      echo "link add veth-p$p type veth peer name eth0 netns $(ns "$host/p$p")"
      echo "link set veth-p$p up"
    done
  } | ip_batch "$host"
  for ((p = 1; p <= PODS; p++)); do
    printf 'link set %s up\n' lo eth0 | ip_batch "$host/p$p"
  done
}

write_host_config() {
  local dir store roles='[cluster]'
  dir=$(host_dir "$1")
  [[ $TENANTS != true ]] || roles='[cluster, fabric]'
  if [[ $STORE == etcd ]]; then
    store="{ etcd: { endpoints: [\"$(etcd_url)\"], prefix: /warren } }"
  else
    store="{ file: $LAB_DIR/cluster }"
  fi
  cat >"$dir/warrend.yaml" <<YAML
node: $1
store: $store
underlay: { interface: eth0 }
roles: $roles
netnsPrefix: $(ns "$1")
socket: $dir/warrend.sock
stateDir: $dir/state
subnetFile: $dir/subnet.env
podBridge: wrn0
gobgp: { socket: $dir/gobgpd.sock }
labels: { rack: $(second_rack "${1#h}" && echo r2 || echo r1) }
YAML
}

write_cluster() {
  local cidrs backend="type: $BACKEND"
  case $FAMILY in
    ipv4) cidrs=10.244.0.0/16 ;;
    ipv6) cidrs='"fd00:244::/48"' ;;
    dual) cidrs='10.244.0.0/16, "fd00:244::/48"' ;;
  esac
  [[ $BACKEND != bgp ]] || backend+=", encapsulation: $ENCAPSULATION"
  [[ $BACKEND != vxlan ]] || backend+=", vni: 1, port: 4789, directRouting: $DIRECT_ROUTING"
  cat >"$1" <<YAML
apiVersion: warren/v1
kind: Cluster
metadata: { name: default }
spec:
  podCIDRs: [$cidrs]
  nodeSubnetLength: { ipv4: 24, ipv6: 64 }
  backend: { $backend }
  masquerade: true
YAML
  [[ $BACKEND != bgp ]] || bgp_spec >>"$1"
  [[ $SERVICES != true ]] || printf '  serviceCIDRs: [%s]\n  proxyMode: %s\n' "$(service_cidrs)" "$PROXY_MODE" >>"$1"
}

# --- pods ------------------------------------------------------------------------------------------------------------

# next_address ADDRESS N: the address N further on, within the last 8 (IPv4) or 16 (IPv6) bits.
next_address() {
  if [[ $1 == *:* ]]; then
    printf '%s:%x' "${1%:*}" $((16#${1##*:} + $2))
  else
    printf '%s.%d' "${1%.*}" $((${1##*.} + $2))
  fi
}

# attach_pods HOST: what a CNI plugin would do with subnet.env; safe to repeat.
attach_pods() {
  local host=$1 dir p mtu gw4='' len4='' gw6='' len6='' addr4 addr6 key value
  dir=$(host_dir "$host")
  while IFS='=' read -r key value; do
    case $key in
      FLANNEL_SUBNET) gw4=${value%/*} len4=${value#*/} ;;
      FLANNEL_IPV6_SUBNET) gw6=${value%/*} len6=${value#*/} ;;
      FLANNEL_MTU) mtu=$value ;;
    esac
  done <"$dir/subnet.env"
  for ((p = 1; p <= PODS; p++)); do
    echo "link set veth-p$p mtu $mtu master wrn0 up"
  done | ip_batch "$host"
  : >"$dir/pods.new"
  for ((p = 1; p <= PODS; p++)); do
    addr4='' addr6=''
    [[ -z $gw4 ]] || addr4=$(next_address "$gw4" "$p")
    [[ -z $gw6 ]] || addr6=$(next_address "$gw6" "$p")
    {
      echo "link set eth0 mtu $mtu up"
      [[ -z $addr4 ]] || printf '%s\n' "address replace $addr4/$len4 dev eth0" "route replace default via $gw4"
      [[ -z $addr6 ]] || printf '%s\n' "address replace $addr6/$len6 dev eth0 nodad" "route replace default via $gw6"
    } | ip_batch "$host/p$p"
    printf 'p%d %s %s\n' "$p" "${addr4:--}" "${addr6:--}" >>"$dir/pods.new"
  done
  mv "$dir/pods.new" "$dir/pods"
}

# Lines "h1/p1 ADDRESS4 ADDRESS6" ('-' for none) of all pods that are attached.
lab_pods() {
  local host pod addr4 addr6
  while read -r host; do
    [[ -r $LAB_DIR/$host/pods ]] || continue
    while read -r pod addr4 addr6; do
      printf '%s/%s %s %s\n' "$host" "$pod" "$addr4" "$addr6"
    done <"$LAB_DIR/$host/pods"
  done < <(lab_hosts)
}

# --- pings -----------------------------------------------------------------------------------------------------------

# ping_pairs COUNT SECONDS: lines "FROM TO FAMILY ADDRESS MS" for every pair, MS "-" when not every echo came back. The pods ping
# at the same time, each one pair after the other.
ping_pairs() {
  local count=$1 patience=$2 from to addr4 addr6 targets out
  out=$(mktemp -d)
  local pods=() pod
  mapfile -t pods < <(lab_pods)
  for pod in "${pods[@]}"; do
    from=${pod%% *}
    targets=()
    for to in "${pods[@]}"; do
      [[ $to != "$pod" ]] || continue
      read -r to addr4 addr6 <<<"$to"
      [[ $addr4 == - ]] || targets+=("$to ipv4 $addr4")
      [[ $addr6 == - ]] || targets+=("$to ipv6 $addr6")
    done
    # shellcheck disable=SC2016 # expanded by the inner shell
    in_ns "$from" bash -c '
      from=$1 count=$2 patience=$3
      shift 3
      for target; do
        read -r to family address <<<"$target"
        reply=$(LC_ALL=C ping -n -q -c "$count" -i 0.01 -W "$patience" "$address" 2>&1) || reply=
        ms=-
        [[ $reply =~ \ 0%\ packet\ loss.*=\ [0-9.]+/([0-9.]+)/ ]] && ms=${BASH_REMATCH[1]}
        echo "$from $to $family $address $ms"
      done' pings "$from" "$count" "$patience" "${targets[@]}" >"$out/${from//\//-}" &
  done
  wait
  for pod in "${pods[@]}"; do
    from=${pod%% *}
    cat "$out/${from//\//-}"
  done
  rm -rf "$out"
}

# all_reachable: for busywait.
all_reachable() {
  local lines
  lines=$(ping_pairs 1 0.2)
  [[ -n $lines && $lines != *" -" && $lines != *" -"$'\n'* ]] || {
    printf '%s\n' "$lines" | awk '$5 == "-" { if (++n <= 6) print "no echo: " $1 " -> " $2 " (" $4 ")" }
      END { if (n > 6) print "... and " n - 6 " pairs more" }'
    return 1
  }
}

# --- processes -------------------------------------------------------------------------------------------------------

etcd_url() {
  if has4; then printf 'http://%s:2379' "$ETCD4"; else printf 'http://[%s]:2379' "$ETCD6"; fi
}

# The election timeout is short because the only member waits for it at every start.
start_etcd() {
  local unsupported=''
  [[ $(uname -m) == x86_64 ]] || unsupported=arm64 # etcd 3.4 asks for this word there
  ETCD_UNSUPPORTED_ARCH=$unsupported nsenter --net="/run/netns/$(ns sw)" setsid etcd --name default --data-dir "$LAB_DIR/etcd" \
    --listen-client-urls "$(etcd_url)" --advertise-client-urls "$(etcd_url)" \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380 --heartbeat-interval 50 --election-timeout 250 \
    >"$LAB_DIR/etcd.log" 2>&1 </dev/null {LAB_LOCK_FD}>&- &
  disown $!
  proc_save "$LAB_DIR/etcd.pid" $!
}

etcd_ready() { ETCDCTL_API=3 in_ns sw etcdctl --endpoints "$(etcd_url)" endpoint health; }

# start_host HOST: its warrend; the process keeps its pid through nsenter, setsid, sh and node. Not "ip netns exec": that has
# mounts of its own, where the namespaces that warrend makes would stay, and go with it.
start_host() {
  local dir
  dir=$(host_dir "$1")
  proc_alive "$dir/warrend.pid" >/dev/null && return
  [[ $BACKEND != bgp ]] || start_gobgpd "$1"
  nsenter --net="/run/netns/$(ns "$1")" setsid "$WARREN_DIST/warrend" --config "$dir/warrend.yaml" \
    >>"$dir/warrend.log" 2>&1 </dev/null {LAB_LOCK_FD}>&- &
  disown $!
  proc_save "$dir/warrend.pid" $!
}

host_has_lease() {
  local dir
  dir=$(host_dir "$1")
  [[ -s $dir/subnet.env ]] || return 1
  grep -qx 'podBridge: none' "$dir/warrend.yaml" || ip -n "$(ns "$1")" link show wrn0 >/dev/null 2>&1
}

# await_host HOST SECONDS: lease and bridge are there; dies with the end of the log when warrend does.
await_host() {
  local dir now until
  dir=$(host_dir "$1")
  now_ms now
  until=$((now + $2 * 1000))
  until host_has_lease "$1"; do
    now_ms now
    if ! proc_alive "$dir/warrend.pid" >/dev/null; then
      log_tail "$1"
      die "warrend of \"$1\" ended (the end of its log is above)"
    elif ((now > until)); then
      log_tail "$1"
      die "warrend of \"$1\" has no lease and bridge after $2 s (the end of its log is above)"
    fi
    nap 0.01
  done
}

log_tail() {
  lib_clear
  printf '%s%s:%s\n' "$BOLD" "$1" "$PLAIN" >&2
  tail -n 20 "$(host_dir "$1")/warrend.log" | sed 's/^/  /' >&2
}

warren_on() {
  local host=$1
  shift
  WARREN_SOCKET=$(host_dir "$host")/warrend.sock in_ns "$host" "$WARREN_DIST/warren" "$@"
}

# --- the end -----------------------------------------------------------------------------------------------------------

# kill_inside NAMESPACE-PATHS...: whatever still runs in them (an iperf3 of the user's), by pid; never this shell.
kill_inside() {
  local pids signal
  for signal in TERM KILL; do
    mapfile -t pids < <(pids_inside "$@")
    ((${#pids[@]} > 0)) || return 0
    kill -s "$signal" "${pids[@]}" 2>/dev/null || :
    busywait 1 none_inside "$@" || :
  done
}

pids_inside() {
  { stat -L -c '%i -' "$@" && stat -L -c '%i %n' /proc/[0-9]*/ns/net; } 2>/dev/null |
    awk -v self=$$ '$2 == "-" { want[$1] = 1; next } $1 in want { split($2, part, "/"); if (part[3] != self) print part[3] }'
}

none_inside() { [[ -z $(pids_inside "$@") ]]; }

# remove_lab NAME: works after a crash and after half an `up` too; prints nothing when there is nothing.
remove_lab() {
  local dir=$LAB_BASE/$1 file paths
  mapfile -t paths < <(lab_namespaces "$1")
  for file in "$dir"/*/warrend.pid "$dir"/*/gobgpd.pid "$dir"/tor.pid "$dir"/etcd.pid; do
    [[ ! -e $file ]] || proc_kill "$file" TERM 3 &
  done
  wait
  if ((${#paths[@]} > 0)); then
    kill_inside "${paths[@]}"
    printf 'netns delete %s\n' "${paths[@]##*/}" | ip -force -batch -
  fi
  rm -rf -- "$dir"
}
