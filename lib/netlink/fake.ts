// A kernel in memory, for tests without root: the same interface, errors and cascades as the real one. The contract
// suite (test/contract/netlink.test.ts) runs the same cases against both.
import type { WarrenError } from '../errors.js'
import { failureError } from './failure.js'
import { applyFake } from './fake-apply.js'
import { emptyState, type FakeState } from './fake-state.js'
import { formatObject, formatOp } from './format.js'
import type {
  ListFilter,
  ObjectOf,
  Rtnl,
  RtnlEvent,
  RtnlGroup,
  RtnlKind,
  RtnlMonitor,
  RtnlObject,
  RtnlOp,
} from './types.js'

export interface FakeKernel extends Rtnl {
  /** As monitorRtnl: notices come after the write, on a later turn of the event loop. */
  monitor(groups: readonly RtnlGroup[], onEvent: (event: RtnlEvent) => void): RtnlMonitor
  /** Another writer with a port id of its own: the foreign hand. */
  other(): Rtnl
  /** The n-th operation from now on (1 is the next) fails with this code and changes nothing. */
  failNext(n: number, code: string): void
  /** The next list rejects with this code. */
  failList(code: string): void
  /** Every monitor is told that notices were lost. */
  lose(): void
  /** Operations that were tried so far, as lines. */
  readonly log: readonly string[]
}

const groupOf: Readonly<Record<RtnlKind, RtnlGroup>> = {
  link: 'link',
  address: 'address',
  route: 'route',
  neighbor: 'neighbor',
  fdb: 'neighbor',
  rule: 'rule',
}

/** Linux tells the writer of IPv4 addresses, routes, neighbours and rules; not of links, FDB entries, IPv6 addresses. */
function tellsWriter(object: RtnlObject): boolean {
  return !(
    object.kind === 'link' ||
    object.kind === 'fdb' ||
    (object.kind === 'address' && object.family === 'inet6')
  )
}

function passes(object: RtnlObject, filter: ListFilter): boolean {
  const { dev, family, protocol, table } = filter
  switch (object.kind) {
    case 'link':
      return dev === undefined || object.name === dev
    case 'route':
      return (
        (dev === undefined || object.nextHops.some(hop => hop.dev === dev)) &&
        (family === undefined || object.family === family) &&
        (protocol === undefined || object.protocol === protocol) &&
        (table === undefined || object.table === table)
      )
    case 'rule':
      return (
        (dev === undefined || object.iif === dev) &&
        (family === undefined || object.family === family) &&
        (protocol === undefined || object.protocol === protocol) &&
        (table === undefined || object.table === table)
      )
    case 'fdb': {
      const own = object.dst === undefined ? undefined : object.dst.includes(':') ? 'inet6' : 'inet'
      return (dev === undefined || object.dev === dev) && (family === undefined || own === family)
    }
    case 'address':
    case 'neighbor':
      return (dev === undefined || object.dev === dev) && (family === undefined || object.family === family)
  }
}

function objectsOf(state: FakeState, kind: RtnlKind): readonly RtnlObject[] {
  switch (kind) {
    case 'link':
      return [...state.links.values()]
    case 'address':
      return [...state.addresses.values()]
    case 'route':
      return [...state.routes.values()].flat()
    case 'neighbor':
      return [...state.neighbors.values()]
    case 'fdb':
      return [...state.fdb.values()].flat()
    case 'rule':
      return [...state.rules.values()]
  }
}

class Kernel implements FakeKernel {
  readonly portIds: ReadonlySet<number> = new Set([1])
  readonly log: string[] = []
  private readonly state = emptyState()
  private readonly monitors = new Set<(event: RtnlEvent) => void>()
  private nextPort = 2
  private countdown = 0
  private failure = ''
  private listFailure: string | undefined

  async list<K extends RtnlKind>(
    kind: K,
    filter: ListFilter = {},
    signal?: AbortSignal,
  ): Promise<readonly ObjectOf<K>[]> {
    signal?.throwIfAborted()
    const code = this.listFailure
    this.listFailure = undefined
    if (code !== undefined) throw failureError('list', { code })
    const all = objectsOf(this.state, kind)
    return all.filter(object => passes(object, filter)) as unknown as readonly ObjectOf<K>[]
  }

  apply(ops: readonly RtnlOp[], signal?: AbortSignal): Promise<readonly (WarrenError | undefined)[]> {
    return this.write(ops, 1, signal)
  }

  private async write(
    ops: readonly RtnlOp[],
    port: number,
    signal: AbortSignal | undefined,
  ): Promise<readonly (WarrenError | undefined)[]> {
    return ops.map(op => {
      const action = `${op.verb} ${op.object.kind} "${formatObject(op.object)}"`
      if (signal?.aborted === true) return failureError(action, { code: 'ABORTED', text: 'not sent' })
      this.log.push(formatOp(op))
      if (this.countdown > 0) {
        this.countdown -= 1
        if (this.countdown === 0) return failureError(action, { code: this.failure })
      }
      const failure = applyFake(this.state, op, (event, object) => this.tell(event, object, port))
      return failure === undefined ? undefined : failureError(action, failure)
    })
  }

  private tell(event: 'new' | 'del', object: RtnlObject, port: number): void {
    const notice: RtnlEvent = { event, object, portId: tellsWriter(object) ? port : 0 }
    for (const monitor of this.monitors) setImmediate(() => this.monitors.has(monitor) && monitor(notice))
  }

  monitor(groups: readonly RtnlGroup[], onEvent: (event: RtnlEvent) => void): RtnlMonitor {
    const wanted = new Set(groups)
    const monitor = (event: RtnlEvent): void => {
      if (event.event === 'lost' || wanted.has(groupOf[event.object.kind])) onEvent(event)
    }
    this.monitors.add(monitor)
    return { close: () => void this.monitors.delete(monitor) }
  }

  other(): Rtnl {
    const port = this.nextPort
    this.nextPort += 1
    return {
      list: (kind, filter, signal) => this.list(kind, filter, signal),
      apply: (ops, signal) => this.write(ops, port, signal),
      portIds: new Set([port]),
      close: () => undefined,
    }
  }

  failNext(n: number, code: string): void {
    this.countdown = n
    this.failure = code
  }

  failList(code: string): void {
    this.listFailure = code
  }

  lose(): void {
    for (const monitor of this.monitors)
      setImmediate(() => this.monitors.has(monitor) && monitor({ event: 'lost' }))
  }

  close(): void {
    this.monitors.clear()
  }
}

/** A namespace as it is born: `lo`, down, and the rules for the tables local, main and default. */
export function fakeKernel(): FakeKernel {
  return new Kernel()
}
