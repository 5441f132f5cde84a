#!/usr/bin/env bash
# Makes a host of the lab, as root in it: Warren's own package, gobgpd, on h1 etcd and the lab's model, and pods. Packages come
# from Debian's mirror only where they are missing: the box of mkbox.sh has them all. Safe to repeat (`vagrant provision`).
#
#   provision.sh ADDRESS ETCD      this host's address on the private network, and that of the host with etcd

set -o errexit -o nounset -o pipefail

address=$1 etcd=$2
export DEBIAN_FRONTEND=noninteractive

# --- packages ------------------------------------------------------------------------------------------------------------

need=()
for pair in nft:nftables dnsmasq:dnsmasq-base iptables:iptables ping:iputils-ping gobgpd:gobgpd iperf3:iperf3 tcpdump:tcpdump \
  conntrack:conntrack etcd:etcd-server etcdctl:etcd-client; do
  command -v "${pair%%:*}" >/dev/null || need+=("${pair##*:}")
done
if ((${#need[@]} > 0)); then
  apt-get update -q
  apt-get install -y -q --no-install-recommends "${need[@]}"
fi
# Debian's own units: gobgpd's would have the port and no API socket of ours, etcd's is for the host that has it.
systemctl --quiet disable --now gobgpd.service
[[ $address == "$etcd" ]] || systemctl --quiet disable --now etcd.service

shopt -s nullglob
package='' architecture=$(dpkg --print-architecture)
for file in /warren/dist/warren_*_"$architecture".deb; do
  [[ -n $package && $package -nt $file ]] || package=$file
done
[[ -n $package ]] || {
  echo "No dist/warren_*_$architecture.deb in the tree: npm run package, then vagrant rsync and vagrant provision" >&2
  exit 1
}

# --- configuration -------------------------------------------------------------------------------------------------------

install -m 644 -D /warren/vagrant/warrend.yaml /etc/warren/warrend.yaml

if [[ $address == "$etcd" ]]; then
  cat >/etc/default/etcd <<TEXT
# Without TLS: for a lab on a network of its own only.
ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379,http://$address:2379
ETCD_ADVERTISE_CLIENT_URLS=http://$address:2379
TEXT
  # At boot the address may be there later than etcd is.
  install -d /etc/systemd/system/etcd.service.d
  printf '%s\n' '[Unit]' 'Wants=network-online.target' 'After=network-online.target' 'StartLimitIntervalSec=0' \
    '[Service]' 'Restart=on-failure' 'RestartSec=1s' >/etc/systemd/system/etcd.service.d/lab.conf
fi

# An emulated CPU on a busy machine takes a minute for what takes a second elsewhere. And the sandbox of warrend.service does not
# let it give its socket to a group (socketGroup in warrend.yaml; docs/systemd.md).
install -d /etc/systemd/system/warrend.service.d
printf '%s\n' '[Service]' 'TimeoutStartSec=5min' 'WatchdogSec=5min' 'SupplementaryGroups=vagrant' 'SystemCallFilter=@chown' \
  >/etc/systemd/system/warrend.service.d/lab.conf

# Pods come back after a boot, as a container runtime's would.
install -m 755 /warren/vagrant/pods.sh /usr/local/sbin/lab-pods
install -m 644 -D /warren/scripts/lab-echo.mjs /usr/local/lib/warren-lab/lab-echo.mjs
cat >/etc/systemd/system/lab-pods.service <<'UNIT'
[Unit]
Description=Pods of the lab
After=warrend.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-pods up

[Install]
WantedBy=multi-user.target
UNIT
cat >/etc/systemd/system/lab-register.service <<'UNIT'
[Unit]
Description=Pods of the lab are told to the model
Requires=lab-pods.service
After=lab-pods.service
StartLimitIntervalSec=0

[Service]
Type=exec
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-pods register
Restart=on-failure
RestartSec=2s

[Install]
WantedBy=multi-user.target
UNIT
cat >/etc/systemd/system/lab-echo@.service <<'UNIT'
[Unit]
Description=Server in %i
Requires=lab-pods.service
After=lab-pods.service

[Service]
NetworkNamespacePath=/run/netns/%i
ExecStart=/usr/lib/warren/node/bin/node /usr/local/lib/warren-lab/lab-echo.mjs %H/%i
DynamicUser=yes

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload

# --- start ---------------------------------------------------------------------------------------------------------------

if [[ $address == "$etcd" ]]; then
  systemctl --quiet enable etcd
  systemctl restart etcd
fi
installed=/var/lib/warren-lab.package
if [[ ! -e $installed || $(<"$installed") != "$(stat -c '%n %s %Y' "$package")" ]]; then
  apt-get install -y -q --no-install-recommends --reinstall --allow-downgrades -o Dpkg::Options::=--force-confold "$package"
  stat -c '%n %s %Y' "$package" >"$installed"
fi
systemctl --quiet enable --now warren-gobgpd
systemctl --quiet enable warrend
systemctl restart warrend

if [[ $address == "$etcd" ]]; then
  install -m 644 /warren/vagrant/lab.yaml /etc/warren/lab.yaml
  for ((try = 0; ; try++)); do
    if warren apply -f /etc/warren/lab.yaml; then break; fi
    ((try < 60)) || exit 1
    sleep 2
  done
fi
systemctl --quiet enable lab-pods lab-register lab-echo@pod1 lab-echo@pod2
timeout 900 systemctl restart lab-pods lab-register lab-echo@pod1 lab-echo@pod2
warren wait --converged --timeout 15m
# Others may have told the model something since: not converged is no failure then.
warren status || :
