// Clients that go on asking while something is changed, and what they saw of it.
import type { Answer, Question, Station } from './service-world-sockets.js'

export interface Seen {
  readonly who: string
  readonly answer: Answer
  /** When the question was asked, as performance.now(). */
  readonly at: number
}

export interface Load {
  readonly seen: readonly Seen[]
  /** Resolves with all that was not answered, once the questions under way are. */
  stop(): Promise<readonly string[]>
}

export interface Asker {
  readonly who: string
  ask(ms?: number): Promise<Answer>
}

export interface KeptFlow extends Asker {
  /** Source port, where it is UDP. */
  readonly port: number
  close(): void
}

/** A new connection, or a UDP flow with a source port of its own, for every question. */
export function newFlows(station: Station, question: Question): Asker {
  return {
    who: `${station.name} -> ${question.to} ${question.port}/${question.protocol}`,
    ask: ms => station.ask({ ...question, ms }),
  }
}

/** One connection, or one UDP source port, for all questions. */
export function oneFlow(station: Station, question: Question): KeptFlow {
  const flow = station.flow(question)
  return {
    who: `${station.name} -> ${question.to} ${question.port}/${question.protocol}, kept`,
    port: flow.port,
    ask: ms => flow.ask(ms),
    close: () => flow.close(),
  }
}

export const tell = (answer: Answer): string =>
  answer.kind === 'answered'
    ? `${answer.by}:${answer.port}`
    : answer.kind === 'refused'
      ? `refused (${answer.code})`
      : 'dropped'

/** Every asker asks, waits for the answer, and again `everyMs` after the last question at the earliest. */
export function startLoad(askers: readonly Asker[], everyMs: number): Load {
  const seen: Seen[] = []
  let going = true
  const run = async ({ who, ask }: Asker): Promise<void> => {
    while (going) {
      const at = performance.now()
      const answer = await ask()
      seen.push({ who, answer, at })
      const left = at + everyMs - performance.now()
      await new Promise(resolve => (left > 0 ? setTimeout(resolve, left) : setImmediate(resolve)))
    }
  }
  const all = Promise.all(askers.map(run))
  return {
    seen,
    async stop() {
      going = false
      await all
      return seen
        .filter(({ answer }) => answer.kind !== 'answered')
        .map(({ who, answer }) => `${who}: ${tell(answer)}`)
    },
  }
}

/** Who answered how often, of `total` questions; 32 at a time from each asker. */
export async function countAnswers(
  askers: readonly Asker[],
  total: number,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>()
  let left = total
  const work = async ({ ask }: Asker): Promise<void> => {
    while (left > 0) {
      left -= 1
      const by = tell(await ask())
      counts.set(by, (counts.get(by) ?? 0) + 1)
    }
  }
  await Promise.all(askers.flatMap(asker => Array.from({ length: 32 }, () => work(asker))))
  return counts
}

/** Pearson's statistic of counts that should be equal. */
export function chiSquare(counts: readonly number[]): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length
  return counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
}
/** The 0.9999 quantile of chi-square with 4 degrees of freedom; below 0.01 is one of 80,000 as well. */
export const chiSquareOfFive = { most: 23.51, least: 0.01 } as const
