#!/usr/bin/env bash
# The hardened warrend.service under a real systemd, installed as a package lays it down, with tenants, an overlay and etcd:
# started, reloaded, restarted, hung, killed, stopped, upgraded and booted again, while traffic goes on.
#
#   wt-PID-host: systemd, warrend              wt-PID-net: node h2, by hand; etcd
#  .------------------------------------.     .---------------------------------.
#  | c-a 10.1.0.11 --. wrn-fabric       |     | eth0 192.0.2.12                 |
#  | c-b 10.1.0.12 --'  VNI 2001, DHCP  |     | vx VNI 1 -- 10.244.2.2          |
#  |                       eth0 192.0.2.11 ---+ nodes h3 .. h101: records only  |
#  | pod 10.244.1.2 -- wrn0 -- wrn-ovl  |     '---------------------------------'
#  '------------------------------------'

set -o errexit -o nounset -o pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
# shellcheck source=scripts/lib.sh
. "$here/../../scripts/lib.sh"
# shellcheck source=scripts/env.sh
. "$here/../../scripts/env.sh"
# shellcheck source=scripts/lab-net.sh
. "$here/../../scripts/lab-net.sh" # kill_inside
# shellcheck source=test/support/systemd.sh
. "$here/../support/systemd.sh"
# shellcheck source=test/support/unit.sh
. "$here/../support/unit.sh"

need_root
need_node
[[ -n ${WARREN_DIST-} ]] || need_build
if why=$(systemd_missing); then
  tap_skip 'unit: warrend.service' "$why"
  tap_done
  exit
fi

name=wt-$$
work=$(mktemp -d)
unit_use "$name" "$work"
on_exit unit_cleanup

# --- the first start: nobody answers ------------------------------------------------------------------------------------

first_start() {
  local text
  unit_stage
  unit_config
  unit_places
  unit_boot 'boot'
  tap_is 'verify: systemd-analyze has nothing to say' \
    "$(systemd_in systemd-analyze verify --man=no warrend.service warrend-retry.service warren-netns.socket warren-netns@0.service warren-dnsmasq@1.service 2>&1 && echo fine)" fine
  printf '# %s\n' "$(systemd_in systemd-analyze security --no-pager warrend.service | tail -n 1)"
  tap_ok 'verify: the exposure of warrend.service is at most 2.5' systemd_in systemd-analyze security --no-pager --threshold=25 warrend.service

  tap_ok 'etcd away: enable --now ends well' unit_timed start systemd_in systemctl enable --quiet --now warrend
  tap_ok 'etcd away: ready within 6 s all the same' in_time 6000 "$(<"$work/start.ms")"
  tap_ok 'etcd away: and STATUS names what is missing' status_is '^(waiting|degraded).*etcd.* not in sync'
  tap_is 'etcd away: no restart' "$(unit_show NRestarts)" 0
  unit_etcd_start
  unit_model >"$work/nodes.yaml"
  tap_ok 'etcd is there: the model can be applied' busywait 10 unit_apply "$work/nodes.yaml"
  tap_ok 'etcd is there: converged, with the 100 peers' busywait 15 status_is '^converged at revision'
  tap_is 'etcd is there: their routes are in the kernel' "$(ip -n "$name-host" route show proto 87 | grep -c wrn-ovl)" 100

  # What it costs from nothing: the kernel is empty, the state directory too.
  systemd_in systemctl stop warrend
  systemd_in warren cleanup >/dev/null
  systemd_in find /var/lib/warren -mindepth 1 -delete
  tap_ok '100 peers: it starts from nothing' unit_timed start systemd_in systemctl start warrend
  printf '# start to READY with 100 peers, nothing in the kernel: %s ms (goal 2000), %s of CPU\n' "$(<"$work/start.ms")" "$(unit_cpu)"
  # Because of the first pass, not because time was up.
  tap_ok '100 peers: ready before the 5 s are over' in_time 4500 "$(<"$work/start.ms")"
  tap_ok '100 peers: converged' busywait 15 status_is '^converged at revision'
  tap_ok '100 peers: their routes are in the kernel' has_routes 100
  text=$(systemd_in sh -c "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$(unit_show MainPID)/status" | tr -s '\t\n' '  ')
  tap_is 'sandbox: four capabilities, no new ones, a filter of system calls' "$text" \
    'CapEff: 0000000000283000 CapBnd: 0000000000283000 NoNewPrivs: 1 Seccomp: 2 '
  tap_ok 'sandbox: the host is read-only to it' fails in_sandbox touch /etc/warren/x /usr/x /run/x
  # Some seconds after its start it lets go of what only that needed (agent/heap.ts).
  tap_ok '100 peers: at most 60 MB once it rests' busywait 20 rests_within 60
  printf '# RSS with 100 peers: %s MB (goal 80)\n' "$(($(unit_rss) / 1024))"
  tap_ok 'sandbox: sysctls of the network are not, others are' in_sandbox sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward && ! echo 1 >/proc/sys/kernel/sysrq'
}

rests_within() { (($(unit_rss) <= $1 * 1024)); }

# --- tenants, in namespaces that a sandboxed process cannot make --------------------------------------------------------

tenants_and_pods() {
  systemd_in ip netns add c-a
  systemd_in ip netns add c-b
  # As a container of somebody else: root with all capabilities, its namespace without a name.
  systemd_in systemd-run --quiet --unit=box --property=PrivateNetwork=yes sleep 3600
  tap_ok 'tenants: a network and its ports are applied' unit_apply_text "$(unit_tenants)"
  tap_ok 'tenants: ports are active, a tap among them' busywait 10 ports_active 4
  tap_ok 'tenants: the host sees the namespaces' systemd_in ip -n wrn-fabric link show lo
  tap_is 'tenants: a helper outside of the sandbox has made them' "$(systemd_in systemctl list-units --plain --no-legend 'warren-netns@*' | wc -l)" 1
  tap_ok 'tenants: dnsmasq has a unit of its own' busywait 15 unit_is -u warren-dnsmasq@2001 ActiveState=active
  if command -v busybox >/dev/null; then
    tap_ok 'tenants: and it answers' dhcp_answers c-a 10.1.0.11
  else
    tap_skip 'tenants: and it answers' 'no busybox'
  fi
  unit_pod
  tap_ok 'pods: one reaches a pod of h2 through the overlay' busywait 5 in_pod ping -n -q -c 1 -W 1 10.244.2.2
}

# --- restarts under traffic ---------------------------------------------------------------------------------------------

restarts() {
  local space dns
  space=$(space_of wrn-fabric) dns=$(unit_show MainPID warren-dnsmasq@2001)
  flows
  tap_ok 'restart: ends well' systemd_in systemctl restart warrend
  tap_ok 'restart: converged again' busywait 15 status_is '^converged'
  tap_ok 'restart: no packet is lost' flows_lossless
  tap_is 'restart: the namespaces are the same' "$(space_of wrn-fabric)" "$space"
  tap_is 'restart: dnsmasq is the same' "$(unit_show MainPID warren-dnsmasq@2001)" "$dns"

  flows
  unit_kill
  tap_ok 'kill -9: it is started again' busywait 15 started_again 1
  tap_ok 'kill -9: no packet is lost' flows_lossless
  tap_is 'kill -9: the namespaces are the same' "$(space_of wrn-fabric)" "$space"
  tap_is 'kill -9: dnsmasq is the same' "$(unit_show MainPID warren-dnsmasq@2001)" "$dns"

  flows
  systemd_in systemctl stop warrend
  nap 1
  systemd_in systemctl kill --signal=KILL warren-dnsmasq@2001
  tap_ok 'stop: dnsmasq that dies is started again by systemd' busywait 10 another_dnsmasq "$dns"
  tap_ok 'stop: no packet is lost, nothing is taken down' flows_lossless
  tap_is 'stop: the namespaces are the same' "$(space_of wrn-fabric)" "$space"
  systemd_in systemctl start warrend
  tap_ok 'start: converged' busywait 15 status_is '^converged'
  dns=$(unit_show MainPID warren-dnsmasq@2001)
  systemd_in kill -KILL "$dns"
  tap_ok 'dnsmasq: while warrend runs, one that dies is back at once' busywait 10 another_dnsmasq "$dns"
  tap_ok 'dnsmasq: converged' busywait 15 status_is '^converged'
}

# --- reload -------------------------------------------------------------------------------------------------------------

reload() {
  local pid
  pid=$(unit_show MainPID)
  unit_config 'labels: { rack: r1 }' 'log: { level: debug }'
  systemd_in systemctl reload warrend
  tap_ok 'reload: a label is in the record of the node' busywait 5 has_label r1
  unit_config 'labels: { rack: r1 }' 'resyncInterval: 30'
  systemd_in systemctl reload warrend
  tap_ok 'reload: STATUS says what needs a restart' busywait 5 status_is '^converged.*; needs a restart for resyncInterval$'
  unit_config 'resyncIntervall: 30'
  systemd_in systemctl reload warrend
  tap_ok 'reload: a file with a fault is refused, and STATUS says why' busywait 5 status_is 'refused:.*resyncIntervall is not a known field'
  tap_is 'reload: the process goes on' "$(unit_show MainPID) $(unit_show ActiveState)" "$pid active"
  unit_config
  systemd_in systemctl reload warrend
  tap_ok 'reload: the first one again, and all is well' busywait 5 status_is '^converged at revision [0-9]+$'
}

# --- iptables-legacy: its lock file, its raw socket --------------------------------------------------------------------

legacy() {
  local why
  if ! why=$(in_host iptables-legacy -w -t nat -S 2>&1); then
    tap_skip 'legacy: rules of the userspace of old' "$(head -n 1 <<<"$why")"
    return
  fi
  # shellcheck disable=SC2016 # of that shell
  systemd_in sh -c 'for p in iptables ip6tables; do for s in "" -save -restore; do ln -sf xtables-legacy-multi "/usr/sbin/$p$s"; done; done'
  unit_apply_text "$(unit_service)" >/dev/null
  unit_config 'proxyMode: iptables'
  systemd_in systemctl restart warrend
  tap_ok 'legacy: converged' busywait 15 status_is '^converged'
  tap_ok 'legacy: the rules are in its tables' busywait 5 legacy_has_service
  in_host iptables-legacy -w -t nat -F "$(in_host iptables-legacy -w -t nat -S | sed -n 's/^-A \(WRN-[^ ]*\) -d 10.0.0.1.32 .*/\1/p' | head -n 1)"
  tap_ok 'legacy: what another hand took away is put back, though the kernel tells nobody' busywait 10 legacy_has_service
  unit_config
  systemd_in systemctl restart warrend
  tap_ok 'legacy: converged without it' busywait 15 status_is '^converged'
}

# --- the watchdog -------------------------------------------------------------------------------------------------------

watchdog() {
  unit_dropin warrend watchdog '[Service]' 'WatchdogSec=2s' 'Environment=WARREN_FAULT_HANG_FILE=/run/warren/hang'
  systemd_in systemctl restart warrend
  tap_ok 'watchdog: converged' busywait 15 status_is '^converged'
  nap 2.5
  tap_is 'watchdog: it is pinged' "$(unit_show NRestarts) $(unit_show ActiveState)" '0 active'
  flows
  systemd_in systemctl kill --signal=STOP --kill-who=main warrend
  tap_ok 'watchdog: a process that stands still is killed, and started again' busywait 15 started_again 1
  tap_ok 'watchdog: ready again within 2 s of that' recovered_within 2000
  printf '# from the watchdog to READY: %s ms (goal 2000)\n' "$(<"$work/recovered.ms")"
  systemd_in touch /run/warren/hang
  unit_apply_text "$(unit_tenants | sed 's/hostName: a/hostName: other/')" >/dev/null
  tap_ok 'watchdog: a pass that hangs in a live event loop, too' busywait 25 started_again 2
  tap_ok 'watchdog: it was noticed before' journal_has 'a pass hangs'
  tap_ok 'watchdog: ready again within 2 s of that' recovered_within 2000
  printf '# from the watchdog to READY: %s ms (goal 2000)\n' "$(<"$work/recovered.ms")"
  tap_ok 'watchdog: converged' busywait 15 status_is '^converged'
  tap_ok 'watchdog: no packet is lost' flows_lossless
  unit_dropin warrend watchdog
}

# --- start limits -------------------------------------------------------------------------------------------------------

limits() {
  unit_dropin warrend limit '[Unit]' 'StartLimitBurst=2' '[Service]' 'RestartSec=10ms'
  unit_dropin warrend-retry soon '[Service]' 'ExecStartPre=' 'ExecStartPre=/bin/sleep 1'
  systemd_in systemctl reset-failed
  systemd_in systemctl restart warrend
  unit_kill
  busywait 10 started_again 1 >/dev/null || :
  unit_kill
  tap_ok 'limit: one that ends again and again is a failed unit' busywait 10 unit_is ActiveState=failed
  tap_ok 'limit: by its start limit' journal_has 'Start request repeated too quickly'
  tap_ok 'limit: and tried again after a while' busywait 15 status_is '^converged'
  unit_dropin warrend limit
  unit_dropin warrend-retry soon '[Service]' 'ExecStartPre='
  unit_config 'nod: h1'
  systemd_in systemctl restart warrend 2>/dev/null || :
  tap_ok 'limit: a faulty configuration is failed at once' busywait 5 unit_is ActiveState=failed ExecMainStatus=2 NRestarts=0
  tap_ok 'limit: and left alone' busywait 5 unit_is -u warrend-retry Result=exec-condition ActiveState=inactive
  tap_is 'limit: it still is' "$(unit_show ActiveState)" failed
  unit_config
  systemd_in systemctl start warrend
  tap_ok 'limit: mended, it starts' busywait 15 status_is '^converged'
}

# --- another version ----------------------------------------------------------------------------------------------------

versions() {
  local now
  now=$(unit_version)
  unit_build_as 0.0.1
  systemd_in systemctl restart warrend
  tap_ok 'upgrade: the previous build converges' busywait 15 runs_version 0.0.1
  busywait 15 status_is '^converged' >/dev/null || :
  unit_build_as "$now"
  journal_mark
  flows
  systemd_in systemctl restart warrend
  tap_ok 'upgrade: this one has taken over' busywait 15 runs_version "$now"
  tap_ok 'upgrade: converged' busywait 15 status_is '^converged'
  tap_ok 'upgrade: no packet is lost' flows_lossless
  tap_ok 'upgrade: it has read the state of the previous one' journal_has 'last good model loaded'
  tap_ok 'upgrade: and found nothing to write' wrote_nothing

  systemd_in systemctl stop warrend
  systemd_in sed -i '1s/"version":[0-9]*/"version":99/' /var/lib/warren/snapshot.json
  journal_mark
  systemd_in systemctl start warrend
  tap_ok 'downgrade: state of a newer version is refused, with what to do' \
    journal_has 'version 99 is newer than .*start the version that wrote it, or wait until the store is reached'
  tap_ok 'downgrade: the store has the model, too' busywait 15 status_is '^converged'
}

# --- a cold boot, and no etcd -------------------------------------------------------------------------------------------

cold_boot() {
  # A number of a process means another one then.
  systemd_in warren delete port/red/box >/dev/null
  tap_ok 'cold boot: the last good model is on disk' busywait 10 snapshot_has '"Port"'
  unit_etcd_stop
  unit_power_off
  unit_places
  unit_boot 'cold boot'
  systemd_in ip netns add c-a
  systemd_in ip netns add c-b
  tap_ok 'cold boot: it starts without etcd' unit_timed start systemd_in systemctl start warrend
  printf '# start to READY from the snapshot, no store, nothing in the kernel: %s ms\n' "$(<"$work/start.ms")"
  tap_ok 'cold boot: within 6 s' in_time 6000 "$(<"$work/start.ms")"
  tap_ok 'cold boot: STATUS says what is missing' busywait 15 status_is '^degraded: etcd .* not in sync'
  unit_pod
  tap_ok 'cold boot: the overlay forwards' busywait 5 in_pod ping -n -q -c 1 -W 1 10.244.2.2
  tap_ok 'cold boot: the tenants do' busywait 5 systemd_in ip netns exec c-a ping -n -q -c 1 -W 1 10.1.0.12
  tap_ok 'cold boot: dnsmasq is there' busywait 15 unit_is -u warren-dnsmasq@2001 ActiveState=active
  tap_is 'cold boot: no restart' "$(unit_show NRestarts)" 0
  flows
  unit_etcd_start
  tap_ok 'cold boot: etcd is back: converged' busywait 20 status_is '^converged'
  tap_ok 'cold boot: no packet is lost' flows_lossless
}

first_start
tenants_and_pods
restarts
reload
watchdog
limits
versions
legacy
cold_boot
tap_done
