// Flows between tenants' ports that their groups would not admit any more; `ip netns exec wrn-fabric conntrack -L -m 0xffffffff`
// shows those that were revoked: marked, which the rules drop. What this table holds is what must change: nothing is wanted of
// it, and all that it observes is "removed". A revoked flow that is admitted again is forgotten, and begins anew.
import { formatDelete, formatMark } from '../../../lib/conntrack/format.js'
import type { AnyFlow, Conntrack } from '../../../lib/conntrack/types.js'
import { hasCode } from '../../../lib/errors.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import { revokedMark } from '../../compute/tenant/fabric-marks.js'
import { isTighter, staleTenantFlows } from '../../compute/tenant/stale-flows.js'
import type { FabricGroup, FabricState, InSpace } from '../../model/fabric.js'

export type TenantFlow = InSpace<AnyFlow>

export interface FabricConntrackOptions {
  /** Undefined: no tenant's network is here, and nobody's flows are looked at. */
  state(): FabricState | undefined
  /** Of the fabric's namespace; undefined: it is not there, and neither are its flows. */
  conntrack(space: string): Conntrack | undefined
}

export interface FabricConntrackTable extends Table<TenantFlow> {
  /** The kernel has taken the rules: flows are looked at when these admit less than those before, or some are revoked. */
  rulesWritten(): void
  /** Something that admitted flows is gone, or came: a member, a port, a port's set of groups. */
  touch(what: 'gone' | 'came'): void
}

const families = ['inet', 'inet6'] as const

function key({ space, object: { protocol, original, icmp, zone, id } }: TenantFlow): string {
  const { src, sport, dst, dport } = original
  return `${space} ${protocol} ${src} ${sport} ${dst} ${dport} ${icmp?.type ?? ''} ${zone} ${id}`
}

export function fabricConntrackTable(options: FabricConntrackOptions): FabricConntrackTable {
  // A restarted agent remembers nothing: it begins with a look.
  let due = true
  /** Flows are revoked, as last seen. */
  let revoked = false
  let judged: ReadonlyMap<string, FabricGroup> | undefined
  /** Keys of what was found and is not deleted yet. */
  const outstanding = new Set<string>()

  return {
    name: 'fabric-conntrack',
    key,
    equal: () => true,
    dirty: () => due && options.state() !== undefined,
    rulesWritten() {
      const groups = options.state()?.groups
      if (groups === undefined || judged === undefined || revoked || isTighter(judged, groups)) due = true
      judged = groups
    },
    touch(what) {
      if (what === 'gone' || revoked) due = true
    },
    async observe(signal) {
      const state = options.state()
      const conntrack = state === undefined ? undefined : options.conntrack(state.space)
      if (state === undefined || conntrack === undefined) {
        due = false
        return []
      }
      const flows: AnyFlow[] = []
      due = false
      try {
        for (const family of families)
          for (const flow of await conntrack.listAll(family, signal)) flows.push(flow)
      } catch (error) {
        due = true
        throw error
      }
      revoked = flows.some(({ mark }) => mark === revokedMark)
      const found = staleTenantFlows(flows, options.state() ?? state).map(object => ({
        space: state.space,
        object,
      }))
      outstanding.clear()
      for (const each of found) outstanding.add(key(each))
      due = found.length > 0
      return found
    },
    async apply(ops, signal) {
      const results: OpResult[] = new Array<OpResult>(ops.length).fill(undefined)
      for (const [revoked, write] of [
        [
          false,
          (conntrack: Conntrack, flows: readonly AnyFlow[]) => conntrack.setMark(flows, revokedMark, signal),
        ],
        [true, (conntrack: Conntrack, flows: readonly AnyFlow[]) => conntrack.delete(flows, signal)],
      ] as const) {
        const indices = [...ops.keys()].filter(
          i => isRevoked(objectOf(ops[i] as TableOp<TenantFlow>)) === revoked,
        )
        // Of one namespace: the fabric's.
        const flows = indices.map(i => objectOf(ops[i] as TableOp<TenantFlow>))
        const conntrack = options.conntrack(flows[0]?.space ?? '')
        if (conntrack === undefined || flows.length === 0) continue
        const answers = await write(
          conntrack,
          flows.map(({ object }) => object),
        )
        // It ended meanwhile, or began anew: by the rules that stand.
        answers.forEach((error, n) => {
          const i = indices[n]
          if (i !== undefined && error !== undefined && !hasCode(error, 'ENOENT')) results[i] = error
        })
      }
      ops.forEach((op, i) => {
        if (results[i] !== undefined) return
        outstanding.delete(key(objectOf(op)))
        if (!isRevoked(objectOf(op))) revoked = true
      })
      if (outstanding.size === 0) due = false
      return results
    },
    format(op) {
      const flow = objectOf(op)
      const { space, object } = flow
      return `ip netns exec ${space} ${isRevoked(flow) ? formatDelete(object) : formatMark(object, revokedMark)}`
    },
  }
}

const isRevoked = ({ object }: TenantFlow): boolean => object.mark === revokedMark

function objectOf(op: TableOp<TenantFlow>): TenantFlow {
  return op.verb === 'remove' ? op.observed : op.desired
}
