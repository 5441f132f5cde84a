// NodePorts that a process of this host has, too: its clients from other hosts reach the Service in its place. Looked for
// when the entries of Services have changed and with every drift look; nothing is done about it but that it is said.
// Look: ss -Hltunp
import { createAlarm, startTicks } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'
import { describeError } from '../lib/errors.js'
import type { Log } from '../lib/log.js'
import type { Netns } from '../lib/netns/netns.js'
import { type BoundSocket, type BoundSockets, openBoundSockets } from '../lib/sockdiag/bound-sockets.js'
import { type SocketHolder, socketHolders } from '../lib/sockdiag/holders.js'
import type { DesiredState } from './model/desired.js'
import { nodePortKey } from './model/keys.js'
import type { Problem } from './model/object.js'
import { serviceOfOwner } from './model/service-claims.js'
import type { ServiceEntry } from './model/service-entry.js'
import type { Allocation } from './model/snapshot.js'

/** Changes come in rows; one look for all that come within so many ms. */
const gatherMs = 500

export interface PortHoldersOptions {
  /** Sockets of the host's namespace. */
  readonly sockets: BoundSockets
  readonly holders: (inodes: ReadonlySet<number>) => Promise<ReadonlyMap<number, readonly SocketHolder[]>>
  /** This process: its own listeners are no strangers. */
  readonly pid: number
  readonly clock: Clock
  readonly log: Log
  /** Between two looks of which nobody gave a reason. */
  readonly everyMs: number
  desired(): DesiredState | undefined
  allocations(): ReadonlyMap<string, Allocation>
  /** Problems differ from what they were. */
  onChange(): void
}

export interface PortHolders {
  /** After every pass; looks only when entries of Services have changed. */
  kick(): void
  problems(): readonly Problem[]
  run(signal: AbortSignal): Promise<void>
}

interface Held {
  readonly socket: BoundSocket
  /** `namespace/name` */
  readonly service: string
  /** As the message names it. */
  readonly field: string
  readonly effect: string
}

const taken = 'its clients from other hosts reach the Service'
const unanswered = 'nobody answers the health checks of this node'

/** `unseen`: of another pid namespace, or not ours to look at. */
type Holder = SocketHolder | 'ours' | 'unseen'

const loopback = (address: string): boolean => address === '::1' || address.startsWith('127.')
const anywhere = (address: string): boolean => address === '0.0.0.0' || address === '::'

/** Do clients of the nodePort come where the socket listens? */
function meets(entry: ServiceEntry, socket: BoundSocket, addresses: readonly string[] | undefined): boolean {
  if (entry.kind !== 'nodeport' || entry.protocol !== socket.protocol || entry.port !== socket.port)
    return false
  if (entry.family !== socket.family && !(socket.both && entry.family === 'inet')) return false
  return addresses === undefined || anywhere(socket.address) || addresses.includes(socket.address)
}

/** Sockets in the way of nodePorts in force: O(sockets), however many Services there are. */
export function heldPorts(
  sockets: readonly BoundSocket[],
  allocations: ReadonlyMap<string, Allocation>,
  desired: DesiredState | undefined,
): readonly Held[] {
  const found: Held[] = []
  const addresses = desired?.serviceBase?.nodePortAddresses
  for (const socket of sockets) {
    if (socket.inode === 0 || loopback(socket.address)) continue
    const owner = allocations.get(nodePortKey(socket.protocol, socket.port))?.owner
    const service = owner === undefined ? undefined : serviceOfOwner(owner)
    if (service === undefined) continue
    const ref = `service/${service}`
    const entry = desired?.serviceEntries?.get(ref)?.find(each => meets(each, socket, addresses))
    if (entry !== undefined) {
      const field = entry.portName === '' ? 'nodePort' : `nodePort of port ${entry.portName}`
      found.push({ socket, service, field, effect: taken })
    } else if (
      socket.protocol === 'tcp' &&
      desired?.health.get(ref)?.some(({ port }) => port === socket.port)
    )
      found.push({ socket, service, field: 'healthCheckNodePort', effect: unanswered })
  }
  return found
}

function problemOf({ socket, service, field, effect }: Held, who: SocketHolder | 'unseen'): Problem {
  const name = who === 'unseen' ? 'a process that cannot be seen from here' : `"${who.comm}" (pid ${who.pid})`
  const about = `service/${service}`
  const { protocol, port, address } = socket
  const message = `${about}: ${field} "${port}/${protocol}" is in use on this host by ${name} at ${address.includes(':') ? `[${address}]` : address}:${port}: ${effect}`
  const hint = `ss -Hlnp${protocol === 'tcp' ? 't' : 'u'} sport = ${port}; stop it, move it to another port, or take another nodePort`
  return { level: 'warning', about, code: 'NODE_PORT_HELD', message, hint }
}

export function createPortHolders(options: PortHoldersOptions): PortHolders {
  const { sockets, clock, log } = options
  const alarm = createAlarm(clock)
  /** By inode: a socket does not change hands while it is looked at now and then, and if so the next look tells. */
  let known = new Map<number, Holder>()
  let problems: readonly Problem[] = []
  let seen: unknown
  let failed = ''
  let due = true

  async function identify(held: readonly Held[]): Promise<void> {
    const inodes = new Set(held.map(each => each.socket.inode))
    const found = await options.holders(new Set([...inodes].filter(inode => !known.has(inode))))
    const next = new Map<number, Holder>()
    for (const inode of inodes) {
      const all = found.get(inode) ?? []
      const own = all.some(({ pid }) => pid === options.pid)
      // systemd keeps sockets for others
      const who = all.find(({ pid }) => pid !== 1) ?? all[0] ?? 'unseen'
      next.set(inode, known.get(inode) ?? (own ? 'ours' : who))
    }
    known = next
  }

  async function look(signal: AbortSignal): Promise<void> {
    const desired = options.desired()
    const served = (desired?.serviceEntries?.size ?? 0) > 0
    const held = served ? heldPorts(await sockets.list(signal), options.allocations(), desired) : []
    await identify(held)
    const next: Problem[] = []
    for (const each of held) {
      const who = known.get(each.socket.inode)
      if (who !== 'ours' && who !== undefined) next.push(problemOf(each, who))
    }
    if (JSON.stringify(next) === JSON.stringify(problems)) return
    problems = next
    for (const { message } of next) log.warn('nodePort in use', { reason: message })
    options.onChange()
  }

  function ring(): void {
    due = true
    alarm.ring()
  }

  return {
    kick() {
      const service = options.desired()?.serviceEntries
      if (service === seen) return
      seen = service
      ring()
    },
    problems: () => problems,
    async run(signal) {
      const stop = startTicks(options.everyMs, ring)
      while (!signal.aborted) {
        if (!due) await alarm.wait(Number.POSITIVE_INFINITY, signal)
        await clock.sleep(gatherMs, signal).catch(() => undefined)
        if (signal.aborted) break
        due = false
        try {
          await look(signal)
          failed = ''
        } catch (error) {
          if (signal.aborted) break
          const reason = describeError(error)
          if (reason !== failed) log.warn('ports of processes cannot be listed', { reason })
          failed = reason
        }
      }
      stop()
    },
  }
}

/** Of this process, in a namespace; its socket is closed when `run` ends. */
export function openPortHolders(
  netns: Netns,
  options: Omit<PortHoldersOptions, 'sockets' | 'holders' | 'pid'>,
): PortHolders {
  const sockets = openBoundSockets(netns)
  const holders = createPortHolders({ ...options, sockets, holders: socketHolders, pid: process.pid })
  return {
    ...holders,
    async run(signal) {
      try {
        await holders.run(signal)
      } finally {
        sockets.close()
      }
    },
  }
}
