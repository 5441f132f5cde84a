// From what the sources say to what this host shall have: the last self, the last desired state, and when to hold still.
import type { Compute } from './compute/compute.js'
import type { Config } from './config.js'
import type { BgpFacts } from './model/bgp-facts.js'
import type { DesiredState } from './model/desired.js'
import type { Names } from './model/marks.js'
import type { Node } from './model/node.js'
import type { Problem } from './model/object.js'
import type { HostFacts, Lease, Self } from './model/self.js'
import type { Store } from './store.js'

export interface LookParts {
  readonly config: Config
  readonly names: Names
  readonly store: Store
  readonly compute: Compute
  /** Undefined until the first look at the host. */
  host(): HostFacts | undefined
  lease(): Lease | undefined
  readonly bgp: { facts(): BgpFacts | undefined; ready(): boolean }
  /** The name is known to be ours. */
  identityHeld(): boolean
  /** Of the agent's own parts. */
  problems(): readonly Problem[]
  /** Our record in the store is another one than at the last look. */
  onRecord(): void
  /** Every source has said something. */
  onReady(): void
}

export interface Look {
  /** Undefined: something that it depends on is not known yet. */
  look(): DesiredState | undefined
  self(): Self | undefined
  desired(): DesiredState | undefined
  /** Of the model that `desired` was made of. */
  revision(): number
  /** Our record as the store has it; undefined when it has none, or lost it. */
  ownRecord(): Node | undefined
}

export function createLook(parts: LookParts): Look {
  const { config, names, store } = parts
  let desired: DesiredState | undefined
  let self: Self | undefined
  let revision = 0
  let published: Node | undefined

  function ownRecord(): Node | undefined {
    const snapshot = store.snapshot()
    return snapshot.held.has(config.node) ? undefined : snapshot.nodes.get(config.node)
  }

  function selfOf(host: HostFacts): Self {
    return {
      node: config.node,
      names,
      ownBridge: config.podBridge !== undefined,
      roles: config.roles,
      subnetFile: config.subnetFile === 'none' ? '' : config.subnetFile,
      exclusiveVxlan: config.underlay?.exclusiveVXLAN === true,
      proxyMode: config.proxyMode,
      host,
      lease: parts.lease(),
      labels: config.labels,
      bgp: parts.bgp.facts(),
    }
  }

  /**
   * Until the name is known to be ours nothing is published under it; a record written by hand is not ours to write.
   * What the store has of it stays as it is: an operation to keep it would not be "nothing written" after a restart.
   */
  function recordOf(state: DesiredState, own: Node | undefined): DesiredState['record'] {
    const name = `node/${config.node}`
    if (parts.identityHeld() && store.originOf(name)?.from !== 'file') return state.record
    return new Map(own === undefined ? [] : [[name, [own]]])
  }

  function look(): DesiredState | undefined {
    const facts = parts.host()
    if (facts === undefined || !store.ready() || !parts.bgp.ready()) return undefined
    parts.onReady()
    const snapshot = store.snapshot()
    const own = ownRecord()
    if (own !== published) {
      published = own
      parts.onRecord()
    }
    self = selfOf(facts)
    const state = parts.compute(snapshot, self)
    revision = snapshot.revision
    desired = { ...state, record: recordOf(state, own), problems: [...state.problems, ...parts.problems()] }
    return desired
  }

  return { look, self: () => self, desired: () => desired, revision: () => revision, ownRecord }
}
