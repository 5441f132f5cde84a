// Runs the checks side by side, each with a deadline of its own: one that hangs or fails says `unknown` and holds up no other.
import { describeError } from '../../lib/errors.js'
import { deadline } from '../../lib/lifetime.js'
import { type Check, type DoctorContext, type Finding, type FindingStatus, unknown } from './check.js'
import { type ContextOptions, createContext, peersKnown } from './context.js'

export interface CheckResult {
  readonly id: string
  readonly title: string
  /** The worst of its findings. */
  readonly status: FindingStatus
  readonly findings: readonly Finding[]
  readonly ms: number
}

/** `warren doctor -o json`. */
export interface DoctorReport {
  readonly node: string
  readonly daemon: boolean
  readonly status: FindingStatus
  readonly counts: Readonly<Record<FindingStatus, number>>
  readonly checks: readonly CheckResult[]
  /** How many of the other nodes the probes were sent to. */
  readonly peers: { readonly asked: number; readonly all: number }
  readonly ms: number
}

const usualDeadline = 1500
/** What a check that does not look at its signal gets beyond its deadline, ms. */
const grace = 100

const order: readonly FindingStatus[] = ['ok', 'unknown', 'warn', 'bad']

function worst(all: readonly FindingStatus[]): FindingStatus {
  return all.reduce<FindingStatus>((a, b) => (order.indexOf(b) > order.indexOf(a) ? b : a), 'ok')
}

async function runCheck(check: Check, context: DoctorContext): Promise<CheckResult> {
  const from = performance.now()
  const limit = check.deadline ?? usualDeadline
  const signal = deadline(limit, context.signal)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<readonly Finding[]>(resolve => {
    timer = setTimeout(
      () =>
        resolve([
          unknown('DEADLINE', `no answer within ${limit} ms`, {
            fix: 'look again when the host is less busy',
          }),
        ]),
      limit + grace,
    )
  })
  let findings: readonly Finding[]
  try {
    findings = await Promise.race([check.run({ ...context, signal }), late])
  } catch (error) {
    context.signal.throwIfAborted()
    findings = [
      signal.aborted
        ? unknown('DEADLINE', `no answer within ${limit} ms`)
        : unknown('FAILED', `cannot be told: ${describeError(error)}`),
    ]
  } finally {
    clearTimeout(timer)
  }
  return {
    id: check.id,
    title: check.title,
    status: worst(findings.map(({ status }) => status)),
    findings,
    ms: Math.round(performance.now() - from),
  }
}

/** Rejects only when `options.signal` aborts. */
export async function runDoctor(checks: readonly Check[], options: ContextOptions): Promise<DoctorReport> {
  const from = performance.now()
  const context = createContext(options)
  const wanted = checks.filter(
    ({ needsDaemon }) => needsDaemon !== true || context.daemon !== undefined || context.peers.length > 0,
  )
  const results = await Promise.all(wanted.map(check => runCheck(check, context)))
  const counts = { ok: 0, warn: 0, bad: 0, unknown: 0 }
  for (const { findings } of results) for (const { status } of findings) counts[status] += 1
  return {
    node: options.daemon?.status.node ?? options.config.node,
    daemon: options.daemon !== undefined,
    status: worst(results.map(({ status }) => status)),
    counts,
    checks: results,
    peers: { asked: context.peers.length, all: peersKnown(options).length },
    ms: Math.round(performance.now() - from),
  }
}
