// Whose hand was on our objects since they were last looked at, as the kernel's notices tell: for the receipts of what is
// written because of it.
import type { Why } from './failures.js'
import type { Cause } from './receipt.js'

/** A foreign hand on one of our objects. */
export interface Notice {
  /** Key in the table, where the notice tells. */
  readonly key?: string
  readonly hand?: string
}

interface Heard extends Notice {
  /** The clock's ms. */
  readonly at: number
}

/** More of them say no more. */
const most = 1000

export class Hands {
  /** Since the last look. */
  #heard: Heard[] = []
  /** What the running pass answers, by key; those that tell none under undefined. */
  readonly #answered = new Map<string | undefined, Heard>()

  hear(notice: Notice, at: number): void {
    if (this.#heard.length < most) this.#heard.push({ ...notice, at })
  }

  /** Everything is looked at now. */
  look(): void {
    for (const heard of this.#heard) if (!this.#answered.has(heard.key)) this.#answered.set(heard.key, heard)
    this.#heard = []
  }

  /** The pass is over. */
  settle(): void {
    if (this.#answered.size > 0) this.#answered.clear()
  }

  /** Why something is written for `cause`: since it was heard of, else since `kickedAt`. */
  why(key: string, cause: Cause, kickedAt: number): Why {
    const heard =
      this.#answered.size === 0 ? undefined : (this.#answered.get(key) ?? this.#answered.get(undefined))
    const since = heard?.at ?? kickedAt
    return heard?.hand === undefined ? { cause, since } : { cause, since, hand: heard.hand }
  }
}
