# shellcheck shell=bash
# Services in a lab: an HTTP and UDP backend in every pod, one Service in front of all, and the proof that it answers.
# Sourced by lab.sh after lab-net.sh.

SERVICE_PORT=1234
NODE_PORT=31234

service_cidrs() {
  case $FAMILY in
    ipv4) echo 10.0.0.0/16 ;;
    ipv6) echo '"fd00:10::/112"' ;;
    dual) echo '10.0.0.0/16, "fd00:10::/112"' ;;
  esac
}

cluster_ips() {
  case $FAMILY in
    ipv4) echo 10.0.0.1 ;;
    ipv6) echo fd00:10::1 ;;
    dual) echo 10.0.0.1 fd00:10::1 ;;
  esac
}

# start_backends HOST: they end with their namespaces.
start_backends() {
  local p node
  node=$(dirname "$WARREN_DIST")/.node/bin/node
  [[ -x $node ]] || node=node
  # shellcheck disable=SC2153 # as lab-net.sh has it
  for ((p = 1; p <= PODS; p++)); do
    # shellcheck disable=SC2154 # lab.sh sets "here"
    ip netns exec "$(ns "$1/p$p")" setsid "$node" "$here/lab-echo.mjs" "$1/p$p" \
      >>"$(host_dir "$1")/echo-p$p.log" 2>&1 </dev/null {LAB_LOCK_FD}>&- &
    disown $!
  done
}

write_services() {
  local place addr4 addr6 addresses quoted=''
  for place in $(cluster_ips); do quoted+="${quoted:+, }\"$place\""; done
  cat <<YAML
apiVersion: warren/v1
kind: Service
metadata: { name: web }
spec:
  type: NodePort
  clusterIPs: [$quoted]
  selector: { app: web }
  ports:
    - { name: http, protocol: TCP, port: $SERVICE_PORT, targetPort: http, nodePort: $NODE_PORT }
    - { name: echo, protocol: UDP, port: $SERVICE_PORT, targetPort: echo, nodePort: $NODE_PORT }
YAML
  while read -r place addr4 addr6; do
    addresses=''
    [[ $addr4 == - ]] || addresses=$addr4
    [[ $addr6 == - ]] || addresses+="${addresses:+, }\"$addr6\""
    cat <<YAML
---
apiVersion: warren/v1
kind: Pod
metadata: { name: ${place/\//-}, labels: { app: web } }
spec:
  nodeName: ${place%/*}
  addresses: [$addresses]
  ports: [{ name: http, port: 8080 }, { name: echo, protocol: UDP, port: 8080 }]
YAML
  done < <(lab_pods)
}

apply_services() {
  local host
  for host in $(lab_hosts); do start_backends "$host"; done
  write_services >"$LAB_DIR/services.yaml"
  warren_on h1 apply -f "$LAB_DIR/services.yaml" >/dev/null || die "Cannot apply the lab's Service" "its file: $LAB_DIR/services.yaml"
}

# ask PLACE PROTOCOL ADDRESS PORT COUNT: lines "POD CLIENT", one per answer. (bash reads byte by byte: of a datagram that is
# the first byte alone, so head reads.)
ask() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  in_ns "$1" timeout 30 bash -c '
    for ((i = 0; i < $4; i++)); do
      exec 3<>"/dev/$1/$2/$3" || continue
      case $1 in
        tcp) printf "GET / HTTP/1.0\r\n\r\n" >&3 && timeout 2 tail -n 1 <&3 ;;
        udp) printf "?\n" >&3 && timeout 1 head -n 1 <&3 ;;
      esac
      exec 3>&-
    done 2>/dev/null' ask "$2" "$3" "$4" "$5" 2>/dev/null || :
}

node_address() {
  if [[ $1 == *:* ]]; then host_addr6 "$2"; else host_addr4 "$2"; fi
}

# cmd_proxy_mode MODE
cmd_proxy_mode() {
  (($# == 1)) || usage_error "proxy-mode needs a mode: nftables, iptables or userspace"
  [[ $SERVICES == true ]] || die "Lab \"$LAB_NAME\" has no Services" "lab.sh up --services"
  # shellcheck disable=SC2034 # for write_cluster
  PROXY_MODE=$(one_of proxy-mode "$1" nftables iptables userspace)
  write_cluster "$LAB_DIR/cluster.yaml"
  if [[ $STORE == file ]]; then
    cp "$LAB_DIR/cluster.yaml" "$LAB_DIR/cluster/.cluster.yaml.new"
    mv "$LAB_DIR/cluster/.cluster.yaml.new" "$LAB_DIR/cluster/cluster.yaml"
  else
    warren_on h1 apply -f "$LAB_DIR/cluster.yaml" >/dev/null
  fi
  save_env
}

# cmd_services [COUNT]: who asks what, how many answers came, from how many pods, and the addresses that those saw.
cmd_services() {
  [[ $SERVICES == true ]] || die "Lab \"$LAB_NAME\" has no Services" "lab.sh up --services"
  local count=${1:-12} from protocol ip target port answers pods seen failed=0
  printf '%-8s %-4s %-28s %-9s %-6s %s\n' FROM '' TO ANSWERS PODS 'CLIENT ADDRESS THAT THEY SAW'
  while read -r from protocol target port; do
    answers=$(ask "$from" "$protocol" "$target" "$port" "$count")
    pods=$(awk 'NF == 2 { print $1 }' <<<"$answers" | sort -u | wc -l)
    seen=$(awk 'NF == 2 { print $2 }' <<<"$answers" | sort -u | paste -sd ' ')
    answers=$(awk 'NF == 2' <<<"$answers" | wc -l)
    ((answers == count)) || failed=1
    printf '%-8s %-4s %-28s %-9s %-6s %s\n' "$from" "$protocol" "$target:$port" "$answers/$count" "$pods" "$seen"
  done < <(
    for ip in $(cluster_ips); do
      for protocol in tcp udp; do
        printf '%s\n' "h1/p1 $protocol $ip $SERVICE_PORT" "h1 $protocol $ip $SERVICE_PORT"
        printf '%s\n' "h1/p1 $protocol $(node_address "$ip" 1) $NODE_PORT" "h2 $protocol $(node_address "$ip" 1) $NODE_PORT" \
          "ext $protocol $(node_address "$ip" "$HOSTS") $NODE_PORT"
      done
    done
  )
  return "$failed"
}
