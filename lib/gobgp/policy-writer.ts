// gobgpd's calls that change sets, statements and policies; counts them.
import { type Direction, mark, type PolicyStatement, readRange, sameSet } from './policy.js'
import type { Transport } from './transport.js'
import type { Draft, WireDefinedSet, WireStatement } from './wire-types.js'

export const prefixType = 0
export const neighborType = 1
export const localRoute = 3
export const accept = 1
export const reject = 2
export const medAdded = 0
export const directions = { in: 1, out: 2 } as const
export const both: readonly Direction[] = ['in', 'out']
export const policyName = (direction: Direction): string => `${mark}${direction}`
export const pendingName = (direction: Direction): string => `${mark}pending-${direction}`

const wireStatement = ({
  name,
  prefixSet,
  neighborSet,
  local,
  med,
}: PolicyStatement): Draft<WireStatement> => ({
  name,
  conditions: {
    ...(prefixSet === undefined ? {} : { prefixSet: { type: 0, name: prefixSet } }),
    ...(neighborSet === undefined ? {} : { neighborSet: { type: 0, name: neighborSet } }),
    ...(local === undefined ? {} : { routeType: localRoute }),
  },
  actions: { routeAction: accept, ...(med === undefined ? {} : { med: { type: medAdded, value: med } }) },
})

export function policyWriter(transport: Transport, ms: number) {
  let writes = 0
  const definedSet = (type: number, name: string, items: readonly string[]): Draft<WireDefinedSet> =>
    type === neighborType
      ? { definedType: type, name, list: items }
      : {
          definedType: type,
          name,
          prefixes: items.map(readRange).map(({ prefix, min, max }) => ({
            ipPrefix: prefix,
            maskLengthMin: min,
            maskLengthMax: max,
          })),
        }
  const options = (what: string): { what: string; ms: number } => {
    writes++
    return { what, ms }
  }
  const add = async (type: number, name: string, items: readonly string[]): Promise<void> => {
    await transport.call(
      'AddDefinedSet',
      ['AddDefinedSetRequest', { definedSet: definedSet(type, name, items) }],
      'Empty',
      options(`add to the set "${name}"`),
    )
  }
  /** Without `items` the whole set. */
  const remove = async (type: number, name: string, items?: readonly string[]): Promise<void> => {
    await transport.call(
      'DeleteDefinedSet',
      [
        'DeleteDefinedSetRequest',
        { definedSet: definedSet(type, name, items ?? []), all: items === undefined },
      ],
      'Empty',
      options(`take from the set "${name}"`),
    )
  }
  const forget = async (name: string): Promise<void> => {
    await transport.call(
      'DeleteStatement',
      ['DeleteStatementRequest', { statement: { name }, all: true }],
      'Empty',
      options(`delete the statement "${name}"`),
    )
  }
  return {
    count: () => writes,
    add,
    remove,
    forget,
    addMissing: async (
      type: number,
      name: string,
      want: ReadonlySet<string>,
      have: ReadonlySet<string> | undefined,
    ): Promise<void> => {
      const missing = [...want].filter(item => have?.has(item) !== true)
      if (missing.length > 0) await add(type, name, missing)
    },
    dropExtra: async (
      type: number,
      name: string,
      have: ReadonlySet<string>,
      want: ReadonlySet<string> | undefined,
    ): Promise<void> => {
      if (want === undefined) await remove(type, name)
      else if (!sameSet(have, want)) {
        const extra = [...have].filter(item => !want.has(item))
        if (extra.length > 0) await remove(type, name, extra)
      }
    },
    addStatements: async (direction: Direction, statements: readonly PolicyStatement[]): Promise<void> => {
      const policy = { name: policyName(direction), statements: statements.map(wireStatement) }
      await transport.call(
        'AddPolicy',
        ['AddPolicyRequest', { policy }],
        'Empty',
        options('add to the policy'),
      )
    },
    dropStatements: async (direction: Direction, names: readonly string[]): Promise<void> => {
      if (names.length === 0) return
      const policy = { name: policyName(direction), statements: names.map(name => ({ name })) }
      await transport.call(
        'DeletePolicy',
        ['DeletePolicyRequest', { policy, preserveStatements: true }],
        'Empty',
        options('take from the policy'),
      )
      for (const name of names) await forget(name)
    },
    assign: async (direction: Direction): Promise<void> => {
      await transport.call(
        'SetPolicyAssignment',
        [
          'SetPolicyAssignmentRequest',
          {
            assignment: {
              name: 'global',
              direction: directions[direction],
              policies: [{ name: policyName(direction) }],
              defaultAction: reject,
            },
          },
        ],
        'Empty',
        options('assign the policy'),
      )
    },
  }
}
