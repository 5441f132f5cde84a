// What a write of tenants' objects would break: values that others have, names that nobody has, quotas.
// The decision about values is that of the agents' allocator (tenant-plan.ts), but that a standing object wins over one that is
// written now. Pure.
import { containsAddress } from '../../lib/net/prefix.js'
import type { Cluster } from './cluster.js'
import { portAddressKey } from './keys.js'
import type { ModelObject, TenantObject } from './kinds.js'
import type { Network } from './network.js'
import { type Problem, refOf } from './object.js'
import type { Port } from './port.js'
import { routedFault, routedNetworks } from './routed.js'
import type { Router } from './router.js'
import { namedNetworks, routerNetworks } from './router-networks.js'
import { defaultGroup, type SecurityGroup } from './security-group.js'
import { type Allocation, clusterInForce } from './snapshot.js'
import { some } from './some.js'
import { inTenant, type Tenant, tenantName } from './tenant.js'
import { createTenantAssignments, type TenantAssignments } from './tenant-assignments.js'
import { addressSpace, subnetsOf, tenantProblem, tenantValue, vniFault, vniRange } from './tenant-claims.js'
import { isTenantObject, tenantKinds } from './tenant-in-use.js'
import { isTaken, recordConflicts, takenBy } from './tenant-taken.js'

export interface TenantWrite {
  /** What is to be written. */
  readonly objects: readonly ModelObject[]
  /** References of what stands before the write. */
  readonly before: ReadonlySet<string>
  /** The model after it. */
  readonly after: readonly ModelObject[]
  /** The allocator's records, by `pool/value`. */
  readonly allocations: ReadonlyMap<string, Allocation>
}

const quotaOf = {
  Network: 'networks',
  Router: 'routers',
  Port: 'ports',
  SecurityGroup: 'securityGroups',
} as const satisfies Readonly<Record<TenantObject['kind'], keyof Tenant['spec']['quotas']>>

function mapOf<T extends TenantObject>(all: readonly ModelObject[], kind: T['kind']): ReadonlyMap<string, T> {
  return new Map(
    all.flatMap(object => (object.kind === kind ? [[tenantName(object as T), object as T]] : [])),
  )
}

class Book {
  readonly tenants: ReadonlyMap<string, Tenant>
  readonly networks: ReadonlyMap<string, Network>
  readonly routers: ReadonlyMap<string, Router>
  readonly ports: ReadonlyMap<string, Port>
  readonly groups: ReadonlyMap<string, SecurityGroup>
  readonly cluster: Cluster | undefined
  readonly assignments: TenantAssignments
  readonly written: ReadonlySet<string>
  readonly write: TenantWrite

  constructor(write: TenantWrite) {
    const { after, objects, allocations } = write
    this.write = write
    this.tenants = new Map(
      after.flatMap(each => (each.kind === 'Tenant' ? [[each.metadata.name, each]] : [])),
    )
    this.networks = mapOf(after, 'Network')
    this.routers = mapOf(after, 'Router')
    this.ports = mapOf(after, 'Port')
    this.groups = mapOf(after, 'SecurityGroup')
    this.cluster = clusterInForce(after.filter(each => each.kind === 'Cluster'))
    this.written = new Set(objects.map(refOf))
    this.assignments = createTenantAssignments()
    const clusters = new Map(this.cluster === undefined ? [] : [['default', this.cluster]])
    this.assignments.update({ networks: this.networks, ports: this.ports, allocations, clusters })
  }

  /** Those that stand first, then the written ones in their order: who comes first keeps what two ask for. */
  inOrder<T extends TenantObject>(map: ReadonlyMap<string, T>): readonly T[] {
    const late = new Map(this.write.objects.map((object, i) => [refOf(object), i + 1]))
    return [...map.values()].sort((a, b) => (late.get(refOf(a)) ?? 0) - (late.get(refOf(b)) ?? 0))
  }

  /** A written object that wants what another has. */
  clashes<T extends TenantObject>(
    map: ReadonlyMap<string, T>,
    wants: (object: T) => readonly string[],
    fault: (object: T, key: string, holder: string) => Problem,
  ): readonly Problem[] {
    const holders = new Map<string, string>()
    const found: Problem[] = []
    for (const object of this.inOrder(map)) {
      const ref = refOf(object)
      for (const key of wants(object)) {
        const holder = holders.get(key)
        if (holder === undefined) holders.set(key, ref)
        else if (holder !== ref && this.written.has(ref)) found.push(fault(object, key, holder))
      }
    }
    return found
  }
}

function ownerProblems(book: Book): readonly Problem[] {
  const found: Problem[] = []
  for (const object of book.write.objects) {
    if (!isTenantObject(object)) continue
    const { tenant } = object.metadata
    if (!book.tenants.has(tenant))
      found.push(
        tenantProblem(object, 'TENANT', `there is no tenant/${tenant}`, `apply a Tenant "${tenant}" with it`),
      )
  }
  for (const [name, { spec }] of book.tenants)
    for (const kind of tenantKinds) {
      const most = spec.quotas[quotaOf[kind]]
      if (most === undefined) continue
      const all = book.write.after.filter(each => each.kind === kind && each.metadata.tenant === name)
      const fresh = all.filter(each => !book.write.before.has(refOf(each)))
      const [last] = fresh.slice(-1)
      if (all.length <= most || last === undefined) continue
      const reason = `tenant/${name} may have ${most} ${quotaOf[kind]}, and this makes ${all.length}`
      found.push(tenantProblem(last, 'QUOTA', reason, 'delete some, or a larger quota in the Tenant'))
    }
  return found
}

/** Values of networks and ports: those that cannot be, and those that somebody has or asks for. */
function valueProblems(book: Book): readonly Problem[] {
  const { assignments, write } = book
  const found: Problem[] = []
  const recorded = new Set<string>()
  for (const object of write.objects) {
    if (object.kind !== 'Network' && object.kind !== 'Port') continue
    found.push(...assignments.plan(refOf(object)).problems.filter(problem => !isTaken(problem)))
    for (const [key, problem] of recordConflicts(object, assignments, write.allocations)) {
      recorded.add(`${refOf(object)} ${key}`)
      found.push(problem)
    }
  }
  const given = (object: Network | Port): readonly string[] =>
    assignments.givenOf(refOf(object)).filter(key => !recorded.has(`${refOf(object)} ${key}`))
  return [
    ...found,
    ...book.clashes(book.networks, given, takenBy),
    ...book.clashes(book.ports, given, takenBy),
  ]
}

/** Two ports cannot have one link of a host. */
function deviceProblems(book: Book): readonly Problem[] {
  const wants = ({ spec: { node, device } }: Port): readonly string[] => {
    if (node === undefined || device === undefined) return []
    return device.kind === 'tap'
      ? [`tap ${device.name} of node/${node}`]
      : [`link ${device.name} in namespace ${device.netns} of node/${node}`]
  }
  return book.clashes(book.ports, wants, (port, key, holder) =>
    tenantProblem(
      port,
      'DEVICE_TAKEN',
      `${key} is the device of ${holder}`,
      'give one of the two another device',
    ),
  )
}

/** Names that nobody has. */
function nameProblems(book: Book): readonly Problem[] {
  const found: Problem[] = []
  const group = (object: Port | SecurityGroup, field: string, name: string): void => {
    const full = inTenant(object.metadata.tenant, name)
    if (name === defaultGroup || book.groups.has(full)) return
    const reason = `${field} names securitygroup/${full}, which is not there`
    found.push(tenantProblem(object, 'GROUP', reason, 'apply the SecurityGroup, or correct the name'))
  }
  for (const object of book.write.objects) {
    if (object.kind === 'Port')
      for (const name of object.spec.securityGroups ?? []) group(object, 'securityGroups', name)
    if (object.kind === 'SecurityGroup')
      object.spec.rules.forEach(({ remoteGroup }, i) => {
        if (remoteGroup !== undefined) group(object, `rules[${i}].remoteGroup`, remoteGroup)
      })
  }
  return found
}

/** Routers that are written, or whose networks are. */
function routerProblems(book: Book): readonly Problem[] {
  const holders = new Map<string, string>()
  for (const router of book.inOrder(book.routers))
    for (const network of namedNetworks(router))
      if (!holders.has(network)) holders.set(network, tenantName(router))
  return [...book.routers.values()].flatMap(router => {
    const touched =
      book.written.has(refOf(router)) ||
      namedNetworks(router).some(network => book.written.has(`network/${network}`))
    return touched ? routerNetworks(router, book.networks, network => holders.get(network)).problems : []
  })
}

/** What the ports of a network that is written lose by it. */
function networkProblems(book: Book): readonly Problem[] {
  const found: Problem[] = []
  for (const network of book.write.objects) {
    if (network.kind !== 'Network') continue
    const name = tenantName(network)
    const subnets = subnetsOf(network)
    const stranded: string[] = []
    const foreign: string[] = []
    for (const port of book.assignments.portsOf(name)) {
      const ref = `port/${port}`
      if (book.ports.get(port)?.metadata.tenant !== network.metadata.tenant && !network.spec.shared)
        foreign.push(ref)
      if (book.written.has(ref)) continue
      for (const key of book.assignments.recordsOf(ref).keys()) {
        if (!key.startsWith(portAddressKey(addressSpace(network), ''))) continue
        const address = tenantValue(key)
        if (!subnets.some(({ cidr, gateway }) => containsAddress(cidr, address) && address !== gateway))
          stranded.push(`${ref} (${address})`)
      }
    }
    if (stranded.length > 0)
      found.push(
        tenantProblem(
          network,
          'SUBNET_IN_USE',
          `its subnets leave out, or have as gateways, addresses of ${some(stranded.sort())}`,
          'delete those ports first, or add a subnet beside the old one',
        ),
      )
    if (foreign.length > 0)
      found.push(
        tenantProblem(
          network,
          'NETWORK',
          `it is not shared, and ports of other tenants are on it: ${some(foreign.sort())}`,
          'delete those ports first, or write shared: true',
        ),
      )
  }
  return found
}

/** Routed networks, where one or what they depend on is written. */
function routedProblems(book: Book): readonly Problem[] {
  const { networks, cluster } = book
  const nodes = book.write.after.filter(each => each.kind === 'Node')
  const all = cluster !== undefined && book.written.has(refOf(cluster))
  const standsFirst = (network: Network) => (other: Network) =>
    !book.written.has(refOf(other)) || refOf(other) < refOf(network)
  return routedNetworks(networks).flatMap(network => {
    if (!all && !book.written.has(refOf(network))) return []
    const fault = routedFault(network, { networks, cluster, nodes }, standsFirst(network))
    return fault === undefined ? [] : [tenantProblem(network, fault.code, fault.reason, fault.hint)]
  })
}

/** A Cluster that is written, and the VNIs that tenants have. */
function clusterProblems(book: Book): readonly Problem[] {
  const { cluster } = book
  if (cluster === undefined || !book.written.has(refOf(cluster))) return []
  const range = vniRange(cluster)
  const outside: string[] = []
  const found: Problem[] = []
  for (const [key, { owner }] of book.write.allocations) {
    if (!key.startsWith('vni/')) continue
    const vni = Number(tenantValue(key))
    if (vniFault(vni, range) === undefined) continue
    if (vni !== range.overlay) outside.push(`${owner} (${vni})`)
    else {
      const hint = 'take another vni for the overlay, or delete that network'
      found.push(tenantProblem(cluster, 'VNI_TAKEN', `backend.vni ${vni} is taken: ${owner} has it`, hint))
    }
  }
  if (outside.length > 0) {
    const reason = `vniRange ${range.text} leaves out VNIs of ${some(outside.sort())}`
    const hint = 'they keep them; delete and apply them for new ones'
    found.push(tenantProblem(cluster, 'VNI_RANGE', reason, hint, 'warning'))
  }
  return found
}

/** Errors forbid the whole write; nothing is looked at where it has nothing of tenants. */
export function tenantProblems(write: TenantWrite): readonly Problem[] {
  const concerns = write.objects.some(
    object => isTenantObject(object) || ['Tenant', 'Cluster'].includes(object.kind),
  )
  if (!concerns) return []
  const book = new Book(write)
  return [
    ...ownerProblems(book),
    ...valueProblems(book),
    ...deviceProblems(book),
    ...nameProblems(book),
    ...routerProblems(book),
    ...networkProblems(book),
    ...routedProblems(book),
    ...clusterProblems(book),
  ]
}
