// What keeps Services on this host from being as the model has them, as problems: entry points that could not be written,
// and an iptables that cannot be used, or that two hands use in two variants. Made when somebody asks.
import type { TableStatus } from '../../lib/reconcile/mirror.js'
import type { Stage } from '../dataplane/stage.js'
import type { DesiredState, TableName } from '../model/desired.js'
import type { Problem } from '../model/object.js'

export interface ProgramFacts {
  readonly stages: readonly Stage[]
  desired(): DesiredState | undefined
  statuses(): readonly TableStatus[]
  /** Why the object is not as wanted, if its last write failed. */
  failureOf(table: TableName, object: unknown): Failure | undefined
}

interface Failure {
  readonly code: string
  readonly message: string
  readonly hint?: string | undefined
}

const tables = ['proxy', 'service', 'service-iptables'] as const satisfies readonly TableName[]

/** Rules in iptables-nft and iptables-legacy at once. */
const both = {
  code: 'IPTABLES_BOTH',
  hint: 'move the rules of one variant to the other: iptables-legacy-save, iptables-nft-save',
}

function groupsOf(desired: DesiredState | undefined, table: TableName) {
  return desired?.[table] as ReadonlyMap<string, readonly unknown[]> | undefined
}

function problemOf(about: string, { code, message, hint }: Failure): Problem {
  return { level: 'error', about, code, message, ...(hint === undefined ? {} : { hint }) }
}

/** In words, where iptables mode has something to say that fails nothing. */
function remark(facts: ProgramFacts, about: string): readonly Problem[] {
  const problem = facts.stages.find(({ name }) => name === 'service-iptables')?.table.problem
  return problem === undefined ? [] : [{ level: 'warning', about, message: problem, ...both }]
}

/** Of any one Service ("default/web"), as of now; each reason once. */
export function serviceFailures(facts: ProgramFacts): (name: string) => readonly Problem[] {
  const degraded = new Set(
    facts.statuses().flatMap(({ name, state }) => (state === 'degraded' ? [name] : [])),
  )
  const desired = facts.desired()
  return name => {
    const about = `service/${name}`
    const found = new Map<string, Problem>()
    for (const table of tables) {
      const group = groupsOf(desired, table)?.get(about) ?? []
      if (degraded.has(table))
        for (const object of group) {
          const failure = facts.failureOf(table, object)
          if (failure !== undefined) found.set(failure.message, problemOf(about, failure))
        }
      else if (table === 'service-iptables' && group.length > 0)
        for (const problem of remark(facts, about)) found.set(problem.message, problem)
    }
    return [...found.values()]
  }
}

/** Of the host's iptables, where Services are or should be in it. */
export function iptablesProblems(facts: ProgramFacts): readonly Problem[] {
  const table = 'service-iptables'
  const about = `table/${table}`
  const status = facts.statuses().find(({ name }) => name === table)
  const groups = groupsOf(facts.desired(), table)
  if (status?.state !== 'degraded')
    return groups === undefined || groups.size === 0 ? [] : remark(facts, about)
  for (const [, group] of groups ?? [])
    for (const object of group) {
      const failure = facts.failureOf(table, object)
      if (failure !== undefined) return [problemOf(about, failure)]
    }
  // What fails is on its way out.
  return status.error === undefined ? [] : [problemOf(about, { code: 'IPTABLES', message: status.error })]
}
