// Receipts: what was written, why, after how long, and whose hand made it necessary. A bounded ring of the last ones.

export type Cause =
  /** The first pass of this process. */
  | 'start'
  /** The model changed. */
  | 'model'
  /** Somebody else changed or removed it. */
  | 'drift'
  /** Ours by its mark, wanted by nobody. */
  | 'orphan'

export interface Receipt {
  readonly id: number
  /** ISO 8601. */
  readonly at: string
  readonly table: string
  readonly verb: 'add' | 'change' | 'remove'
  readonly key: string
  /** In the syntax of ip, bridge, nft ...: can be pasted into a shell. */
  readonly line: string
  readonly cause: Cause
  /** Whose hand, as far as the kernel tells: "ip (pid 4711)". */
  readonly hand?: string
  /** Milliseconds from the kernel's notice (drift) or the kick (model) to the acknowledged write. */
  readonly afterMs?: number
  readonly error?: string
}

/** `line` is asked for when somebody reads it: most receipts of a cold start nobody ever does. */
export type NewReceipt = Omit<Receipt, 'id' | 'line'> & { readonly line: () => string }

export interface Receipts {
  add(receipt: NewReceipt): void
  /** Counts one that `add` would not keep, and says so: of ten thousand at a start most need not even be made. */
  omit(cause: Cause): boolean
  /** The last ones with an id above `after`, oldest first. */
  list(after?: number): readonly Receipt[]
  subscribe(listener: (receipt: Receipt) => void, signal: AbortSignal): void
  /** Of all time, by cause. */
  readonly counts: Readonly<Record<Cause, number>>
}

/** Keeps the last `size` receipts; a cold start with thousands of lines does not push out a repair (start lines go first). */
export function createReceipts(size = 1000): Receipts {
  // Up to twice as many: cut once per `size` receipts, as every cut moves the whole ring.
  let ring: { readonly id: number; readonly entry: NewReceipt }[] = []
  const counts: Record<Cause, number> = { start: 0, model: 0, drift: 0, orphan: 0 }
  const listeners = new Set<(receipt: Receipt) => void>()
  let next = 1
  let starts = 0
  return {
    counts,
    omit(cause) {
      if (cause !== 'start' || starts < size / 2) return false
      next += 1
      counts[cause] += 1
      return true
    },
    add(entry) {
      if (this.omit(entry.cause)) return
      const id = next
      next += 1
      counts[entry.cause] += 1
      if (entry.cause === 'start') starts += 1
      ring.push({ id, entry })
      if (ring.length >= 2 * size) ring = ring.slice(-size)
      if (listeners.size === 0) return
      const receipt = receiptOf(id, entry)
      for (const listener of listeners) listener(receipt)
    },
    list: (after = 0) =>
      ring
        .slice(-size)
        .filter(({ id }) => id > after)
        .map(({ id, entry }) => receiptOf(id, entry)),
    subscribe(listener, signal) {
      listeners.add(listener)
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true })
    },
  }
}

function receiptOf(id: number, { line, ...rest }: NewReceipt): Receipt {
  return { id, ...rest, line: line() }
}
