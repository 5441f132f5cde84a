# shellcheck shell=bash
# BIRD and FRR in the place `ext` of a lab, as routers outside; sourced by e2e scripts after lab-net.sh. One at a time:
# router_start bird|frr CONF..., router_stop, router_kill. Configurations are written by the callers.

ROUTER_KIND=''

bird_ctl() { in_ns ext birdc -s "$out/bird.ctl" "$@"; }
frr_ctl() { in_ns ext vtysh --vty_socket "$out/frr" -c "$@"; }

# router_start bird|frr CONF
router_start() {
  ROUTER_KIND=$1
  if [[ $1 == bird ]]; then
    nsenter --net="/run/netns/$(ns ext)" setsid bird -f -R -c "$2" -s "$out/bird.ctl" >>"$out/bird.log" 2>&1 </dev/null &
  else
    # bgpd is started as root and goes on as frr, which has to reach its sockets.
    mkdir -p "$out/frr"
    chmod 711 "$out"
    chown frr:frr "$out/frr"
    chmod 644 "$2"
    nsenter --net="/run/netns/$(ns ext)" setsid /usr/lib/frr/bgpd --no_zebra -f "$2" \
      --vty_socket "$out/frr" --pid_file "$out/frr/bgpd.pid" --log "file:$out/frr/log" --vty_port 0 >>"$out/frr.out" 2>&1 </dev/null &
  fi
  disown $!
  proc_save "$out/router.pid" $!
}

router_stop() { [[ ! -e $out/router.pid ]] || proc_kill "$out/router.pid" TERM 5; }
router_kill() { proc_kill "$out/router.pid" KILL; }
