// What the unit of systemd offers its warrend, by environment variables of scripts/systemd/warrend.service: without them
// (a lab, a shell) it does the same by itself.
import { type Dnsmasqs, openDnsmasqs } from '../lib/dnsmasq/dnsmasq.js'
import { daemonLauncher, unitLauncher } from '../lib/dnsmasq/launch.js'
import { helperNetns, ipNetns, type NetnsCommand } from '../lib/netns/named.js'

/** WARREN_NETNS_SOCKET: a sandboxed process has a mount namespace of its own, and makes no entry of /run/netns. */
export function namespaceCommand(env: NodeJS.ProcessEnv = process.env): NetnsCommand {
  const socket = env['WARREN_NETNS_SOCKET']
  return socket === undefined || socket === '' ? ipNetns : helperNetns(socket)
}

/** WARREN_DNSMASQ_UNIT: the template reads the files where systemd keeps the state of the unit, and nowhere else. */
export function dhcpServers(stateDir: string, env: NodeJS.ProcessEnv = process.env): Dnsmasqs {
  const directory = `${stateDir}/dhcp`
  const unit = env['WARREN_DNSMASQ_UNIT']
  const inUnits = unit !== undefined && unit !== '' && env['STATE_DIRECTORY'] === stateDir
  return openDnsmasqs(directory, 'dnsmasq', inUnits ? unitLauncher(unit, directory) : daemonLauncher)
}
