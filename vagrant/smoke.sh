#!/usr/bin/env bash
# The lab that `vagrant up` made, looked at from outside by ssh; TAP. It may be repeated; the backend is vxlan again at the end.
#
#   smoke.sh                                         beside the Vagrantfile's own provider
#   smoke.sh vagrant/libvirt-lab.sh exec DIR         in the private libvirtd's namespaces
#
#      this machine 192.168.56.1: the client outside
#           │
#   ────────┴──┬─────────────────────┬─────────────────────┬──── 192.168.56.0/24
#          h1 .11  etcd          h2 .12                h3 .13        warrend, gobgpd; pods pod1, pod2 on wrn0;
#          red blue              red blue only-blue    red blue      ports of tenants red and blue, same addresses
#
# Exit status: 0; 1 a test failed; 2 there is no lab. Needs bash, ssh, and two of the three hosts.

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

wrapper=()
if (($# > 0)); then wrapper=("$(readlink -f -- "$1")" "${@:2}"); fi
work=$(mktemp -d)
# Seconds: what takes a second on a CPU of one's own takes ten under emulation, and minutes on a busy machine.
readonly PATIENCE=600 IPERF=4
cd "$here"

outside() { "${wrapper[@]}" "$@"; }

# on HOST CMD: a line of shell, as root; one ssh connection per host is kept open.
on() { outside ssh -q -n -F "$work/ssh" "$1" "sudo bash -c $(printf '%q' "$2")"; }
disconnect() { outside ssh -q -F "$work/ssh" -O exit "$1" >/dev/null 2>&1 || :; }
cleanup() {
  local host
  for host in "${hosts[@]}"; do
    on "$host" 'systemctl stop "smoke-*" 2>/dev/null' || :
    disconnect "$host"
  done
  rm -rf "$work"
}

hosts=()
find_hosts() {
  local _ name
  outside vagrant ssh-config >"$work/vagrant" 2>"$work/errors" || :
  {
    cat "$work/vagrant"
    printf 'Host *\n  ControlMaster auto\n  ControlPath %s/%%n\n  ControlPersist 600\n  ConnectTimeout 60\n' "$work"
  } >"$work/ssh"
  while read -r _ name; do hosts+=("$name"); done < <(grep '^Host ' "$work/vagrant")
  ((${#hosts[@]} >= 2)) && return
  cat "$work/errors" >&2
  printf 'smoke.sh: two hosts at least have to be up: vagrant up\n' >&2
  rm -rf "$work"
  exit 2
}

underlay() { printf '192.168.56.1%s' "${1#h}"; }

# --- pods and pings ------------------------------------------------------------------------------------------------------

declare -A pod_address=()
find_pods() {
  local host pod address
  for host in "${hosts[@]}"; do
    for pod in pod1 pod2; do
      address=$(on "$host" "ip -n $pod -o -4 address show dev eth0" | sed -n 's/.* inet \([0-9.]*\).*/\1/p')
      pod_address["$host/$pod"]=$address
    done
  done
}

# pings HOST NAMESPACE ADDRESS...: one line of those that do not answer, after three tries each.
pings() {
  local host=$1 namespace=$2
  shift 2
  on "$host" "for address in $*; do ip netns exec $namespace ping -n -q -c 3 -i 0.2 -W 3 \$address >/dev/null || echo no answer from \$address; done"
}
all_pings() {
  local host lost=''
  for host in "${hosts[@]}"; do lost+=$(pings "$host" pod1 "${pod_address[@]}" | sed "s#^#$host/pod1: #"); done
  [[ -z $lost ]] || { printf '%s\n' "$lost" && return 1; }
}

# A stream of pings from a pod to a pod, five a second; what is lost is what is missing between the first and the last answer.
stream_start() { on "$1" "systemctl stop smoke-ping 2>/dev/null; systemd-run -q --collect --unit smoke-ping -p StandardOutput=truncate:/run/smoke-ping ip netns exec pod1 ping -n -O -i 0.2 $2"; }
stream_lost() {
  on "$1" 'systemctl stop smoke-ping; cat /run/smoke-ping' | awk '
    match($0, /bytes from.*icmp_seq=[0-9]+/) { split($0, part, "icmp_seq="); n = part[2] + 0; if (first == "") first = n; last = n; got++ }
    END { print last - first + 1 - got, "of", last - first + 1 }'
}
none_lost() {
  printf '%s\n' "$1"
  [[ $1 == '0 of '* && $1 != '0 of 0' && $1 != '0 of 1' ]]
}

# --- what a host says of itself ------------------------------------------------------------------------------------------

# api HOST METHOD PATH [SHELL]: the answer of warrend's socket, whose input is that of SHELL. An emulated CPU needs ten seconds
# for a start of `warren`, and every Debian has Perl.
# shellcheck disable=SC2016 # Perl's
readonly PERL='
  my ($method, $path) = @ARGV;
  my $socket = IO::Socket::UNIX->new("/run/warren/warrend.sock") or die "warrend does not answer: $!\n";
  my $body = $method eq "POST" ? do { local $/; <STDIN> } : "";
  printf $socket "%s %s HTTP/1.0\r\nHost: warren\r\nContent-Type: text/yaml\r\nContent-Length: %d\r\n\r\n%s", $method, $path, length $body, $body;
  local $/;
  my ($head, $text) = split /\r\n\r\n/, <$socket>, 2;
  print $text;
  exit($head =~ m{^HTTP/1\.\d 200 } ? 0 : 1);'
api() { on "$1" "${4-true} | perl -MIO::Socket::UNIX -we $(printf '%q' "$PERL") $2 '$3'"; }

converged() { api "$1" GET '/v1/wait?timeoutMs=300000' >"$work/status" 2>&1 || { head -c 4000 "$work/status" && return 1; }; }
all_converged() {
  local host
  for host in "${hosts[@]}"; do converged "$host" || return 1; done
}
running() { [[ $(on "$1" 'systemctl is-system-running') == running ]] || { on "$1" 'systemctl --failed --no-legend --plain; systemctl list-jobs' && return 1; }; }
# Its deadlines, 3 s in all, are too short for an emulated CPU.
doctor() {
  local name="up: $1: warren doctor finds nothing bad" text status=0
  text=$(on "$1" 'warren doctor') || status=$?
  if grep -q 'when the host is less busy' <<<"$text"; then
    tap_skip "$name" "$(tail -n 1 <<<"$text")"
  else
    printf '%s\n' "$text" | sed 's/^/# /'
    tap_ok "$name" [ "$status" != 1 ]
  fi
}
# of_status HOST NAME: a number or a string of its JSON that has this name.
of_status() { api "$1" GET /v1/status | grep -o "\"$2\": *\"\{0,1\}[^\",}]*" | head -n 1 | sed 's/^[^:]*: *"\{0,1\}//'; }
active() {
  local state
  state=$(on "$1" "systemctl is-active ${*:2}" | sort -u)
  [[ $state == active ]] || { printf '%s\n' "$state" && return 1; }
}

# --- Services ------------------------------------------------------------------------------------------------------------

# ask PROTOCOL ADDRESS PORT: a line of shell that asks twelve times, each from another port, and prints "POD CLIENT" per answer.
# shellcheck disable=SC2016 # Perl's
readonly ASK='
  my ($protocol, $address, $port) = @ARGV;
  $SIG{ALRM} = sub { die "no answer\n" };
  for (1 .. 12) {
    eval {
      alarm 20;
      my $socket = IO::Socket::INET->new(Proto => $protocol, PeerAddr => $address, PeerPort => $port) or die "$!\n";
      print $socket $protocol eq "tcp" ? "GET / HTTP/1.0\r\n\r\n" : "?";
      $socket->flush;
      my $answer = "";
      if ($protocol eq "tcp") { $answer = $_ while <$socket> } else { $socket->recv($answer, 100) }
      print $answer;
    };
    print "$@" if $@;
    alarm 0;
  }'
ask() { printf 'perl -MIO::Socket::INET -we %q %s %s %s' "$ASK" "$1" "$2" "$3"; }
# answered FROM PROTOCOL ADDRESS PORT: every time from a pod (h1/pod1), a host (h1) or outside; more than one pod answers.
answered() {
  local line answers
  line=$(ask "$2" "$3" "$4")
  case $1 in
    outside) answers=$(outside bash -c "$line") ;;
    */*) answers=$(on "${1%/*}" "ip netns exec ${1#*/} $line") ;;
    *) answers=$(on "$1" "$line") ;;
  esac
  awk 'NF == 2 && $1 ~ /\/pod/ { n++; if (!($1 in pods)) { pods[$1]; different++ } } END { exit !(n == 12 && different > 1) }' <<<"$answers" ||
    { printf '%s\n' "$answers" && return 1; }
}
services() {
  local protocol last=${hosts[-1]}
  for protocol in tcp udp; do
    tap_ok "$1: $protocol: cluster IP 10.0.0.1:1234 from a pod" answered h1/pod1 "$protocol" 10.0.0.1 1234
    tap_ok "$1: $protocol: cluster IP from a host" answered "$last" "$protocol" 10.0.0.1 1234
    tap_ok "$1: $protocol: nodePort 31234 of $last from a pod of h1" answered h1/pod1 "$protocol" "$(underlay "$last")" 31234
    tap_ok "$1: $protocol: nodePort of h1 from $last" answered "$last" "$protocol" "$(underlay h1)" 31234
    tap_ok "$1: $protocol: nodePort of $last from outside" answered outside "$protocol" "$(underlay "$last")" 31234
  done
}

# --- tenants -------------------------------------------------------------------------------------------------------------

tenant_pings() { [[ -z $(pings "$@") ]]; }
fails() { ! "$@"; }
# mac HOST NAMESPACE ADDRESS: who answers for it there.
mac() { on "$1" "ip -n $2 neighbour show $3 dev eth0" | sed -n 's/.* lladdr \([0-9a-f:]*\).*/\1/p'; }
tenants() {
  local host tenant addresses=() red blue
  for host in "${hosts[@]}"; do addresses+=("10.0.1.1${host#h}"); done
  for tenant in red blue; do
    for host in "${hosts[@]}"; do
      tap_ok "tenants: $tenant on $host reaches its ports on all hosts" tenant_pings "$host" "$tenant" "${addresses[@]}"
    done
  done
  red=$(mac h1 red 10.0.1.12) blue=$(mac h1 blue 10.0.1.12)
  tap_ok 'tenants: one address, another port in each' [ "$red" != "$blue" -a -n "$red" -a -n "$blue" ]
  tap_ok 'tenants: blue has one more address' tenant_pings h1 blue 10.0.1.99
  tap_ok 'tenants: which red does not reach' fails tenant_pings h1 red 10.0.1.99
  tap_ok 'tenants: nor does a pod' fails tenant_pings h1 pod1 10.0.1.99
}

# --- backends ------------------------------------------------------------------------------------------------------------

backend() { api h1 POST /v1/apply "sed 's/backend: .*/backend: { type: $1 }/' /etc/warren/lab.yaml"; }
backend_is() { [[ $(of_status "$1" backend) == "$2" ]]; }
all_have() {
  local host
  for host in "${hosts[@]}"; do busywait "$PATIENCE" backend_is "$host" "$1" && converged "$host" || return 1; done
}
sessions() {
  local text count
  text=$(api "$1" GET /v1/bgp)
  count=$(grep -o '"state": *"established"' <<<"$text" | wc -l)
  ((count == ${#hosts[@]} - 1)) || { printf '%s\n' "$text" && return 1; }
}
# iperf HOST ADDRESS INSIDE: Mbit/s from h1 to it; INSIDE: what comes before the commands at both ends.
iperf() {
  local host=$1 address=$2 inside=$3 text
  on "$host" "systemctl stop smoke-iperf 2>/dev/null; systemd-run -q --collect --unit smoke-iperf $inside iperf3 -s"
  text=$(busywait 60 on h1 "$inside iperf3 -J -t $IPERF -c $address") || { printf '%s\n' "$text" && return 1; }
  on "$host" 'systemctl stop smoke-iperf'
  sed -n '/"sum_received"/,/}/s/.*"bits_per_second":[^0-9]*\([0-9]*\).*/\1/p' <<<"$text" | awk '{ printf "%d", $1 / 1e6; exit }'
}
throughput() {
  local host address inside rate
  for host in "${hosts[@]:1}"; do
    address=${pod_address["$host/pod1"]} inside='ip netns exec pod1'
    [[ $1 != underlay ]] || address=$(underlay "$host") inside=''
    rate=$(iperf "$host" "$address" "$inside") || :
    printf '# iperf3, %s, h1 to %s: %s Mbit/s\n' "$1" "$host" "$rate"
    tap_ok "throughput: $1: h1 to $host" [ "${rate:-0}" -gt 0 ]
  done
}

# switch BACKEND: live, under a stream of pings.
switch() {
  local host lost started now
  stream_start h1 "${pod_address["h2/pod1"]}"
  now_ms started
  tap_ok "$1: is applied" backend "$1"
  tap_ok "$1: every host has it" all_have "$1"
  now_ms now
  printf '# %s: all hosts have it after %d ms\n' "$1" $((now - started))
  if [[ $1 == bgp ]]; then
    for host in "${hosts[@]}"; do tap_ok "bgp: $host has its sessions" busywait "$PATIENCE" sessions "$host"; done
    now_ms now
    printf '# bgp: all sessions are there after %d ms\n' $((now - started))
  fi
  lost=$(stream_lost h1)
  printf '# %s: pings lost while it was switched: %s\n' "$1" "$lost"
  tap_ok "$1: not one ping was lost" none_lost "$lost"
  tap_ok "$1: all pods reach all pods" all_pings
  throughput "$1"
}

# --- a host that boots ---------------------------------------------------------------------------------------------------

boot_id() { on "$1" 'cat /proc/sys/kernel/random/boot_id'; }
booted() {
  local id
  id=$(boot_id "$1") && [[ -n $id && $id != "$2" ]]
}
reboot_host() {
  local host=$1 id started now
  id=$(boot_id "$host")
  now_ms started
  on "$host" 'systemctl reboot' || :
  disconnect "$host"
  tap_ok "$2: $host boots" busywait "$PATIENCE" booted "$host" "$id"
  now_ms now
  printf '# %s: ssh again after %d ms\n' "$2" $((now - started))
  tap_ok "$2: warrend, gobgpd and the pods are there by themselves" busywait "$PATIENCE" active "$host" warrend warren-gobgpd lab-pods lab-echo@pod1 lab-echo@pod2
}

lease() { of_status "$1" ipv4; }

find_hosts
on_exit cleanup
began=$SECONDS
for host in "${hosts[@]}"; do printf '# %s: %s\n' "$host" "$(on "$host" 'uname -sr; nproc; warrend --version' | paste -sd ' ')"; done
for host in "${hosts[@]}"; do
  tap_ok "up: $host converges" converged "$host"
  tap_ok "up: $host: systemd has no failed unit" running "$host"
  doctor "$host"
done
status=$(outside vagrant ssh h1 -c 'warren status' 2>/dev/null) || :
for host in "${hosts[@]:1}"; do
  tap_ok "up: vagrant ssh h1 -c 'warren status' tells of $host" grep -w "$host" <<<"$status"
done
find_pods
tap_ok 'vxlan: all pods reach all pods' all_pings
services vxlan
tenants
throughput underlay
throughput vxlan
switch host-gw
switch bgp
services bgp

last=${hosts[-1]}
before=$(lease "$last")
stream_start h1 "${pod_address["h2/pod1"]}"
reboot_host "$last" reboot
tap_ok 'reboot: it converges' converged "$last"
tap_is 'reboot: it has the block that it had' "$(lease "$last")" "$before"
tap_ok 'reboot: its sessions are back' busywait "$PATIENCE" sessions "$last"
tap_ok 'reboot: all pods reach all pods' busywait 60 all_pings
services reboot
tap_ok 'reboot: its tenants reach their ports' busywait 60 tenant_pings "$last" blue 10.0.1.11 10.0.1.12
tap_ok 'reboot: systemd has no failed unit' busywait "$PATIENCE" running "$last"
if [[ $last != h2 ]]; then tap_ok 'reboot: the others lost nothing' none_lost "$(stream_lost h1)"; fi

switch vxlan
on h1 'systemctl stop etcd'
reboot_host "$last" 'no etcd'
tap_ok 'no etcd: pods of the booted host are reached: it forwards by its last good model' busywait 60 all_pings
tap_ok 'no etcd: a Service answers there' answered "$last/pod1" tcp 10.0.0.1 1234
on h1 'systemctl start etcd'
tap_ok 'no etcd: it is back, and all converge' busywait "$PATIENCE" all_converged
tap_ok 'no etcd: tenants as before' tenant_pings "$last" red 10.0.1.11 10.0.1.12
printf '# %d s in all\n' $((SECONDS - began))
tap_done
