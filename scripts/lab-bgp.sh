# shellcheck shell=bash
# BGP in a lab; sourced by lab.sh after lab-net.sh. Every host has a gobgpd of its own, with its API on a unix socket only.
# "Supervised" as systemd does it: a shell starts it again 0.2 s after it ended, until the lab goes.

# start_gobgpd HOST: its gobgpd, unless one runs. The shell that starts it again is what gobgpd.pid names.
start_gobgpd() {
  local dir
  dir=$(host_dir "$1")
  proc_alive "$dir/gobgpd.pid" >/dev/null && return
  # shellcheck disable=SC2016 # expanded by the inner shell
  nsenter --net="/run/netns/$(ns "$1")" setsid bash -c '
    trap "kill \$child 2>/dev/null; exit 0" TERM
    while true; do
      rm -f "$1/gobgpd.sock"
      gobgpd --api-hosts "unix://$1/gobgpd.sock" --pprof-disable --pprof-host=off --log-level=warn &
      child=$!
      echo "$child" >"$1/gobgpd.child"
      wait "$child"
      sleep 0.2
    done' gobgpd "$dir" >>"$dir/gobgpd.log" 2>&1 </dev/null {LAB_LOCK_FD}>&- &
  disown $!
  proc_save "$dir/gobgpd.pid" $!
}

# kill_gobgpd HOST: SIGKILL; its supervisor starts it again.
kill_gobgpd() {
  local child
  read -r child <"$(host_dir "$1")/gobgpd.child"
  kill -KILL "$child"
}

# bgp_spec: the Cluster's part.
bgp_spec() {
  local topology="topology: $BGP_TOPOLOGY"
  ((REFLECTORS == 0)) || topology="topology: reflectors, reflectors: { count: $REFLECTORS }"
  printf '  bgp: { asn: 64512, %s, password: lab, holdTime: 9, restartTime: 60 }\n' "$topology"
}

# start_tor: the router between the racks: BIRD in sw, AS 65001, which peers with every host on that host's L2.
start_tor() {
  local rack address
  {
    printf 'log stderr all;\nrouter id %s;\nprotocol device {}\n' "$ETCD4"
    # What it is told by one host it tells the others, with itself as the next hop (RFC 4271: another AS).
    echo 'protocol kernel k4 { ipv4 { import none; export all; }; }'
    echo 'protocol kernel k6 { ipv6 { import none; export all; }; }'
    for rack in 1 2; do
      local own=$ETCD4 range=${ETCD4%.*}.0/24
      ((rack == 1)) || own=$RACK4 range=${RACK4%.*}.0/24
      printf 'protocol bgp rack%d { local %s as 65001; neighbor range %s as 64512; password "tor"; hold time 9; graceful restart on; dynamic name "rack%d_"; ipv4 { import all; export all; next hop self; }; ipv6 { import all; export all; next hop address %s; }; }\n' \
        "$rack" "$own" "$range" "$rack" "$( ((rack == 1)) && echo "$ETCD6" || echo "$RACK6")"
    done
  } >"$LAB_DIR/tor.conf"
  nsenter --net="/run/netns/$(ns sw)" setsid bird -f -c "$LAB_DIR/tor.conf" -s "$LAB_DIR/tor.ctl" >"$LAB_DIR/tor.log" 2>&1 </dev/null {LAB_LOCK_FD}>&- &
  disown $!
  proc_save "$LAB_DIR/tor.pid" $!
  for rack in r1 r2; do
    address=$ETCD4
    [[ $rack == r1 ]] || address=$RACK4
    printf -- '---\napiVersion: warren/v1\nkind: BGPPeer\nmetadata: { name: tor-%s }\nspec: { address: %s, asn: 65001, password: tor, nodes: { rack: %s }, holdTime: 9 }\n' \
      "$rack" "$address" "$rack"
  done >>"$LAB_DIR/cluster.yaml"
}

cmd_bgp() {
  local host
  while read -r host; do
    log "$host:"
    warren_on "$host" bgp "$@" || return
  done < <(lab_hosts)
}
