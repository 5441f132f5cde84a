// When all is as the model wants it: `warren wait`, `GET /v1/wait`.
import { WarrenError } from '../../lib/errors.js'
import type { Status } from './control.js'

/** The part of the status that says whether all is done. */
export type Progress = Pick<Status, 'revision' | 'converged' | 'hold' | 'tables' | 'sources'>

export interface Waits {
  /** Errors: TIMEOUT. Without a revision it waits for the last one that was written by this daemon, if that was just now. */
  wait(revision: number | undefined, timeoutMs: number, signal: AbortSignal): Promise<Status>
  /** Goes along with a write. */
  noted<R extends { readonly revision: number }>(writing: Promise<R>): Promise<R>
}

export interface WaitParts {
  readonly progress: () => Progress
  readonly status: () => Status
  /** Called after every pass. */
  readonly onPass: Set<() => void>
  /** Called after every change of the model; gives what ends that. */
  readonly subscribe: (listener: () => void) => () => void
  readonly now?: () => number
}

/**
 * Who writes by this daemon and then asks it to wait means that write, which comes back by the store a moment later. Not for
 * ever: a store that is restored from a backup starts again below it.
 */
const ownWriteMs = 10_000

export function createWaits(parts: WaitParts): Waits {
  const { progress, status, now = () => performance.now() } = parts
  let written = { revision: 0, at: Number.NEGATIVE_INFINITY }

  function waiting(revision: number | undefined): string | undefined {
    const at = progress()
    if (revision !== undefined && at.revision < revision)
      return `the model is at revision ${at.revision}, not ${revision}`
    if (at.hold !== undefined) return at.hold
    const source = at.sources.find(({ inSync }) => !inSync)
    if (source !== undefined) return `source ${source.name} is not in sync: ${source.error ?? 'not read yet'}`
    const bad = at.tables.find(({ state }) => state !== 'converged')
    if (bad !== undefined)
      return `table ${bad.name} is ${bad.state}${bad.error === undefined ? '' : `: ${bad.error}`}`
    return at.converged ? undefined : 'a pass is under way'
  }

  function wait(asked: number | undefined, timeoutMs: number, signal: AbortSignal): Promise<Status> {
    const revision = asked ?? (now() - written.at < ownWriteMs ? written.revision : undefined)
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer)
        parts.onPass.delete(soon)
        unsubscribe()
        signal.removeEventListener('abort', stop)
      }
      const look = (): void => {
        if (waiting(revision) !== undefined) return
        end()
        resolve(status())
      }
      const stop = (): void => {
        end()
        reject(signal.reason)
      }
      // A pass reports before the loop is idle again: look once that is done.
      const soon = (): void => void setImmediate(look)
      const unsubscribe = parts.subscribe(soon)
      const timer = setTimeout(() => {
        end()
        const reason = waiting(revision)
        reject(
          new WarrenError(`Not converged after ${timeoutMs} ms: ${reason ?? 'no reason left'}`, {
            code: 'TIMEOUT',
            hint: 'see warren status',
          }),
        )
      }, timeoutMs)
      parts.onPass.add(soon)
      signal.addEventListener('abort', stop, { once: true })
      look()
    })
  }

  async function noted<R extends { readonly revision: number }>(writing: Promise<R>): Promise<R> {
    const result = await writing
    written = { revision: result.revision, at: now() }
    return result
  }

  return { wait, noted }
}
