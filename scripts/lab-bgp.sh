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
      gobgpd --api-hosts "unix://$1/gobgpd.sock" --pprof-disable --log-level=warn &
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

cmd_bgp() {
  local host
  while read -r host; do
    log "$host:"
    warren_on "$host" bgp "$@" || return
  done < <(lab_hosts)
}
