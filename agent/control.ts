// Control: what the API and the CLI see and do, put together from the agent's parts.
import { asError, WarrenError } from '../lib/errors.js'
import { createBgpControl } from './api/bgp-control.js'
import type {
  Control,
  DeleteManyResult,
  DeleteResult,
  ObjectWithOrigin,
  PeerStatus,
  PlanResult,
  ShownObject,
  Status,
} from './api/control.js'
import { createInspector } from './api/inspect.js'
import { iptablesProblems, type ProgramFacts } from './api/service-problems.js'
import { createWaits, type Progress } from './api/wait.js'
import { createCompute } from './compute/compute.js'
import { surveyOf } from './compute/overlay/census.js'
import { outerFamily, overlayMtu } from './compute/overlay/overlay.js'
import type { ControlParts } from './control-parts.js'
import type { Stage } from './dataplane/stage.js'
import type { DesiredState, TableName } from './model/desired.js'
import { parseDocuments } from './model/document.js'
import { fullRef } from './model/kinds.js'
import type { Node } from './model/node.js'
import { refOf } from './model/object.js'
import { overlaid } from './model/overlaid.js'
import type { Origin } from './model/snapshot.js'
import { clusterOf, objectsOf, type Snapshot } from './model/snapshot.js'
import {
  applyText,
  deleteRef,
  deleteRefs,
  knownKind,
  namedObject,
  withTenantValues,
  withValues,
} from './model-store.js'
import { createTenantControl } from './tenant-control.js'

function describeOrigin(origin: Origin): string {
  return origin.from === 'file' ? `file ${origin.file}:${origin.line}` : origin.key
}

function peersOf(snapshot: Snapshot, desired: DesiredState | undefined, node: string): PeerStatus[] {
  return [...snapshot.nodes.values()]
    .filter(peer => peer.metadata.name !== node)
    .map(peer => {
      const { name } = peer.metadata
      const programmed = (desired?.route.get(`node/${name}`)?.length ?? 0) > 0
      return {
        name,
        addresses: peer.spec.addresses,
        podCIDRs: peer.spec.podCIDRs,
        state: !programmed
          ? ('refused' as const)
          : snapshot.live.has(name)
            ? ('up' as const)
            : ('silent' as const),
        held: snapshot.held.has(name),
      }
    })
}

export function createControl(parts: ControlParts): Control {
  const { config, store, reconciler, receipts } = parts
  const stages = new Map<TableName, Stage>(reconciler.stages.map(stage => [stage.name, stage]))

  const tenants = createTenantControl(parts)

  const programmed: ProgramFacts = {
    stages: reconciler.stages,
    desired: parts.desired,
    statuses: () => reconciler.tables,
    failureOf: (table, object) => reconciler.failureOf(table, object),
  }
  const inspector = createInspector({
    ...programmed,
    port: tenants.port,
    network: tenants.network,
    node: config.node,
    conntrack: parts.conntrack,
    proxied: parts.proxied,
    snapshot: () => store.snapshot(),
    proxyMode: () => parts.self()?.proxyMode ?? clusterOf(store.snapshot())?.spec.proxyMode,
    peers: () => peersOf(store.snapshot(), parts.desired(), config.node),
    events: () => receipts.list(),
    origin: originText,
  })

  function originText(ref: string): string {
    const origin = store.originOf(ref)
    return origin === undefined ? 'held' : describeOrigin(origin)
  }

  /** The part of the status that says whether all is done: it costs nothing per peer. */
  function progress(): Progress {
    const { revision } = store.snapshot()
    return {
      revision,
      converged: reconciler.converged && parts.applied() >= revision,
      hold: reconciler.lastPass === undefined ? 'waiting for its sources' : reconciler.lastPass.hold,
      tables: reconciler.tables,
      sources: store.sources().map(({ name, inSync, error, since }) => ({
        name,
        inSync,
        since,
        ...(error === undefined ? {} : { error }),
      })),
    }
  }

  function status(): Status {
    const snapshot = store.snapshot()
    const self = parts.self()
    const desired = parts.desired()
    const cluster = clusterOf(snapshot)
    const underlay = self?.host.underlay
    const services = inspector.summary()
    const ownTenants = tenants.summary()
    const others = surveyOf(snapshot.nodes.values(), config.node)
    const mtu =
      cluster === undefined || underlay === undefined
        ? undefined
        : overlayMtu(cluster, others, underlay, outerFamily(others, underlay))
    return {
      node: config.node,
      version: parts.version,
      pid: process.pid,
      startedAt: parts.startedAt.toISOString(),
      roles: config.roles,
      backend: cluster?.spec.backend.type,
      mtu,
      underlay:
        underlay === undefined
          ? undefined
          : {
              interface: underlay.name,
              addresses: underlay.addresses.map(({ address, prefixLength }) => `${address}/${prefixLength}`),
              mtu: underlay.mtu,
            },
      ...progress(),
      appliedRevision: parts.applied(),
      lease: parts.lease.current(),
      peers: peersOf(snapshot, desired, config.node),
      ...(services === undefined ? {} : { services }),
      ...(ownTenants === undefined ? {} : { tenants: ownTenants }),
      problems: [...(desired?.problems ?? snapshot.problems), ...iptablesProblems(programmed)],
      counts: receipts.counts,
      passes: reconciler.passes,
      rss: process.memoryUsage.rss(),
      startup: parts.startup,
    }
  }

  function shown(table: Stage['table'], owner: string | undefined, object: unknown): ShownObject {
    return { key: table.key(object), owner, line: table.format({ verb: 'add', desired: object }), object }
  }

  async function show(
    side: 'desired' | 'observed',
    only: TableName | undefined,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, readonly ShownObject[]>>> {
    if (only !== undefined && !stages.has(only)) {
      throw new WarrenError(`Cannot show table "${only}": there is none of that name`, {
        code: 'NOT_FOUND',
        hint: `tables: ${[...stages.keys()].join(', ')}`,
      })
    }
    const result: Record<string, readonly ShownObject[]> = {}
    for (const [name, { table }] of stages) {
      if (only !== undefined && name !== only) continue
      if (side === 'observed') {
        result[name] = (await reconciler.observe(name, signal)).map(object => shown(table, undefined, object))
      } else {
        const groups = [...(parts.desired()?.[name] ?? new Map<string, readonly unknown[]>())]
        result[name] = groups.flatMap(([owner, group]) => group.map(object => shown(table, owner, object)))
      }
    }
    return result
  }

  /** A node that the store lost. */
  function heldNode(ref: string): Node | undefined {
    const { held, nodes } = store.snapshot()
    const exact = fullRef(ref)
    const name = exact.slice('node/'.length)
    return exact.startsWith('node/') && held.has(name) ? nodes.get(name) : undefined
  }

  function remove(ref: string): Promise<DeleteResult> {
    return deleteRef(parts.kv, ref, { handWritten: store.handWritten(), held: heldNode(ref) })
  }

  async function removeMany(refs: readonly string[]): Promise<DeleteManyResult> {
    // Held nodes are put back first, each by itself.
    if (!refs.some(ref => heldNode(ref) !== undefined))
      return deleteRefs(parts.kv, refs, { handWritten: store.handWritten() })
    const results: DeleteManyResult['results'][number][] = []
    for (const ref of refs) {
      const result = await remove(ref).catch((error: unknown): DeleteResult => {
        const { code, message, hint } = asError(error)
        return {
          revision: 0,
          deleted: false,
          problems: [{ level: 'error', about: ref, code, message, hint }],
        }
      })
      results.push({ ref, ...result })
    }
    return { revision: Math.max(0, ...results.map(({ revision }) => revision)), results }
  }

  async function plan(text: string | undefined, file: string, signal: AbortSignal): Promise<PlanResult> {
    const self = parts.self()
    if (self === undefined)
      throw new WarrenError('Cannot plan: not every source has been in sync yet', {
        code: 'UNAVAILABLE',
        hint: 'warren status names them',
      })
    const parsed =
      text === undefined ? { objects: [], problems: [] } : parseDocuments(text, { file, strict: true })
    const snapshot = overlaid(
      store.snapshot(),
      parsed.objects.map(({ object }) => object),
    )
    const desired = createCompute()(snapshot, self)
    const problems = [...parsed.problems, ...desired.problems]
    if (desired.hold !== undefined) return { ops: [], problems, hold: desired.hold }
    return { ops: await reconciler.plan(desired, signal), problems, hold: undefined }
  }

  const waits = createWaits({ progress, status, onPass: parts.onPass, subscribe: store.subscribe })

  return {
    status,
    ready: () => reconciler.lastPass !== undefined && reconciler.lastPass.hold === undefined,
    async get(kind, name) {
      const info = knownKind(kind)
      const snapshot = store.snapshot()
      const shown = [...objectsOf(snapshot, info.kind).values()]
        .map((object): ObjectWithOrigin => ({ object, origin: originText(refOf(object)) }))
        .sort((left, right) => (refOf(left.object) < refOf(right.object) ? -1 : 1))
      const found = name === undefined ? shown : [namedObject(shown, info, name)]
      if (info.kind === 'Network') return withTenantValues(found, snapshot)
      if (info.kind === 'Port') return tenants.withStatus(withTenantValues(found, snapshot))
      if (info.kind !== 'Service') return found
      return withValues(
        found,
        [...snapshot.allocations].map(([key, { owner }]) => [key, owner] as const),
      )
    },
    ...createBgpControl(parts),
    services: inspector.services,
    describe: inspector.describe,
    apply: (text, file) => waits.noted(applyText(parts.kv, text, file, { handWritten: store.handWritten() })),
    delete: ref => waits.noted(remove(ref)),
    deleteMany: refs => waits.noted(removeMany(refs)),
    plan,
    show,
    events: after => receipts.list(after),
    follow: (listener, signal) => receipts.subscribe(listener, signal),
    wait: waits.wait,
  }
}
