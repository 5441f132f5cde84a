// The userspace proxy of this host: its sockets come from and go to systemd's file descriptor store where there is one,
// its ports are remembered in <stateDir>/proxy-ports.json.
import { openPortMemory } from '../../lib/proxy/port-memory.js'
import { createProxy, type UserspaceProxy } from '../../lib/proxy/proxy.js'
import { openFdStore, takeStoredFds } from '../../lib/systemd/fdstore.js'
import { notify } from '../../lib/systemd/notify.js'

/** What ending takes beside the drain, seconds. */
const margin = 10

export interface HostProxy {
  readonly proxy: UserspaceProxy
  savePorts(): void
}

/** `drain`: seconds that connections have to finish once warrend ends. */
export function openHostProxy(stateDir: string, drain: number): HostProxy {
  const ports = openPortMemory(`${stateDir}/proxy-ports.json`)
  const inherited = takeStoredFds()
  const proxy = createProxy({
    store: openFdStore(process.env['NOTIFY_SOCKET'], inherited),
    inherited,
    ports,
    drainMs: drain * 1000,
    // Whatever the unit's TimeoutStopSec= says: connections have the time that the configuration gives them.
    onDrain: () => void notify({ EXTEND_TIMEOUT_USEC: `${Math.round((drain + margin) * 1e6)}` }),
  })
  return { proxy, savePorts: () => ports.save() }
}
