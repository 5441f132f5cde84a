// How a Port of this host fares, from what is wanted of it and what the mirrors know: the words of Neutron (ACTIVE, DOWN,
// BUILD), and why. Pure. The order of the checks is that of what a person would ask first.
import type { DesiredState, TableName } from './model/desired.js'
import type { FabricState } from './model/fabric.js'
import type { Port } from './model/port.js'
import { tenantName } from './model/tenant.js'

export type PortState = 'ACTIVE' | 'DOWN' | 'BUILD'

/** As the host that has it sees it. */
export interface PortStatus {
  readonly state: PortState
  /** Of an error, or one of UNBOUND, NO_ROLE, ADMIN_DOWN, NO_DEVICE, STARTING, HOLD, VALUES, WRITING; ACTIVE has none. */
  readonly code?: string
  readonly reason?: string
  readonly hint?: string
}

/** What went wrong with an object of ours, in the words of an error. */
export interface Trouble {
  readonly code: string
  readonly message: string
  readonly hint?: string | undefined
}

export interface PortFacts {
  readonly node: string
  /** This host has the fabric's role. */
  readonly fabric: boolean
  readonly desired: DesiredState | undefined
  /** Why the object could not be written, if that is so; by the table's name and the object itself. */
  failureOf(table: TableName, object: unknown): Trouble | undefined
  /** Is it there as it is wanted, as last known? */
  stands(table: TableName, object: unknown): boolean
  /** All that is wanted of the table stands: nothing has to be asked of its objects. */
  complete(table: TableName): boolean
}

const state = (word: PortState, code: string, reason: string, hint?: string): PortStatus => ({
  state: word,
  code,
  reason,
  ...(hint === undefined ? {} : { hint }),
})

/** What has to stand for a port, in the order of writes: what fails first is why the rest does. */
const tables = [
  'netns',
  'fabric-filter',
  'fabric-element',
  'fabric-link',
  'fabric-sysctl',
  'fabric-neighbor',
  'fabric-fdb',
  'guest',
] as const satisfies readonly TableName[]

function groupOf(desired: DesiredState, table: TableName, owner: string): readonly unknown[] {
  return (desired[table] as ReadonlyMap<string, readonly unknown[]>).get(owner) ?? []
}

/** Undefined: it is on another host, whose agent knows. */
export function portStatus(port: Port, facts: PortFacts): PortStatus | undefined {
  const { node, device, adminState } = port.spec
  const { desired } = facts
  const name = tenantName(port)
  const ref = `port/${name}`
  if (node === undefined)
    return state('DOWN', 'UNBOUND', 'it is on no host', `warren port attach ${name} ...`)
  if (node !== facts.node) return undefined
  if (!facts.fabric)
    return state('DOWN', 'NO_ROLE', `host "${node}" has no role fabric`, 'roles: [fabric] in warrend.yaml')
  if (adminState === 'down') return state('DOWN', 'ADMIN_DOWN', 'adminState is down')
  if (device === undefined)
    return state('DOWN', 'NO_DEVICE', 'nothing is plugged into it', `warren port attach ${name} ...`)
  if (desired === undefined) return state('BUILD', 'STARTING', 'warrend is still reading the model')
  if (desired.hold !== undefined) return state('BUILD', 'HOLD', desired.hold)
  const problem = desired.problems.find(({ about, level }) => about === ref && level === 'error')
  const here = desired.fabric?.ports.get(name)
  if (here === undefined) {
    if (problem !== undefined) return state('DOWN', problem.code, problem.message, problem.hint)
    return state('BUILD', 'VALUES', 'its MAC, addresses or VNI are not allocated yet')
  }
  return objectsStatus(ref, here.network, desired.fabric, desired, facts)
}

function objectsStatus(
  ref: string,
  network: string,
  fabric: FabricState | undefined,
  desired: DesiredState,
  facts: PortFacts,
): PortStatus {
  const router = fabric?.networks.get(network)?.router
  const gateway = router === undefined ? undefined : fabric?.routers.get(router)?.netns
  const owners = [
    ...(gateway === undefined ? [] : [`space/${gateway}`]),
    'fabric/base',
    `network/${network}`,
    ref,
  ]
  let missing: string | undefined
  for (const table of tables) {
    if (facts.complete(table)) continue
    for (const owner of owners)
      for (const object of groupOf(desired, table, owner)) {
        const trouble = facts.failureOf(table, object)
        if (trouble !== undefined) return state('DOWN', trouble.code, trouble.message, trouble.hint)
        if (!facts.stands(table, object)) missing ??= `table ${table} is being written`
      }
  }
  return missing === undefined ? { state: 'ACTIVE' } : state('BUILD', 'WRITING', missing)
}
