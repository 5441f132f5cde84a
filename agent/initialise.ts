// Who keeps a model in files need not make the store by hand: it is made where a directory has a Cluster, and none ever
// was there and none was lost.
import type { Clock } from '../lib/clock.js'
import { describeError } from '../lib/errors.js'
import type { Kv } from '../lib/kv/kv.js'
import type { Part } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import { ensureFormat } from './objects.js'
import type { DirectorySource } from './sources/directory.js'
import type { KvModel } from './sources/kv-model.js'

/** Between two tries. */
const againMs = 1_000

export interface InitialiserOptions {
  readonly kv: Kv
  readonly clock: Clock
  readonly log: Log
  readonly model: KvModel
  readonly directory: DirectorySource
  /** Resolves at the next change, or when the signal aborts. */
  nextChange(signal: AbortSignal): Promise<void>
}

export function initialiser(options: InitialiserOptions): Part {
  const { kv, clock, log, model, directory, nextChange } = options

  function wanted(): boolean {
    const never = model.formatId() === undefined && model.objects.size === 0
    if (model.format().state !== 'absent' || !never || !directory.status().inSync) return false
    return [...directory.objects.keys()].some(ref => ref.startsWith('cluster/'))
  }

  return async signal => {
    while (!signal.aborted) {
      if (!wanted()) {
        await nextChange(signal)
        continue
      }
      try {
        await ensureFormat(kv, signal)
        log.info('store made', { store: kv.name })
      } catch (error) {
        log.warn('store not made', { store: kv.name, reason: describeError(error) })
      }
      await clock.sleep(againMs, signal).catch(() => undefined)
    }
  }
}
