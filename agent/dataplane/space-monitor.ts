// Notices of our own namespaces, each with event sockets of its own, and of the directory of their names.
import { type FSWatcher, watch } from 'node:fs'
import type { Clock } from '../../lib/clock.js'
import { monitorRtnl } from '../../lib/netlink/monitor.js'
import type { RtnlEvent, RtnlObject } from '../../lib/netlink/types.js'
import type { Netns } from '../../lib/netns/netns.js'
import { monitorNft } from '../../lib/nftables/monitor.js'
import type { DesiredState, TableName } from '../model/desired.js'
import { routeProtocol } from '../model/marks.js'
import { Awaited } from './awaited.js'
import { fabricTables } from './fabric-stages.js'
import { handOf } from './monitor.js'
import type { Reconciler } from './reconciler.js'
import { isNamespace, type Space, type Spaces } from './spaces.js'

export interface SpaceMonitorOptions {
  readonly spaces: Spaces
  readonly reconciler: Reconciler
  /** What compute asks for now. */
  desired(): DesiredState | undefined
  /** The host's namespace. */
  readonly host: Pick<Netns, 'linkIndex'>
  readonly clock: Clock
  /** Writes of the host namespace's socket show up in here, too (a VXLAN device is made from there). */
  isOurs(portId: number): boolean
}

export interface SpaceMonitor {
  /** Listens to every namespace that is open now, and to no other. */
  sync(): void
  run(signal: AbortSignal): Promise<void>
}

type Notice = Extract<RtnlEvent, { readonly object: RtnlObject }>

interface Watched {
  readonly generation: number
  close(): void
}

const directory = '/run/netns'
/** How long a container or a tap that is back waits for its port at most, ms; it is not everywhere that names tell. */
const missingMs = 500

function tableOf(object: RtnlObject): TableName | undefined {
  switch (object.kind) {
    case 'link':
      return object.loopback === true ? undefined : 'fabric-link'
    case 'address':
      return object.scope === 'global' ? 'fabric-address' : undefined
    case 'neighbor':
      return object.state === 'permanent' ? 'fabric-neighbor' : undefined
    case 'fdb':
      return 'fabric-fdb'
    case 'route':
      return object.table === 255 ? undefined : 'fabric-route'
    case 'rule':
      return undefined
  }
}

export function createSpaceMonitor(options: SpaceMonitorOptions): SpaceMonitor {
  const { spaces, reconciler, isOurs, clock } = options
  const watched = new Map<string, Watched>()
  const awaited = new Awaited()
  const own = (portId: number): boolean => {
    if (isOurs(portId)) return true
    for (const space of spaces.open) if (space.isOurs(portId)) return true
    return false
  }

  function listen(space: Space): Watched {
    const { name } = space
    const all = (): void => {
      for (const table of fabricTables) reconciler.notice(table, undefined)
    }
    const rtnl = monitorRtnl(space.netns, ['link', 'address', 'route', 'neighbor'], (event: RtnlEvent) => {
      if (event.event === 'lost') return all()
      const table = own(event.portId) || saysNothing(event.object) ? undefined : tableOf(event.object)
      if (table === undefined) return
      if (event.portId !== 0) tell(table, event)
      else if (event.object.kind === 'link') unsigned.links.set(event.object.name, event)
      else unsigned.others.push(event)
      if (event.portId === 0) later()
    })
    const tell = (table: TableName, { event, object, portId }: Notice): void =>
      reconciler.notice(table, () => handOf(portId), {
        event,
        object: { space: name, object },
        ours: isWanted(object),
      })
    /**
     * Of links and of most FDB entries the kernel does not say whose hand it was, and what it shows of a link that we make
     * is half of it: judged when the pass that may have written it is over, and a link by what is there then.
     */
    const unsigned = { links: new Map<string, Notice>(), others: [] as Notice[] }
    let waiting = false
    const later = (): void => {
      if (waiting) return
      waiting = true
      void reconciler
        .settled()
        .then(async () => {
          waiting = false
          const links = [...unsigned.links]
          const others = unsigned.others.splice(0)
          unsigned.links.clear()
          for (const [dev, notice] of links) {
            const [now] = await space.rtnl.list('link', { dev }).catch(() => [])
            tell(
              'fabric-link',
              now === undefined ? { ...notice, event: 'del' } : { ...notice, event: 'new', object: now },
            )
          }
          for (const notice of others) {
            const table = tableOf(notice.object)
            if (table !== undefined) tell(table, notice)
          }
        })
        // Closed meanwhile: nobody asks any more.
        .catch(() => undefined)
    }
    const nft = monitorNft(space.netns, event => {
      if (event.event === 'lost') return all()
      if (event.own || own(event.portId) || event.tables.length === 0) return
      const hand = event.comm === '' ? `netlink port ${event.portId}` : `${event.comm} (pid ${event.pid})`
      reconciler.notice('fabric-filter', hand)
      reconciler.notice('fabric-element', hand)
    })
    return {
      generation: space.generation,
      close() {
        rtnl.close()
        nft.close()
      },
    }
  }

  function sync(): void {
    const open = new Map([...spaces.open].map(space => [space.name, space]))
    for (const [name, its] of watched) {
      if (open.get(name)?.generation === its.generation) continue
      its.close()
      watched.delete(name)
    }
    for (const [name, space] of open) if (!watched.has(name)) watched.set(name, listen(space))
  }

  /** Is a namespace there again that a port could not be plugged into, or has a tap come that a port waits for? */
  function isBack(): boolean {
    awaited.update(options.desired())
    let back = awaited.tapCame(name => options.host.linkIndex(name))
    const { state } = reconciler.tables.find(({ name }) => name === 'fabric-link') ?? {}
    for (const link of state === 'degraded' ? awaited.plugged : [])
      back ||=
        reconciler.failureOf('fabric-link', link)?.code === 'NO_NETNS' &&
        isNamespace(link.object.peer?.path ?? '')
    return back
  }

  return {
    sync,
    async run(signal) {
      const names = watchNames(name => {
        // A namespace of ours, or the one that a port is to be plugged into.
        if (name === undefined || spaces.isOurs(name)) reconciler.notice('netns', undefined)
        awaited.update(options.desired())
        if (name === undefined ? awaited.hasGuests : awaited.isGuest(`${directory}/${name}`))
          reconciler.notice('guest', undefined)
      })
      try {
        while (!signal.aborted) {
          await clock.sleep(missingMs, signal).catch(() => undefined)
          if (isBack()) reconciler.notice('fabric-link', undefined)
        }
      } finally {
        names?.close()
        for (const its of watched.values()) its.close()
      }
    },
  }
}

/** A bridge's own notice of a port: no more than its flags, which are as all of ours are. */
function saysNothing(object: RtnlObject): boolean {
  return (
    object.kind === 'link' &&
    object.info.kind === 'other' &&
    object.info.name === 'bridge-port' &&
    object.port?.learning !== true &&
    object.port?.flood !== true
  )
}

/** Entries that the kernel makes by itself are nobody's. */
function isWanted(object: RtnlObject): boolean {
  if (object.kind === 'fdb')
    return object.on === 'self' ? object.dst !== undefined : object.state !== 'permanent'
  if (object.kind === 'route') return object.protocol === routeProtocol
  return true
}

/** Calls `f` with each name that came or went; undefined: some did. */
function watchNames(f: (name: string | undefined) => void): FSWatcher | undefined {
  const seen = (event: string, name: string | null): void => {
    if (event === 'rename') f(name ?? undefined)
  }
  try {
    return watch(directory, { persistent: false }, seen).on('error', () => undefined)
  } catch {
    // There is none as long as nobody has made a namespace; the drift timer looks, too.
    return undefined
  }
}
