// Makes gobgpd's policies the wanted ones: asks for what is there, writes the difference, wider before narrower, and has
// the paths of the neighbors concerned looked at again. Their addresses stand in a set of their own meanwhile
// (wrn-pending-in, wrn-pending-out): whoever comes after us, had we died in between, finishes it.
import { hasCode } from '../errors.js'
import {
  accepts,
  addressOfHost,
  anything,
  covers,
  type Direction,
  desiredPolicies,
  emptyObjects,
  hostPrefix,
  mark,
  type PolicyObjects,
  type PolicyStatement,
  rangeText,
  sameSet,
  sameStatement,
  treats,
} from './policy.js'
import {
  accept,
  both,
  directions,
  localRoute,
  medAdded,
  neighborType,
  pendingName,
  policyName,
  policyWriter,
  prefixType,
  reject,
} from './policy-writer.js'
import type { Transport } from './transport.js'
import type { BgpNeighborPolicy, BgpPolicyChange } from './types.js'
import type { WireDefinedSet, WireStatement } from './wire-types.js'

interface Observed extends PolicyObjects {
  readonly assigned: Readonly<Record<Direction, boolean>>
  /** Statements of no policy are in the way of new ones of that name. */
  readonly known: ReadonlySet<string>
  readonly pending: Readonly<Record<Direction, ReadonlySet<string>>>
}

export async function applyPolicies(
  transport: Transport,
  policies: readonly BgpNeighborPolicy[],
  limits: { readonly ms: number; readonly listMs: number },
): Promise<BgpPolicyChange> {
  const { ms, listMs } = limits
  const wanted = desiredPolicies(policies)
  const found = await observe(transport, ms)
  const write = policyWriter(transport, ms)
  const affected = { in: concerned(found, wanted, 'in'), out: concerned(found, wanted, 'out') }
  const everybody = both.some(direction => !found.assigned[direction])
  const peers =
    everybody || affected.in.size + affected.out.size > 0 ? await peerAddresses(transport, ms) : []
  for (const direction of both) {
    if (!found.assigned[direction]) for (const address of peers) affected[direction].add(address)
    const pending = [...affected[direction]]
      .map(hostPrefix)
      .filter(host => !found.pending[direction].has(host))
    if (pending.length > 0) await write.add(neighborType, pendingName(direction), pending)
  }

  for (const [name, ranges] of wanted.prefixSets)
    await write.addMissing(prefixType, name, ranges, found.prefixSets.get(name))
  for (const [name, hosts] of wanted.neighborSets)
    await write.addMissing(neighborType, name, hosts, found.neighborSets.get(name))
  for (const direction of both) {
    const had = found.statements[direction]
    const want = wanted.statements[direction]
    const wrong = [...had.values()].filter(
      ({ name }) => want.has(name) && !sameStatement(had.get(name), want.get(name)!),
    )
    await write.dropStatements(
      direction,
      wrong.map(({ name }) => name),
    )
    const missing = [...want.values()].filter(
      ({ name }) => !had.has(name) || wrong.some(w => w.name === name),
    )
    for (const { name } of missing) if (found.known.has(name) && !had.has(name)) await write.forget(name)
    if (missing.length > 0 || !found.assigned[direction]) await write.addStatements(direction, missing)
    if (!found.assigned[direction]) await write.assign(direction)
  }

  for (const direction of both) {
    const want = wanted.statements[direction]
    await write.dropStatements(
      direction,
      [...found.statements[direction].keys()].filter(name => !want.has(name)),
    )
  }
  for (const [name, ranges] of found.prefixSets)
    await write.dropExtra(prefixType, name, ranges, wanted.prefixSets.get(name))
  for (const [name, hosts] of found.neighborSets)
    await write.dropExtra(neighborType, name, hosts, wanted.neighborSets.get(name))

  const there = new Set(peers)
  for (const direction of both) {
    for (const address of affected[direction])
      if (there.has(address)) await softReset(transport, address, direction, listMs)
    if (affected[direction].size > 0) await write.remove(neighborType, pendingName(direction))
  }
  const present = (addresses: Iterable<string>): string[] => [...new Set(addresses)].filter(a => there.has(a))
  return {
    writes: write.count(),
    reset: present([...affected.in, ...affected.out]),
    narrowed: present(
      everybody
        ? narrowed(emptyObjects, wanted, affected.out)
        : narrowed(
            found,
            wanted,
            [...affected.out].filter(address => accepts(found, 'out').has(address)),
          ),
    ),
  }
}

/** Neighbors whose paths are accepted or changed otherwise than before, and those that were left pending. */
function concerned(found: Observed, wanted: PolicyObjects, direction: Direction): Set<string> {
  const [before, after] = [treats(found, direction), treats(wanted, direction)]
  const addresses = new Set([...found.pending[direction]].map(addressOfHost))
  const none: ReadonlySet<string> = new Set()
  for (const address of new Set([...before.keys(), ...after.keys()]))
    if (!sameSet(before.get(address) ?? none, after.get(address) ?? none)) addresses.add(address)
  return addresses
}

function narrowed(before: PolicyObjects, after: PolicyObjects, addresses: Iterable<string>): string[] {
  const [had, has] = [accepts(before, 'out'), accepts(after, 'out')]
  const none: ReadonlySet<string> = new Set()
  // No set of ours before: nothing was refused.
  return [...addresses].filter(
    address => !covers(has.get(address) ?? none, had.get(address) ?? new Set([anything])),
  )
}

async function observe(transport: Transport, ms: number): Promise<Observed> {
  const sets = async (definedType: number): Promise<WireDefinedSet[]> => {
    const list = await transport.list(
      'ListDefinedSet',
      ['ListDefinedSetRequest', { definedType, name: '' }],
      (bytes, wire) => wire.decode('ListDefinedSetResponse', bytes).definedSet,
      { what: 'list defined sets', ms },
    )
    return list.filter((set): set is WireDefinedSet => set?.name.startsWith(mark) === true)
  }
  const policies = await transport.list(
    'ListPolicy',
    ['ListPolicyRequest', { name: '' }],
    (bytes, wire) => wire.decode('ListPolicyResponse', bytes).policy,
    { what: 'list policies', ms },
  )
  const statements = await transport.list(
    'ListStatement',
    ['ListStatementRequest', { name: '' }],
    (bytes, wire) => wire.decode('ListStatementResponse', bytes).statement?.name ?? '',
    { what: 'list statements', ms },
  )
  const assigned = async (direction: Direction): Promise<boolean> => {
    const list = await transport.list(
      'ListPolicyAssignment',
      ['ListPolicyAssignmentRequest', { name: 'global', direction: directions[direction] }],
      (bytes, wire) => {
        const { assignment } = wire.decode('ListPolicyAssignmentResponse', bytes)
        return (
          assignment !== null &&
          assignment.defaultAction === reject &&
          assignment.policies.length === 1 &&
          assignment.policies[0]?.name === policyName(direction)
        )
      },
      { what: 'list policy assignments', ms },
    )
    return list.some(fits => fits)
  }
  const neighborSets = new Map((await sets(neighborType)).map(({ name, list }) => [name, new Set(list)]))
  const pending = (direction: Direction): ReadonlySet<string> => {
    const hosts = neighborSets.get(pendingName(direction)) ?? new Set<string>()
    neighborSets.delete(pendingName(direction))
    return hosts
  }
  const statementsOf = (direction: Direction): ReadonlyMap<string, PolicyStatement> => {
    const policy = policies.find(policy => policy?.name === policyName(direction))
    return new Map(policy?.statements.map(statement => [statement.name, readStatement(statement)]))
  }
  return {
    pending: { in: pending('in'), out: pending('out') },
    neighborSets,
    prefixSets: new Map(
      (await sets(prefixType)).map(({ name, prefixes }) => [
        name,
        new Set(prefixes.map(p => rangeText(p.ipPrefix, p.maskLengthMin, p.maskLengthMax))),
      ]),
    ),
    statements: { in: statementsOf('in'), out: statementsOf('out') },
    known: new Set(statements),
    assigned: { in: await assigned('in'), out: await assigned('out') },
  }
}

function readStatement({ name, conditions, actions }: WireStatement): PolicyStatement {
  return {
    // A statement that does not accept is none of ours, whatever it is called.
    name,
    ...(actions?.routeAction === accept ? {} : { prefixSet: '(does not accept)' }),
    ...(conditions?.prefixSet ? { prefixSet: conditions.prefixSet.name } : {}),
    ...(conditions?.neighborSet ? { neighborSet: conditions.neighborSet.name } : {}),
    ...(conditions?.routeType === localRoute ? { local: true as const } : {}),
    ...(actions?.med ? { med: actions.med.type === medAdded ? actions.med.value : -1 } : {}),
  }
}

async function peerAddresses(transport: Transport, ms: number): Promise<string[]> {
  return transport.list(
    'ListPeer',
    ['ListPeerRequest', {}],
    (bytes, wire) => wire.decode('ListPeerResponse', bytes).peer?.conf?.neighborAddress ?? '',
    { what: 'list peers', ms },
  )
}

async function softReset(
  transport: Transport,
  address: string,
  direction: Direction,
  ms: number,
): Promise<void> {
  try {
    await transport.call(
      'ResetPeer',
      ['ResetPeerRequest', { address, soft: true, direction: direction === 'in' ? 0 : 1 }],
      'Empty',
      { what: `look again at the paths of peer "${address}"`, ms },
    )
  } catch (error) {
    if (!hasCode(error, 'GOBGP_NOT_FOUND')) throw error
  }
}
