// What fails in a table, in the log: once per change of its text, and once more when it is over.
import type { WarrenError } from '../../lib/errors.js'
import type { Log } from '../../lib/log.js'

export class FailureLog {
  readonly #log: Log
  /** By table. */
  readonly #told = new Map<string, string>()

  constructor(log: Log) {
    this.#log = log
  }

  /** The first failure that a table has after a pass; undefined: none. */
  tell(table: string, failure: WarrenError | undefined): void {
    const before = this.#told.get(table)
    if (failure?.message === before) return
    if (failure === undefined) {
      this.#told.delete(table)
      this.#log.info('all is well again', { table })
      return
    }
    const { message, code, hint } = failure
    this.#told.set(table, message)
    this.#log.warn(message, { table, code, ...(hint === undefined ? {} : { hint }) })
  }
}
