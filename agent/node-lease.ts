// Keeps this node's block: found again in the model, else claimed through the store once that is in sync and the name
// is ours; renewed every hour; written again when the store lost it. Never renumbers while the block is ours.
import { createAlarm } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'
import { asError, describeError, hasCode } from '../lib/errors.js'
import type { Kv } from '../lib/kv/kv.js'
import type { Log } from '../lib/log.js'
import { containsPrefix, parsePrefix } from '../lib/net/prefix.js'
import { diffMaps } from '../lib/persistent/map.js'
import { leaseNodeBlocks, renewEveryMs, renewNodeBlocks } from './lease.js'
import type { Cluster } from './model/cluster.js'
import { blockKey } from './model/keys.js'
import type { Problem } from './model/object.js'
import type { Lease } from './model/self.js'
import { clusterOf, type Snapshot } from './model/snapshot.js'
import type { Store } from './store.js'

const retryMs = { first: 250, most: 10_000 }

export interface NodeLeaseOptions {
  readonly kv: Kv
  readonly store: Store
  readonly node: string
  readonly graceMs: number
  readonly clock: Clock
  readonly log: Log
  /** The name is ours: only then something is claimed under it. */
  readonly identityHeld: () => boolean
  readonly onChange: () => void
}

export interface NodeLease {
  current(): Lease | undefined
  problems(): readonly Problem[]
  kick(): void
  run(signal: AbortSignal): Promise<void>
}

function familyOfBlock(block: string): 'ipv4' | 'ipv6' {
  return block.includes(':') ? 'ipv6' : 'ipv4'
}

const insideOf = (cluster: Cluster, block: string): boolean =>
  cluster.spec.podCIDRs.some(cidr => containsPrefix(parsePrefix(cidr), parsePrefix(block)))

/** The blocks of a node inside podCIDRs by its records (`pool/value`) in the model; of several, the one that it uses. */
function recorded(records: Iterable<string>, cluster: Cluster, used: Lease | undefined): Lease {
  const lease: { ipv4?: string; ipv6?: string } = {}
  for (const key of records) {
    const block = key.slice(key.indexOf('/') + 1).replace('-', '/')
    const family = familyOfBlock(block)
    if ((lease[family] === undefined || block === used?.[family]) && insideOf(cluster, block))
      lease[family] = block
  }
  return lease
}

function complete(lease: Lease | undefined, cluster: Cluster): boolean {
  return cluster.spec.podCIDRs.every(cidr => lease?.[familyOfBlock(cidr)] !== undefined)
}

/**
 * What we hold fits the Cluster, and the model does not say otherwise. A model that knows nothing of it yet may only be
 * older than our claim.
 */
function stands(lease: Lease | undefined, snapshot: Snapshot, node: string, cluster: Cluster): boolean {
  const blocks = [lease?.ipv4, lease?.ipv6].filter(block => block !== undefined)
  return (
    blocks.length === cluster.spec.podCIDRs.length &&
    blocks.every(block => {
      const owner = snapshot.allocations.get(blockKey(block))?.owner
      return insideOf(cluster, block) && (owner === undefined || owner === node)
    })
  )
}

export function createNodeLease(options: NodeLeaseOptions): NodeLease {
  const { kv, store, node, clock, log } = options
  let lease: Lease | undefined
  let problem: Problem | undefined
  let again = true
  /** Our records among the allocations, of which there are as many as Services and ports. */
  const records = new Set<string>()
  let seen: Snapshot['allocations'] = new Map()
  const alarm = createAlarm(clock)
  let renewAt = Number.POSITIVE_INFINITY

  function set(next: Lease | undefined): void {
    if (JSON.stringify(next) === JSON.stringify(lease)) return
    lease = next
    log.info('lease', { ipv4: next?.ipv4, ipv6: next?.ipv6 })
    options.onChange()
  }

  function setProblem(next: Problem | undefined): void {
    if (next?.message === problem?.message) return
    problem = next
    if (next !== undefined) log.warn(next.message, { code: next.code, hint: next.hint })
    options.onChange()
  }

  /** Blocks that a person gave us in a Node document: nothing is allocated then. */
  function written(snapshot: Snapshot): Lease | undefined {
    if (store.originOf(`node/${node}`)?.from !== 'file') return undefined
    const blocks = snapshot.nodes.get(node)?.spec.podCIDRs ?? []
    if (blocks.length === 0) return undefined
    return Object.fromEntries(blocks.map(block => [familyOfBlock(block), block]))
  }

  function takeRecords({ allocations }: Snapshot): void {
    diffMaps(seen, allocations, (key, after) => {
      if (!key.startsWith('node-')) return
      if (after?.owner === node) records.add(key)
      else records.delete(key)
    })
    seen = allocations
  }

  async function step(signal: AbortSignal): Promise<void> {
    const snapshot = store.snapshot()
    const cluster = clusterOf(snapshot)
    if (cluster === undefined) return
    const byHand = written(snapshot)
    if (byHand !== undefined) {
      set(byHand)
      return
    }
    takeRecords(snapshot)
    const known = recorded(records, cluster, lease)
    if (complete(known, cluster)) {
      if (!stands(lease, snapshot, node, cluster)) set(known)
      renewAt = Math.min(renewAt, clock.now() + renewEveryMs)
    }
    const inSync = store.sources().every(source => source.inSync)
    if (!inSync || snapshot.partial || !options.identityHeld()) return
    if (complete(known, cluster) && clock.now() < renewAt) return
    if (lease !== undefined && complete(lease, cluster)) {
      try {
        await renewNodeBlocks(kv, node, lease, { signal })
        renewAt = clock.now() + renewEveryMs
        return
      } catch (error) {
        if (!hasCode(error, 'CONFLICT')) throw error
        log.error('our block was given to another node: taking a new one', { reason: describeError(error) })
      }
    }
    const avoid = [...snapshot.nodes.values()]
      .filter(other => other.metadata.name !== node)
      .flatMap(other => other.spec.podCIDRs)
    const { podCIDRs, nodeSubnetLength } = cluster.spec
    const previous =
      lease ??
      Object.fromEntries(
        (snapshot.nodes.get(node)?.spec.podCIDRs ?? []).map(block => [familyOfBlock(block), block]),
      )
    const next = await leaseNodeBlocks(kv, {
      node,
      podCIDRs,
      nodeSubnetLength,
      previous,
      avoid,
      graceMs: options.graceMs,
      signal,
    })
    renewAt = clock.now() + renewEveryMs
    set(next)
  }

  return {
    current: () => lease,
    problems: () => (problem === undefined ? [] : [problem]),
    kick() {
      again = true
      alarm.ring()
    },
    async run(signal) {
      let wait = retryMs.first
      while (!signal.aborted) {
        again = false
        let next = Math.max(0, Math.min(renewAt - clock.now(), 2 ** 31 - 1))
        try {
          await step(signal)
          setProblem(undefined)
          wait = retryMs.first
          next = Math.max(0, Math.min(renewAt - clock.now(), 2 ** 31 - 1))
        } catch (error) {
          if (signal.aborted) return
          const { code, message, hint } = asError(error)
          setProblem({ level: 'error', about: 'lease', code, message, hint })
          next = wait
          wait = Math.min(wait * 2, retryMs.most)
        }
        if (again) continue
        await alarm.wait(next, signal)
      }
    },
  }
}
