# shellcheck shell=bash
# An installed Warren on a host under a real systemd (test/support/systemd.sh), for test/e2e/systemd-unit.sh: what is around
# it, traffic through it, and questions about its units. Sourced after scripts/lib.sh, lab-net.sh and systemd.sh.
#
#   unit_use NAME DIR                  namespaces NAME-host and NAME-net, files in DIR; the next root is DIR/root
#   unit_stage / unit_config LINE...   what is installed; warrend.yaml with those lines beside what is always there
#   unit_places / unit_boot WHAT / unit_power_off
#   unit_show PROPERTY [UNIT] / unit_is [-u UNIT] PROPERTY=REGEX... / status_is REGEX / started_again COUNT
#   flows / flows_lossless             100 pings a second, tenant to tenant and pod to pod, until none was lost
#   journal_mark / journal_has REGEX   since the mark

UNIT_NAME='' UNIT_DIR='' UNIT_SINCE=''

unit_use() { UNIT_NAME=$1 UNIT_DIR=$2; }

unit_cleanup() {
  local file place
  for file in "$UNIT_DIR"/*.pid; do
    case $file in */nspawn.pid | */init.pid | *'*'*) ;; *) proc_kill "$file" KILL ;; esac
  done
  systemd_down
  for place in "/run/netns/$UNIT_NAME"-*; do
    [[ -e $place ]] || continue
    kill_inside "$place"
    ip netns delete "${place##*/}"
  done
  rm -rf "$UNIT_DIR"
}

# --- around it ----------------------------------------------------------------------------------------------------------

unit_stage() {
  mkdir -p "$UNIT_DIR/root"
  "$WARREN_ROOT/scripts/stage.sh" --dist "${WARREN_DIST:-$WARREN_ROOT/dist}" "$UNIT_DIR/root" /usr
  cp -a "$UNIT_DIR/root/usr/lib/warren/dist" "$UNIT_DIR/dist"
  # shellcheck disable=SC2034 # of systemd.sh
  SYSTEMD_BINDS=(--bind-ro="$(readlink -f "$(command -v node)"):/usr/local/bin/node")
}

# In the host that runs, else in the next one.
unit_config() {
  local text
  text=$(printf '%s\n' 'node: h1' 'store: { etcd: { endpoints: ["http://192.0.2.12:2379"] } }' 'underlay: { interface: eth0 }' \
    'roles: [cluster, fabric]' "$@")
  if [[ -e $UNIT_DIR/init.pid ]]; then
    # shellcheck disable=SC2016 # of that shell
    systemd_in sh -c 'printf "%s\n" "$0" >/etc/warren/warrend.yaml' "$text"
  else
    mkdir -p "$UNIT_DIR/root/etc/warren"
    printf '%s\n' "$text" >"$UNIT_DIR/root/etc/warren/warrend.yaml"
  fi
}

# unit_dropin UNIT NAME LINE...; without lines it goes.
unit_dropin() {
  local dir=/etc/systemd/system/$1.service.d file=$2.conf
  shift 2
  # shellcheck disable=SC2016 # of that shell
  if (($#)); then
    systemd_in sh -c 'mkdir -p "$0" && printf "%s\n" "$2" >"$0/$1"' "$dir" "$file" "$(printf '%s\n' "$@")"
  else
    systemd_in rm -f "$dir/$file"
  fi
  systemd_in systemctl daemon-reload
}

unit_places() {
  ip netns add "$UNIT_NAME-host"
  [[ -e /run/netns/$UNIT_NAME-net ]] || ip netns add "$UNIT_NAME-net"
  ip -n "$UNIT_NAME-host" -batch - <<IP
link set lo up
link add eth0 type veth peer name eth0 netns $UNIT_NAME-net
link set eth0 up
address add 192.0.2.11/24 dev eth0
IP
  ip -n "$UNIT_NAME-net" -batch - <<IP
link set lo up
link set eth0 up
address add 192.0.2.12/24 dev eth0
IP
}

unit_boot() {
  systemd_boot "$UNIT_NAME" "$UNIT_NAME-host" "$UNIT_DIR" || :
  tap_ok "$1: systemd runs" unit_booted
  unit_booted >/dev/null || die "No systemd to test with" "see $UNIT_DIR/console"
  journal_mark
}
unit_booted() {
  systemd_in systemctl --quiet is-active basic.target || { cat "$UNIT_DIR/console" && return 1; }
}

# Its state directory and configuration are what the next boot finds; its kernel objects go.
unit_power_off() {
  local state=$UNIT_DIR/root/var/lib
  systemd_in systemctl stop warrend
  rm -rf "$state/warren"
  mkdir -p "$state"
  systemd_in tar --create --directory=/var/lib warren | tar --extract --directory="$state"
  systemd_down
  kill_inside "/run/netns/$UNIT_NAME-host"
  # A namespace goes when the kernel finds the time; its peer would keep the name that long.
  ip -n "$UNIT_NAME-host" link delete eth0
  ip netns delete "$UNIT_NAME-host"
}

unit_etcd_start() {
  local unsupported=''
  [[ $(uname -m) == x86_64 ]] || unsupported=arm64 # etcd 3.4 asks for this word there
  ETCD_UNSUPPORTED_ARCH=$unsupported nsenter --net="/run/netns/$UNIT_NAME-net" setsid etcd --name default --data-dir "$UNIT_DIR/etcd" \
    --listen-client-urls http://192.0.2.12:2379 --advertise-client-urls http://192.0.2.12:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380 --heartbeat-interval 50 --election-timeout 250 >"$UNIT_DIR/etcd.log" 2>&1 </dev/null &
  disown $!
  proc_save "$UNIT_DIR/etcd.pid" $!
}
unit_etcd_stop() { proc_kill "$UNIT_DIR/etcd.pid"; }

unit_model() {
  local i
  cat <<YAML
apiVersion: warren/v1
kind: Cluster
metadata: { name: default }
spec: { podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.0.0.0/16] }
YAML
  for ((i = 2; i <= 101; i++)); do
    printf -- '---\napiVersion: warren/v1\nkind: Node\nmetadata: { name: h%d }\n' "$i"
    printf 'spec: { addresses: [192.0.2.%d], podCIDRs: [10.244.%d.0/24], vtepMAC: "02:00:00:00:00:%02x", mtu: 1500 }\n' $((i + 10)) "$i" "$i"
  done
}
unit_tenants() {
  cat <<YAML
{ apiVersion: warren/v1, kind: Tenant, metadata: { name: red }, spec: {} }
---
apiVersion: warren/v1
kind: Network
metadata: { name: net, tenant: red }
spec: { vni: 2001, subnets: [{ name: v4, cidr: 10.1.0.0/24 }] }
---
apiVersion: warren/v1
kind: SecurityGroup
metadata: { name: open, tenant: red }
spec: { rules: [{ direction: ingress }, { direction: egress }] }
YAML
  local port device box
  box=$(unit_show MainPID box)
  for port in 'a 11 kind: veth, netns: c-a, name: eth0' 'b 12 kind: veth, netns: c-b, name: eth0' 'vm 13 kind: tap, name: tapvm' \
    "box 14 kind: veth, netns: /proc/$box/ns/net, name: eth0"; do
    device=${port#* * }
    printf -- '---\napiVersion: warren/v1\nkind: Port\nmetadata: { name: %s, tenant: red }\n' "${port%% *}"
    printf 'spec: { network: net, node: h1, hostName: %s, fixedIPs: [10.1.0.%s], securityGroups: [open], device: { %s } }\n' \
      "${port%% *}" "$(cut -d ' ' -f 2 <<<"$port")" "$device"
  done
}
unit_service() {
  cat <<YAML
{ apiVersion: warren/v1, kind: Service, metadata: { name: web }, spec: { clusterIPs: [10.0.0.1], ports: [{ name: tcp, port: 80 }] } }
---
apiVersion: warren/v1
kind: Endpoints
metadata: { name: web-1 }
spec: { service: web, endpoints: [{ addresses: [10.244.2.2] }], ports: [{ name: tcp, port: 80 }] }
YAML
}
unit_apply() { systemd_in warren apply -f - <"$1"; }
unit_apply_text() { systemd_in warren apply -f - <<<"$1"; }

# A pod on the bridge, and node h2 at the other end, which knows our VTEP.
unit_pod() {
  local mac host=$UNIT_NAME-host net=$UNIT_NAME-net pod=$UNIT_NAME-pod
  ip netns delete "$pod" 2>/dev/null || :
  ip netns add "$pod"
  ip -n "$host" link add pod1 type veth peer name eth0 netns "$pod"
  ip -n "$host" link set pod1 master wrn0 up
  ip -n "$pod" -batch - <<IP
link set lo up
link set eth0 up
address add 10.244.1.2/24 dev eth0
route add default via 10.244.1.1
IP
  mac=$(ip -n "$host" -j link show wrn-ovl | jq -r '.[0].address')
  ip -n "$net" link delete vx 2>/dev/null || :
  ip -n "$net" -batch - <<IP
link add vx address 02:00:00:00:00:02 type vxlan id 1 dstport 4789 local 192.0.2.12 nolearning
link set vx up mtu 1450
address add 10.244.2.2/32 dev vx
neighbor replace 10.244.1.0 lladdr $mac dev vx
route add 10.244.1.0/24 via 10.244.1.0 dev vx src 10.244.2.2 onlink
IP
  bridge -n "$net" fdb replace "$mac" dev vx dst 192.0.2.11
}
in_host() { nsenter --net="/run/netns/$UNIT_NAME-host" "$@"; }
legacy_has_service() { in_host iptables-legacy -w -t nat -S | grep -q -e '-d 10.0.0.1/32 .*-j DNAT'; }
in_pod() { nsenter --net="/run/netns/$UNIT_NAME-pod" "$@"; }

# unit_build_as VERSION: the same build with another number; its code cache is that of another program.
unit_build_as() {
  local current=$UNIT_DIR/dist staged
  staged=/proc/$(proc_alive "$UNIT_DIR/init.pid")/root/usr/lib/warren
  rm -rf "$staged/dist.new"
  cp -a "$current" "$staged/dist.new"
  if [[ $1 != "$(unit_version)" ]]; then
    sed -i "s/\"$(unit_version)\"/\"$1\"/" "$staged"/dist.new/warrend.cjs "$staged"/dist.new/warren.cjs
    rm -f "$staged"/dist.new/*.cache
  fi
  mv -T "$staged/dist" "$staged/dist.old" && mv -T "$staged/dist.new" "$staged/dist" && rm -rf "$staged/dist.old"
}
unit_version() { jq -r .version "$WARREN_ROOT/package.json"; }

# --- questions ----------------------------------------------------------------------------------------------------------

# unit_timed FILE CMD...: milliseconds into DIR/FILE.ms
unit_timed() {
  local from now status=0
  now_ms from
  "${@:2}" || status=$?
  now_ms now
  printf '%d\n' $((now - from)) >"$UNIT_DIR/$1.ms"
  return "$status"
}
# in_time LIMIT MS: a time taken while others have the processors for themselves says nothing.
in_time() {
  local load
  read -r load _ </proc/loadavg
  if (($2 > $1)); then
    printf '# %s ms, load %s\n' "$2" "$load" | tee /dev/stderr
    ((${load%.*} >= 2 * $(nproc)))
  fi
}
fails() { ! "$@"; }
unit_show() { systemd_in systemctl show --property="$1" --value "${2-warrend}"; }
unit_is() {
  local unit=warrend values want
  if [[ $1 == -u ]]; then
    unit=$2
    shift 2
  fi
  local names=("${@%%=*}")
  values=$(systemd_in systemctl show "$unit" "${names[@]/#/--property=}")
  for want; do grep -qxE -e "$want" <<<"$values" || { printf '%s\n' "$values" && return 1; }; done
}
status_is() {
  local text
  text=$(unit_show StatusText)
  [[ $text =~ $1 && $(unit_show ActiveState) == active ]] || { printf '%s\n' "$(unit_show ActiveState): $text" && return 1; }
}
started_again() { unit_is "NRestarts=$1" ActiveState=active; }
unit_kill() { systemd_in systemctl kill --signal=KILL --kill-who=main warrend; }
unit_rss() { systemd_in sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$(unit_show MainPID)/status"; }
unit_cpu() { printf '%d ms' $(($(unit_show CPUUsageNSec) / 1000000)); }
in_sandbox() { systemd_in nsenter --target "$(unit_show MainPID)" --mount "$@"; }
has_routes() { [[ $(ip -n "$UNIT_NAME-host" route show proto 87 | grep -c wrn-ovl) == "$1" ]]; }
ports_active() { [[ $(systemd_in warren get ports | grep -c ' ACTIVE ') == "$1" ]] || { systemd_in warren get ports && return 1; }; }
space_of() { systemd_in stat -L -c %i "/run/netns/$1"; }
another_dnsmasq() {
  local pid
  pid=$(unit_show MainPID warren-dnsmasq@2001)
  [[ $pid != "$1" && $pid != 0 ]]
}
dhcp_answers() {
  systemd_in ip netns exec "$1" busybox udhcpc -i eth0 -n -q -f -t 5 -T 1 -s /bin/true 2>&1 | tee "$UNIT_DIR/dhcp" | grep -q "lease of $2 obtained" ||
    { cat "$UNIT_DIR/dhcp" && return 1; }
}
has_label() { systemd_in warren get node h1 -o json | jq -e --arg rack "$1" '[.. | .labels? // empty | .rack] | index($rack)' >/dev/null; }
runs_version() { [[ $(systemd_in warren status -o json | jq -r .version) == "$1" ]]; }
wrote_nothing() { systemd_in warren status -o json | jq -e '[.tables[] | select(.name != "record" and .name != "file") | .written] | add == 0' >/dev/null || systemd_in warren status; }
snapshot_has() { systemd_in grep -q "$1" /var/lib/warren/snapshot.json; }

journal_mark() { UNIT_SINCE=$(systemd_in journalctl -q -n 0 --show-cursor | sed -n 's/^-- cursor: //p'); }
unit_journal() { systemd_in journalctl -q -o cat -u warrend ${UNIT_SINCE:+"--after-cursor=$UNIT_SINCE"}; }
journal_has() { unit_journal | grep -qE -e "$1" || { unit_journal | tail -n 20 && return 1; }; }
# recovered_within MS: from the last "Watchdog timeout" to the next "Started", by systemd's own clock; into DIR/recovered.ms
recovered_within() {
  local ms
  ms=$(systemd_in journalctl -q -o json -u warrend --output-fields=MESSAGE | jq -s '
    [.[] | {at: (.__MONOTONIC_TIMESTAMP | tonumber), text: (.MESSAGE | tostring)}] |
    (map(select(.text | test("Watchdog timeout"))) | last.at) as $from |
    ((map(select(.at > $from and (.text | startswith("Started ")))) | first.at) - $from) / 1000 | floor')
  printf '%s\n' "$ms" >"$UNIT_DIR/recovered.ms"
  in_time "$1" "$ms"
}

# --- traffic ------------------------------------------------------------------------------------------------------------

flows() {
  local pid
  pid=$(proc_alive "$UNIT_DIR/init.pid")
  nsenter --net="/proc/$pid/root/run/netns/c-a" setsid ping -n -i 0.01 10.1.0.12 >"$UNIT_DIR/flow-tenant" 2>&1 </dev/null &
  disown $!
  proc_save "$UNIT_DIR/flow-tenant.pid" $!
  nsenter --net="/run/netns/$UNIT_NAME-pod" setsid ping -n -i 0.01 10.244.2.2 >"$UNIT_DIR/flow-pod" 2>&1 </dev/null &
  disown $!
  proc_save "$UNIT_DIR/flow-pod.pid" $!
  nap 0.3
}
# Up to the last answer: one that is on its way at the end is not lost.
flows_lossless() {
  local flow status=0 line
  nap 0.3
  for flow in tenant pod; do
    proc_kill "$UNIT_DIR/flow-$flow.pid" INT
    line=$(awk -F 'icmp_seq=' '/bytes from/ { n = $2 + 0; if (!(n in seen)) got++; seen[n] = 1; if (n > last) last = n }
      END { printf "%d of %d lost", last - got, last; exit !(last > 50 && last == got) }' "$UNIT_DIR/flow-$flow") || status=1
    printf '# %s: %s\n' "$flow" "$line" | tee /dev/stderr
  done
  return "$status"
}
