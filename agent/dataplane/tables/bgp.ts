// The BGP speaker beside us as tables: itself, what its neighbors may say, what it announces, its neighbors.
//   gobgp global as 64512 router-id 192.0.2.11
//   gobgp global rib add 10.244.1.0/24 nexthop 192.0.2.11
//   gobgp neighbor add 192.0.2.12 as 64512
// Paths come before neighbors: a neighbor that is back takes our End-of-RIB for all that we have (RFC 4724 §4.2).
import { asError, hasCode, type WarrenError } from '../../../lib/errors.js'
import { lacksRestartBits, samePeerConfig } from '../../../lib/gobgp/compare.js'
import type { BgpNeighborPolicy, BgpPeerConfig, BgpPrefixRange, Gobgp } from '../../../lib/gobgp/types.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import type { BgpAnnouncement, BgpSpeaker } from '../../model/bgp-tables.js'

/** Seconds after a start of the speaker in which the neighbors that are added were there before. */
const restartingMs = 30_000
/** How often it is looked whether they would still hear of it, in that time, ms. */
const restartLookMs = 1_000

export interface SpeakerAccess {
  /** undefined: there is none, and none is wanted. */
  client(): Promise<Gobgp | undefined>
  /** Has this host spoken BGP since it booted? Then its routes still stand while gobgpd starts anew. */
  spoke(): boolean
  /** It speaks from now on, or no more. */
  setSpoke(spoke: boolean): void
  /** Our own AS number. */
  asn(): number
  /** ms of a clock that never jumps. */
  now(): number
}

export interface BgpTables {
  readonly speaker: Table<BgpSpeaker>
  readonly policy: Table<BgpNeighborPolicy>
  readonly path: Table<BgpAnnouncement>
  readonly peer: Table<BgpPeerConfig>
  /** Next hop by prefix of what it took of us, as last known. */
  announced(): ReadonlyMap<string, string>
  /** gobgpd may be another one than before. */
  forget(): void
}

type Each<T> = (op: TableOp<T>, client: Gobgp) => Promise<void>

/** One that does not answer is not asked for each of the rest, 5 s at a time. */
const away = (error: unknown): boolean =>
  hasCode(error, 'GOBGP_UNREACHABLE') || hasCode(error, 'GOBGP_TIMEOUT')

async function oneByOne<T>(ops: readonly TableOp<T>[], client: Gobgp, each: Each<T>): Promise<OpResult[]> {
  const results: OpResult[] = []
  let gone: OpResult
  for (const op of ops) {
    try {
      if (gone === undefined) await each(op, client)
      results.push(gone)
    } catch (error) {
      results.push(asError(error))
      if (away(error)) gone = asError(error)
    }
  }
  return results
}

const objectOf = <T>(op: TableOp<T>): T => (op.verb === 'remove' ? op.observed : op.desired)

/** What there is when nobody has started it: nothing. */
async function orNothing<T>(ask: Promise<readonly T[]>): Promise<readonly T[]> {
  try {
    return await ask
  } catch (error) {
    if (hasCode(error, 'GOBGP_NOT_STARTED')) return []
    throw error
  }
}

/** RFC 4271 §5.1.5: what is not told is 100, nearly everywhere. */
const preferenceOf = ({ localPref = 100 }: BgpAnnouncement): number => localPref

const sameText = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

function rangeText({ prefix, min, max }: BgpPrefixRange): string {
  return `${prefix} ${min}..${max}`
}

function policyText(name: string, ranges: BgpNeighborPolicy['export']): string {
  return `${name} ${typeof ranges === 'string' ? ranges : ranges.map(rangeText).join(', ') || 'nothing'}`
}

export function bgpTables(access: SpeakerAccess): BgpTables {
  let startedAt = Number.NEGATIVE_INFINITY
  let restarting = false
  let policies = new Map<string, BgpNeighborPolicy>()
  let announced = new Map<string, string>()

  const withClient = async <T>(
    ops: readonly TableOp<T>[],
    run: (client: Gobgp) => Promise<readonly OpResult[]>,
  ): Promise<readonly OpResult[]> => {
    const client = await access.client()
    return client === undefined ? ops.map(() => undefined) : run(client)
  }

  async function start(client: Gobgp, speaker: BgpSpeaker): Promise<void> {
    await client.start(speaker)
    startedAt = access.now()
    restarting = access.spoke()
    access.setSpoke(true)
    policies = new Map()
  }

  const speaker: Table<BgpSpeaker> = {
    name: 'bgp-speaker',
    key: () => 'speaker',
    // Whoever has the port may let go of it at any moment.
    brief: error => error.code === 'GOBGP_PORT_TAKEN',
    equal: (desired, observed) =>
      desired.asn === observed.asn &&
      desired.routerId === observed.routerId &&
      desired.listenPort === observed.listenPort &&
      sameText([...desired.listenAddresses].sort(), [...observed.listenAddresses].sort()),
    async observe() {
      const global = await (await access.client())?.global()
      return global === undefined ? [] : [global]
    },
    apply: ops =>
      withClient(ops, client =>
        oneByOne(ops, client, async op => {
          if (op.verb !== 'add') await client.stop()
          if (op.verb === 'remove') access.setSpoke(false)
          else await start(client, op.desired)
        }),
      ),
    format(op) {
      const { asn, routerId, listenPort } = objectOf(op)
      if (op.verb === 'remove') return 'gobgp global del all'
      return `gobgp global as ${asn} router-id ${routerId} listen-port ${listenPort}`
    },
  }

  const policy: Table<BgpNeighborPolicy> = {
    name: 'bgp-policy',
    key: ({ neighbor }) => neighbor,
    equal: sameText,
    observe: async () => [...policies.values()],
    apply: ops =>
      withClient(ops, async client => {
        const next = new Map(policies)
        for (const op of ops) {
          if (op.verb === 'remove') next.delete(op.observed.neighbor)
          else next.set(op.desired.neighbor, op.desired)
        }
        await client.setPolicies([...next.values()])
        policies = next
        return ops.map(() => undefined)
      }),
    format(op) {
      const object = objectOf(op)
      if (op.verb === 'remove') return `# gobgp: nothing more is taken of ${object.neighbor}`
      const farther = object.med === undefined ? '' : `, MED + ${object.med}`
      return `# gobgp: ${object.neighbor}: ${policyText('in', object.import)}${farther}; ${policyText('out', object.export)}`
    },
  }

  const path: Table<BgpAnnouncement> = {
    name: 'bgp-path',
    key: ({ prefix }) => prefix,
    equal: (desired, observed) =>
      desired.nextHop === observed.nextHop && preferenceOf(desired) === preferenceOf(observed),
    async observe() {
      const client = await access.client()
      const found = client === undefined ? [] : await orNothing(client.localPaths())
      announced = new Map(found.map(({ prefix, nextHop }) => [prefix, nextHop]))
      return found.map(({ prefix, nextHop, localPref }) => ({
        prefix,
        nextHop,
        ...(localPref === undefined ? {} : { localPref }),
      }))
    },
    apply: ops =>
      withClient(ops, async client => {
        const results: OpResult[] = ops.map(() => undefined)
        const added = ops.flatMap((op, i) => (op.verb === 'remove' ? [] : [{ i, object: op.desired }]))
        const gone = ops.flatMap((op, i) => (op.verb === 'remove' ? [{ i, object: op.observed }] : []))
        const keep = (list: readonly { i: number }[], told: readonly (WarrenError | undefined)[]): void =>
          list.forEach(({ i }, n) => {
            results[i] = told[n]
          })
        if (gone.length > 0) keep(gone, await client.deletePaths(gone.map(({ object }) => object.prefix)))
        if (added.length > 0) keep(added, await client.addPaths(added.map(({ object }) => object)))
        for (const { i, object } of gone) if (results[i] === undefined) announced.delete(object.prefix)
        for (const { i, object } of added)
          if (results[i] === undefined) announced.set(object.prefix, object.nextHop)
        return results
      }),
    format(op) {
      const { prefix, nextHop, localPref } = objectOf(op)
      const inet6 = prefix.includes(':') ? ' -a ipv6' : ''
      if (op.verb === 'remove') return `gobgp global rib del ${prefix}${inet6}`
      const preference = localPref === undefined ? '' : ` local-pref ${localPref}`
      return `gobgp global rib add ${prefix} nexthop ${nextHop}${preference}${inet6}`
    },
  }

  const isRestarting = (): boolean => restarting && access.now() - startedAt < restartingMs
  const withBit = (config: BgpPeerConfig): BgpPeerConfig => {
    const { gracefulRestart: graceful } = config
    if (graceful === undefined) return config
    return { ...config, gracefulRestart: { ...graceful, restarting: isRestarting() } }
  }
  /** Neighbors that would not hear that we restarted: GoBGP 3.37 forgets it of those that are not there yet. */
  let bitless: ReadonlySet<string> = new Set()
  let lookedAt = Number.NEGATIVE_INFINITY

  const peer: Table<BgpPeerConfig> = {
    name: 'bgp-peer',
    key: ({ address }) => address,
    equal: (desired, observed) =>
      samePeerConfig(observed, desired, access.asn()) && !bitless.has(desired.address),
    dirty: () => isRestarting() && access.now() - lookedAt >= restartLookMs,
    async observe() {
      const client = await access.client()
      const found = client === undefined ? [] : await orNothing(client.peers())
      lookedAt = access.now()
      const forgotten = found.filter(each => lacksRestartBits(each, withBit(each.config)))
      bitless = new Set(forgotten.map(({ config }) => config.address))
      return found.map(({ config }) => config)
    },
    apply: ops =>
      withClient(ops, client =>
        oneByOne(ops, client, async op => {
          if (op.verb === 'remove') return client.deletePeer(op.observed.address)
          if (op.verb === 'change') return void (await client.updatePeer(withBit(op.desired)))
          return client.addPeer(withBit(op.desired))
        }),
      ),
    format(op) {
      const { address, asn, reflectorClient, password } = objectOf(op)
      if (op.verb === 'remove') return `gobgp neighbor del ${address}`
      const client =
        reflectorClient === undefined ? '' : ` route-reflector-client ${reflectorClient.clusterId}`
      const secret = password === undefined ? '' : ' password ...'
      return `gobgp neighbor ${op.verb === 'add' ? 'add' : 'update'} ${address} as ${asn}${client}${secret}`
    },
  }

  return {
    speaker,
    policy,
    path,
    peer,
    announced: () => announced,
    forget() {
      policies = new Map()
      announced = new Map()
    },
  }
}
