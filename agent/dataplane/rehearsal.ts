// What thousands of prefixes go through when a router's session comes up, gone through once before, over prefixes that nobody
// announced: from the bytes of gobgpd's watch to the messages for the kernel, which are not sent. V8 has then compiled it all
// while there was nothing else to do; in the few tenths of a second that it takes for real, that comes too late.
import { setImmediate as turn } from 'node:timers/promises'
import { systemClock } from '../../lib/clock.js'
import { examplePaths } from '../../lib/gobgp/example-paths.js'
import { readTableEvent } from '../../lib/gobgp/path-reader.js'
import type { BgpPath } from '../../lib/gobgp/types.js'
import { loadWire } from '../../lib/gobgp/wire.js'
import { parsePrefix } from '../../lib/net/prefix.js'
import { MessageWriter } from '../../lib/netlink/codec/message.js'
import { encodeOp } from '../../lib/netlink/codec/op.js'
import type { Route, Rtnl } from '../../lib/netlink/types.js'
import { PersistentMap } from '../../lib/persistent/map.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import { noServiceAddress } from '../compute/bgp/guard.js'
import { createRib, type RibInput } from '../compute/bgp/rib.js'
import { createUnion } from '../compute/bgp/union.js'
import { startLastsFor } from '../heap.js'
import { bgpPeerSchema } from '../model/bgp-peer.js'
import { createRibPaths } from '../sources/rib-paths.js'
import type { BgpPart } from './bgp.js'
import { routeTable } from './tables/route.js'

/** RFC 5737 and RFC 6598: addresses that are nobody's. */
const router = '192.0.2.1'
const announced = '100.64.0.0/10'

const names = { nameOf: () => 'eth0', indexOf: () => 2 }

/** The messages of the ops, for nobody. */
const unsent: Rtnl['apply'] = async ops => {
  const out = new MessageWriter(64 * ops.length)
  const messages = ops.map(op => encodeOp(out, op, names))
  return messages.map(() => undefined)
}

function input(paths: PersistentMap<readonly BgpPath[]>, rest: Omit<RibInput, 'facts'>): RibInput {
  return { ...rest, facts: { inSync: true, sessions: new Map(), paths } }
}

/** So often that V8 compiles what is run once for a prefix, and so many at a time that nobody waits long for his turn. */
const times = 6
const prefixes = 500

/** As long as `goOn`: until it is for real. Returns how many prefixes it took in, all of them if nothing is amiss. */
export async function rehearseRoutes(goOn: () => boolean): Promise<number> {
  const peer = bgpPeerSchema.parse({
    apiVersion: 'warren/v1',
    kind: 'BGPPeer',
    metadata: { name: 'example' },
    spec: { address: router, asn: 64496, import: [announced] },
  })
  const session = {
    ref: 'bgppeer/example',
    role: 'external',
    address: router,
    localAddress: '192.0.2.2',
    asn: 64496,
    peer,
  } as const
  const topology = {
    kind: 'mesh',
    why: '',
    reflectors: [],
    sessions: new Map([[router, session]]),
    unreachable: new Map(),
  } as const
  const onLink = [parsePrefix('192.0.2.0/24')]
  const rest: Omit<RibInput, 'facts'> = {
    peers: PersistentMap.empty(),
    allocations: PersistentMap.empty(),
    topology,
    live: new Set(),
    guard: {
      topology,
      retained: new Set(),
      podCIDRs: [parsePrefix('10.244.0.0/16')],
      serviceCIDRs: [parsePrefix('10.96.0.0/12')],
      own: [parsePrefix('10.244.1.0/24')],
      routed: [],
      onLink,
      isServiceAddress: noServiceAddress,
    },
    importing: { dev: 'eth0', onLink, own: ['192.0.2.2'] },
  }
  const rtnl: Rtnl = {
    portIds: new Set(),
    list: async () => [],
    apply: unsent,
    close: () => undefined,
  }
  const known = createRibPaths()
  const compute = createRib()
  const union = createUnion<readonly Route[]>()
  const none = PersistentMap.empty<readonly Route[]>()
  const mirror = new Mirror(routeTable(rtnl), systemClock, createReceipts())
  const { signal } = new AbortController()
  const wire = await loadWire()
  compute(input(known.all(), rest))
  await mirror.plan(new Map(), signal)
  let taken = 0
  for (let i = 0; i < times && goOn(); i += 1) {
    known.learn(readTableEvent(examplePaths(wire, router, i * prefixes, prefixes)) ?? [])
    await turn()
    const { imports } = compute(input(known.all(), rest))
    await turn()
    const { writes } = await mirror.plan(union(none, imports), signal)
    await mirror.execute(writes, signal)
    mirror.settle()
    taken += writes.length
    await turn()
  }
  return taken
}

/** A start of the agent lasts until the routers that it takes prefixes of have told them; until one has a session, it rehearses. */
export function rehearseAtStart(bgp: Pick<BgpPart, 'expects'>): void {
  startLastsFor({
    more: () => bgp.expects() !== undefined,
    prepare: async () => void (await rehearseRoutes(() => bgp.expects() === 'session')),
  })
}
