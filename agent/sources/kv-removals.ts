// Objects that the store lacks and that stay in force a while: a removal is believed when `format` outlived it for
// `graceMs` after the last of a row of deletes, at most ten times that after the first.

export interface Removals {
  readonly size: number
  /** `revision`: of the store at this moment. */
  add(ref: string, now: number, revision: number): void
  delete(ref: string): void
  clear(): void
  /** The row goes on, whatever was deleted at the moment. */
  goOn(now: number): void
  /** Milliseconds of the clock at which those that wait take effect. */
  due(): number | undefined
  /** The revision that has taken effect, of one that was seen. */
  reached(revision: number): number
  all(): readonly string[]
}

export function createRemovals(graceMs: number): Removals {
  const waiting = new Set<string>()
  let first = { at: 0, revision: 0 }
  let last = 0
  return {
    get size() {
      return waiting.size
    },
    add(ref, now, revision) {
      if (waiting.size === 0) first = { at: now, revision }
      last = now
      waiting.add(ref)
    },
    delete: ref => void waiting.delete(ref),
    clear: () => waiting.clear(),
    goOn(now) {
      if (waiting.size > 0) last = now
    },
    due: () => (waiting.size === 0 ? undefined : Math.min(last + graceMs, first.at + 10 * graceMs)),
    reached: revision => (waiting.size === 0 ? revision : Math.min(revision, first.revision - 1)),
    all: () => [...waiting],
  }
}
