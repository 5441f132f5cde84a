// Which endpoints of one port and family connections may reach: ready ones, the last that serve while they terminate (KEP-1669),
// those on this node. Pure.
import type { ServiceTarget } from '../../model/service-entry.js'

/** Targets of one port and family, by state. */
export interface Candidates {
  readonly ready: ServiceTarget[]
  /** Serve while they terminate: the last resort (KEP-1669). Most Services have none. */
  leaving: ServiceTarget[] | undefined
  /** Serve, are not ready and do not terminate: no last resort, but their flows are theirs. */
  rest: ServiceTarget[] | undefined
}

const byAddress = (a: ServiceTarget, b: ServiceTarget): number =>
  a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1

const nobody: readonly ServiceTarget[] = []

/** By address and port, each once. */
function sorted(targets: readonly ServiceTarget[]): readonly ServiceTarget[] {
  if (targets.length === 0) return nobody
  let ascending = true
  for (let i = 1; i < targets.length && ascending; i += 1)
    ascending = byAddress(targets[i - 1] as ServiceTarget, targets[i] as ServiceTarget) < 0
  // A list that grew has room for half as many more.
  if (ascending) return targets.slice()
  const list = [...targets].sort(byAddress)
  return list.filter((target, i) => {
    const before = list[i - 1]
    return before === undefined || byAddress(before, target) !== 0
  })
}

export interface Chosen {
  readonly all: readonly ServiceTarget[]
  readonly local: readonly ServiceTarget[]
  /** Of these, none that terminates: load balancers outside turn away before the last one is gone (KEP-1669). */
  readonly readyHere: number
  /** There is an endpoint somewhere. */
  readonly any: boolean
  /** All of them, in no order; some may be there twice. */
  readonly serving: readonly ServiceTarget[]
}

/** Ready ones; without any, those that still serve while they terminate. For each of the two lists by itself. */
export function choose({ ready, leaving: last, rest }: Candidates): Chosen {
  const leaving = last ?? nobody
  const here = (list: readonly ServiceTarget[]): readonly ServiceTarget[] =>
    list.some(target => target.local) ? list.filter(target => target.local) : nobody
  const localReady = here(ready)
  return {
    all: sorted(ready.length > 0 ? ready : leaving),
    local: sorted(localReady.length > 0 ? localReady : here(leaving)),
    readyHere: sorted(localReady).length,
    any: ready.length + leaving.length > 0,
    serving: last === undefined && rest === undefined ? ready : [...ready, ...leaving, ...(rest ?? nobody)],
  }
}

/** Those that serve, but are not among `taken`; undefined: none, as nearly always. */
export function lingeringOf(
  { serving, all }: Chosen,
  taken: readonly ServiceTarget[],
  more: readonly ServiceTarget[] = nobody,
): readonly ServiceTarget[] | undefined {
  if (taken === all && serving.length === all.length) return undefined
  const name = ({ address, port }: ServiceTarget): string => `${address} ${port}`
  const known = new Set([...taken, ...more].map(name))
  const rest = serving.filter(target => !known.has(name(target)))
  return rest.length === 0 ? undefined : sorted(rest)
}
