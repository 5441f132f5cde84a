# shellcheck shell=bash
# BIRD and FRR in the place `ext` of a lab, as routers outside; sourced by e2e scripts after traffic.sh. One at a time:
# router_start bird|frr CONF..., router_stop, router_kill. Configurations are written by the callers.

bird_ctl() { in_ns ext birdc -s "$TRAFFIC_DIR/bird.ctl" "$@"; }
frr_ctl() { in_ns ext vtysh --vty_socket "$TRAFFIC_DIR/frr" -c "$@"; }

# router_start bird|frr CONF
router_start() {
  if [[ $1 == bird ]]; then
    nsenter --net="/run/netns/$(ns ext)" setsid bird -f -R -c "$2" -s "$TRAFFIC_DIR/bird.ctl" >>"$TRAFFIC_DIR/bird.log" 2>&1 </dev/null &
  else
    # bgpd is started as root and goes on as frr, which has to reach its sockets.
    mkdir -p "$TRAFFIC_DIR/frr"
    chmod 711 "$TRAFFIC_DIR"
    chown frr:frr "$TRAFFIC_DIR/frr"
    chmod 644 "$2"
    nsenter --net="/run/netns/$(ns ext)" setsid /usr/lib/frr/bgpd --no_zebra -f "$2" \
      --vty_socket "$TRAFFIC_DIR/frr" --pid_file "$TRAFFIC_DIR/frr/bgpd.pid" --log "file:$TRAFFIC_DIR/frr/log" --vty_port 0 >>"$TRAFFIC_DIR/frr.out" 2>&1 </dev/null &
  fi
  disown $!
  proc_save "$TRAFFIC_DIR/router.pid" $!
}

router_stop() { [[ ! -e $TRAFFIC_DIR/router.pid ]] || proc_kill "$TRAFFIC_DIR/router.pid" TERM 5; }
router_kill() { proc_kill "$TRAFFIC_DIR/router.pid" KILL; }
