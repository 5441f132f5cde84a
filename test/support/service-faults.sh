# shellcheck shell=bash
# What test/e2e/services.sh does to Services and asks of them; sourced after test/support/traffic.sh.

# within MS CMD...: succeeds in that time, and says how long it took
within() {
  local from now most=$1
  shift
  now_ms from
  busywait $((most / 1000 + 3)) "$@" || { printf 'not at all: %s\n' "$*" && return 1; }
  now_ms now
  ((now - from <= most)) || { printf 'after %d ms: %s\n' "$((now - from))" "$*" && return 1; }
}

# --- objects ---------------------------------------------------------------------------------------------------------------

document() { printf 'apiVersion: warren/v1\nkind: %s\nmetadata: { name: %s }\nspec: { %s }\n' "$@"; }
service() { on h1 apply -f - < <(document Service "$1" "$2") >/dev/null; }
node() { on h1 apply -f - < <(document Node "$1" "addresses: [$2], podCIDRs: [$3], vtepMAC: \"02:00:00:00:00:99\"") >/dev/null; }

# refused_document WORDS...: `warren apply` of stdin has exit status 1 and says these
refused_document() {
  local out word status=0
  out=$(on h1 apply -f - 2>&1) || status=$?
  for word; do [[ $status == 1 && $out == *"$word"* ]] || { printf 'exit status %s\n%s\n' "$status" "$out" && return 1; }; done
}
# refused SPEC WORDS...
refused() { refused_document 'service/default/bad' "${@:2}" < <(document Service bad "$1"); }
refused_endpoint() {
  refused_document 'endpoints/default/bad' "\"$1\"" \
    < <(document Endpoints bad "service: bad, endpoints: [{ addresses: [\"$1\"] }], ports: [{ name: http, port: 8080 }]")
}

# A Service with 10.244.64.1 ... 10.244.103.250, in two objects.
many_endpoints() {
  local i part
  document Service many 'clusterIPs: [10.0.0.99], ports: [{ name: http, port: 80 }]'
  for part in 0 1; do
    printf -- '---\n'
    document Endpoints "many-$part" "service: many, ports: [{ name: http, port: 8080 }], endpoints: ["
    for ((i = part * 5000; i < part * 5000 + 5000; i++)); do
      printf '    { addresses: [10.244.%d.%d], nodeName: h1 },\n' $((64 + i / 250)) $((i % 250 + 1))
    done
    printf '  ] }\n'
  done | sed 's/endpoints: \[ }$/endpoints: [/'
}

# COUNT Services without addresses, each in front of the pod whose address is ADDRESS: thousands COUNT ADDRESS
thousands() {
  local i
  for ((i = 0; i < $1; i++)); do
    document Service "one-$i" 'ports: [{ name: http, port: 80, targetPort: 8080 }]'
    printf -- '---\n'
    document Endpoints "one-$i-1" "service: one-$i, endpoints: [{ addresses: [$2], nodeName: h1 }], ports: [{ name: http, port: 8080 }]"
    printf -- '---\n'
  done
}
names_are() { [[ $(on h1 get services,endpoints -o name) == "$1" ]]; }
# cluster_ip SERVICE: the one that was allocated for it
cluster_ip() { on h1 get service "$1" | awk 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "CLUSTER-IP") at = i } NR == 2 { print $at }'; }
one_answers() {
  local address
  address=$(cluster_ip "$1")
  [[ $address == 10.0.* ]] && answers h1/p2 "$address" 80
}

# --- answers ---------------------------------------------------------------------------------------------------------------

# answers_of PLACE ADDRESS PORT COUNT: how many of so many connections a backend answers, each within 0.4 s
# shellcheck disable=SC2016 # of that shell
answers_of() {
  in_ns "$1" bash -c 'for ((n = i = 0; i < $2; i++)); do
    ! timeout 0.4 bash -c "exec 3<>/dev/tcp/$0/$1 && printf \"GET / HTTP/1.0\r\n\r\n\" >&3 && tail -n 1 <&3" 2>/dev/null | grep -q "^h[0-9]" || n=$((n + 1))
  done; echo $n' "$2" "$3" "$4"
}
answers() { [[ $(answers_of "$1" "$2" "$3" 1) == 1 ]]; }
# turned_away PLACE ADDRESS PORT: refused at once, not after a timeout
turned_away() {
  local said
  said=$(LC_ALL=C in_ns "$1" timeout 0.5 bash -c "exec 3<>/dev/tcp/$2/$3" 2>&1) || :
  [[ $said == *'Connection refused'* ]] || { printf '%s\n' "${said:-an answer, or nothing}" && return 1; }
}
# heals HOST: new connections from a pod and to the nodePort are served
heals() { answers "$1/p1" 10.0.0.1 1234 && answers ext "$(host_addr4 "${1#h}")" 31234; }

# --- what a host says and has --------------------------------------------------------------------------------------------------

last_event() { on "$1" events -o json 2>/dev/null | jq -s -r 'flatten | .[-1].id // 0'; }
# hand_since HOST ID TABLE WORD: an event of that table after ID names the hand
hand_since() {
  on "$1" events -o json | jq -s -e --argjson id "$2" --arg table "$3" --arg word "$4" \
    'flatten | any(.id > $id and .table == $table and ((.hand // "") | contains($word)))' >/dev/null ||
    { on "$1" events | tail -n 5 && return 1; }
}
# described HOST PATTERN [SERVICE]: a problem of the Service (default: web) is like that, "CODE message"
described() {
  local text
  text=$(on "$1" describe service "${3-web}" -o json | jq -r '.problems[] | "\(.code) \(.message)"')
  [[ $text =~ $2 ]] || { printf '%s\n' "${text:-no problem}" && return 1; }
}
# table_says HOST WORDS...: the iptables mode is degraded, and says these
table_says() {
  local text word
  text=$(status_of "$1" | jq -r '.tables[] | select(.name == "service-iptables" and .state == "degraded") | .error')
  for word in "${@:2}"; do [[ $text == *"$word"* ]] || { status_of "$1" | jq -c '.problems, (.tables[] | select(.name | startswith("service")))' && return 1; }; done
}

chains_in() { in_ns "$1" sh -c "iptables-$2-save 2>/dev/null; ip6tables-$2-save 2>/dev/null" | grep -c '^:WRN-SVC' || :; }
has_table() { in_ns "$1" nft list tables | grep -qx 'table ip warren-services'; }
# mode_stands HOST MODE: its rules are there, and those of the others are not
mode_stands() {
  local chains listeners
  chains=$(($(chains_in "$1" nft) + $(chains_in "$1" legacy)))
  listeners=$(on "$1" show observed proxy -o json | jq 'flatten | length')
  case $2 in
    nftables) ((chains == 0 && listeners == 0)) && has_table "$1" ;;
    userspace) ((chains == 0 && listeners > 0)) && has_table "$1" ;;
    iptables) ((chains > 0 && listeners == 0)) && ! has_table "$1" ;;
  esac || { printf '%s: %d chains, %s listeners, %s\n' "$1" "$chains" "$listeners" "$(in_ns "$1" nft list tables | paste -sd ,)" && return 1; }
}
mode_everywhere() {
  local host
  for host in h1 h2; do busywait 10 mode_stands "$host" "$1" || return 1; done
  all_converged
}
# variants OF-H1 OF-H2: nft, legacy or none
variants() {
  local host variant want count
  for host in h1 h2; do
    want=$1
    shift
    for variant in nft legacy; do
      count=$(chains_in "$host" "$variant")
      if [[ $variant == "$want" ]]; then ((count > 0)); else ((count == 0)); fi ||
        { printf '%s: %d chains in %s\n' "$host" "$count" "$variant" && return 1; }
    done
  done
}
# many_targets MODE: h1 has each of the 10,000
many_targets() {
  local count
  case $1 in
    iptables) count=$(in_ns h1 iptables-nft-save -t nat | grep -Eo 'DNAT --to-destination 10\.244\.(6[4-9]|[789][0-9]|10[0-3])\.[0-9]+:8080' | sort -u | wc -l) ;;
    nftables) count=$(in_ns h1 nft list map ip warren-services eps | grep -Eo ': 10\.244\.(6[4-9]|[789][0-9]|10[0-3])\.[0-9]+ \. 8080' | sort -u | wc -l) ;;
  esac
  ((count == 10000)) || { printf '%d targets\n' "$count" && return 1; }
}

# --- the neighbours ------------------------------------------------------------------------------------------------------------

# docker_rules HOST PROGRAM: what dockerd has, a published port, and a ban
docker_rules() {
  in_ns "$1" sh -e <<SH
i="$2 -w"
\$i -t nat -N DOCKER
\$i -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
\$i -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
\$i -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
\$i -t nat -A DOCKER -i docker0 -j RETURN
\$i -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80
\$i -N DOCKER
\$i -N DOCKER-USER
\$i -N DOCKER-ISOLATION-STAGE-1
\$i -A FORWARD -j DOCKER-USER
\$i -A FORWARD -j DOCKER-ISOLATION-STAGE-1
\$i -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
\$i -A FORWARD -o docker0 -j DOCKER
\$i -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
\$i -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
\$i -A DOCKER-USER -j RETURN
\$i -A DOCKER-ISOLATION-STAGE-1 -j RETURN
\$i -A INPUT -s 192.0.2.66 -j DROP
\$i -A OUTPUT -d 192.0.2.66 -j DROP
\$i -P FORWARD DROP
SH
}

# firewalld_rules HOST: its table, with its hooks and priorities; ours are in its trusted zone.
firewalld_rules() {
  in_ns "$1" nft -f - <<'NFT'
table inet firewalld {
	chain mangle_PREROUTING {
		type filter hook prerouting priority mangle + 10; policy accept;
	}
	chain nat_PREROUTING {
		type nat hook prerouting priority dstnat + 10; policy accept;
		iifname "eth0" tcp dport 8082 redirect to :22
	}
	chain nat_OUTPUT {
		type nat hook output priority -90; policy accept;
	}
	chain nat_POSTROUTING {
		type nat hook postrouting priority srcnat + 10; policy accept;
		oifname "docker0" masquerade
	}
	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
	}
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname { "lo", "wrn0", "wrn-ovl" } accept
		ct state invalid drop
		udp dport 4789 accept
		meta l4proto { icmp, ipv6-icmp } accept
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname { "lo", "wrn0", "wrn-ovl" } accept
		ct state invalid drop
		reject with icmpx admin-prohibited
	}
	chain filter_OUTPUT {
		type filter hook output priority filter + 10; policy accept;
		ct state { established, related } accept
		oifname "lo" accept
	}
}
NFT
}

# foreign HOST: all rules but ours, without counters, in their order; firewalld's with their handles, so that none was made anew.
# Builtin chains with policy ACCEPT are there whenever anybody looks.
foreign() {
  local variant table saved
  for variant in nft legacy; do
    for table in nat filter; do
      printf '%s %s\n' "$variant" "$table"
      # No kernel has two chains of one name: iptables-nft-save was interrupted by a change, began anew and shows both.
      while
        saved=$(in_ns "$1" "iptables-$variant-save" -t "$table" 2>/dev/null)
        grep '^:' <<<"$saved" | sort | uniq -d | grep -q .
      do
        nap 0.05
      done
      sed -E '/WRN-/d; /^[#*]/d; /^COMMIT/d; /^:[A-Z]+ ACCEPT /d; s/ ?\[[0-9]+:[0-9]+\]//' <<<"$saved"
    done
  done
  in_ns "$1" nft -a -s list table inet firewalld 2>/dev/null || :
}
foreign_same() { diff <(foreign "$1") "$TRAFFIC_DIR/foreign.$1"; }

# watch_foreign HOST: in the background until never_changed
watch_foreign() {
  while true; do
    foreign_same "$1" >>"$TRAFFIC_DIR/changed.$1" 2>&1 || :
    printf '.' >>"$TRAFFIC_DIR/looks.$1"
    nap 0.1
  done </dev/null >/dev/null 2>&1 &
  disown $!
  proc_save "$TRAFFIC_DIR/watch.$1.pid" $!
}
looked_often() { [[ $(wc -c <"$TRAFFIC_DIR/looks.$1") -gt 10 ]]; }
never_changed() {
  local host
  for host in h1 h2; do
    busywait 10 looked_often "$host" || :
    proc_kill "$TRAFFIC_DIR/watch.$host.pid"
    cat "$TRAFFIC_DIR/changed.$host"
    [[ ! -s $TRAFFIC_DIR/changed.$host ]] && looked_often "$host" || return 1
  done
}
# shellcheck disable=SC2016 # of that shell
ours_left() {
  in_ns "$1" sh -c 'for i in iptables ip6tables; do for v in nft legacy; do $i-$v-save 2>/dev/null; done; done | grep WRN-; nft list tables | grep warren' || :
}

# --- a host without iptables -----------------------------------------------------------------------------------------------------

iptables_programs() { readlink -f "$(command -v iptables-nft-restore)" "$(command -v iptables-legacy-restore)"; }
# without_iptables HOST: starts its warrend again where the programs are nothing that runs, in mounts of its own
# shellcheck disable=SC2016 # of that shell
without_iptables() {
  local programs
  mapfile -t programs < <(iptables_programs)
  lab_run stop "$1"
  nsenter --net="/run/netns/$(ns "$1")" unshare --mount sh -c 'mount --bind /dev/null "$1" && mount --bind /dev/null "$2" && shift 2 && exec "$@"' sh \
    "${programs[@]}" setsid "$WARREN_DIST/warrend" --config "$LAB_DIR/$1/warrend.yaml" >>"$LAB_DIR/$1/warrend.log" 2>&1 </dev/null &
  disown $!
  proc_save "$LAB_DIR/$1/warrend.pid" $!
  busywait 20 converged "$1"
}
iptables_again() {
  local pid program
  pid=$(proc_alive "$LAB_DIR/$1/warrend.pid")
  for program in $(iptables_programs); do nsenter --target "$pid" --mount umount "$program" || return 1; done
}
