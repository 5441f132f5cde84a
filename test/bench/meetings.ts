// Waits for things that are told by key.
export interface Meetings {
  arrive(key: string, at?: number): void
  /** When it came, also when that was before somebody asked; forgotten then. Rejects after `ms`. */
  wait(key: string, ms: number): Promise<number>
}

/** The first arrival of a key counts. */
export function createMeetings(): Meetings {
  const seen = new Map<string, number>()
  const waiting = new Map<string, (at: number) => void>()
  return {
    arrive(key, at = performance.now()) {
      if (seen.has(key)) return
      const waiter = waiting.get(key)
      if (waiter === undefined) seen.set(key, at)
      else waiter(at)
    },
    wait: (key, ms) =>
      new Promise((resolve, reject) => {
        const at = seen.get(key)
        seen.delete(key)
        if (at !== undefined) return resolve(at)
        const late = setTimeout(() => {
          waiting.delete(key)
          reject(new Error(`${key} did not come within ${ms} ms`))
        }, ms)
        waiting.set(key, now => {
          clearTimeout(late)
          waiting.delete(key)
          resolve(now)
        })
      }),
  }
}
