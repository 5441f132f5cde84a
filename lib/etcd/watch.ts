// One watch stream of etcd's gateway, cut into batches of one revision each.
import { WarrenError } from '../errors.js'
import type { KvBatch, KvEntry, KvWatcher } from '../kv/kv.js'
import { answerFailure, failureError, timeoutFailure } from './failure.js'
import type { Gateway, Json } from './gateway.js'
import { type Keys, readEntry } from './keys.js'

export interface WatchRequest {
  readonly prefix: string
  readonly fromRevision: number
  readonly watcher: KvWatcher
  readonly timeoutMs: number
  /** etcd's revision by a read that asks the quorum. */
  readonly revision: () => Promise<number>
  readonly signal: AbortSignal
}

interface Response {
  readonly created?: boolean
  readonly canceled?: boolean
  readonly cancel_reason?: string
  readonly compact_revision?: string
  readonly fragment?: boolean
  readonly header?: { readonly revision?: string }
  readonly events?: readonly { readonly type?: string; readonly kv?: Json }[]
}

/** Resolves when the signal aborts. Errors: UNAVAILABLE, UNAUTHENTICATED, COMPACTED. */
export async function watchStream(gate: Gateway, keys: Keys, request: WatchRequest): Promise<void> {
  const { prefix, fromRevision, watcher, timeoutMs } = request
  const action = `watch "${prefix}"`
  const scope = new AbortController()
  const signal = AbortSignal.any([request.signal, scope.signal])
  const body = { create_request: { ...keys.range(prefix), start_revision: String(fromRevision + 1) } }
  let failure: WarrenError | undefined
  const end = (error: WarrenError): void => {
    failure ??= error
    scope.abort()
  }
  const stream = await gate.stream(action, '/v3/watch', body, signal)
  const close = (): void => stream.close()
  signal.addEventListener('abort', close, { once: true })
  const forget = gate.onLeave((endpoint, error) => {
    if (endpoint === stream.endpoint) end(error)
  })
  const timer = setTimeout(
    () => end(failureError(action, [timeoutFailure(stream.endpoint, timeoutMs)])),
    timeoutMs,
  )
  try {
    let parts: KvBatch[] = []
    const take = (response: Response): void => {
      parts = joined(parts, batchesOf(keys, response))
      if (response.fragment) return
      for (const batch of parts) {
        if (signal.aborted) break
        watcher.onBatch(batch)
      }
      parts = []
    }
    // Without a turn of the event loop in between: whoever looks at the store then sees all that came together.
    const takeAll = (messages: readonly Json[]): Promise<void> | undefined => {
      for (const [i, message] of messages.entries()) {
        const response = readResponse(action, stream.endpoint, message)
        if (response.canceled) throw canceled(action, stream.endpoint, fromRevision, response)
        if (response.created) {
          clearTimeout(timer)
          const revision = Number(response.header?.revision ?? 0)
          return checkRevision(action, stream.endpoint, request, revision).then(() => {
            take(response)
            return takeAll(messages.slice(i + 1))
          })
        }
        take(response)
      }
      return undefined
    }
    if (signal.aborted) stream.close()
    await stream.read(takeAll)
    if (signal.aborted) throw failure ?? signal.reason
    throw failureError(action, [{ ...timeoutFailure(stream.endpoint, 0), cause: 'it ended the stream' }])
  } catch (error) {
    if (request.signal.aborted) return
    throw failure ?? error
  } finally {
    clearTimeout(timer)
    forget()
    signal.removeEventListener('abort', close)
    stream.close()
  }
}

function readResponse(action: string, endpoint: string, message: Json): Response {
  const error = message['error']
  if (error !== undefined) throw failureError(action, [answerFailure(endpoint, 500, error)])
  return (message['result'] ?? {}) as Response
}

/** A member may be a little behind what we have read; a store that is behind as a whole is another one, and a watch on it would be silent. */
async function checkRevision(
  action: string,
  endpoint: string,
  request: WatchRequest,
  revision: number,
): Promise<void> {
  if (revision >= request.fromRevision) return
  const agreed = await request.revision()
  if (agreed >= request.fromRevision) return
  throw new WarrenError(
    `Cannot ${action} from revision "${request.fromRevision}": etcd "${endpoint}" is at revision "${agreed}", so it was replaced or restored`,
    { code: 'UNAVAILABLE', hint: 'list it again' },
  )
}

function canceled(action: string, endpoint: string, from: number, response: Response): WarrenError {
  const compacted = Number(response.compact_revision ?? 0)
  if (compacted > 0) {
    return new WarrenError(
      `Cannot ${action} from revision "${from}": etcd "${endpoint}" has compacted up to "${compacted}"`,
      {
        code: 'COMPACTED',
        hint: 'list it again',
      },
    )
  }
  const reason = response.cancel_reason ?? 'no reason given'
  const code = reason.includes('permission denied') ? 7 : reason.includes('auth') ? 16 : undefined
  return failureError(action, [
    answerFailure(endpoint, 500, { message: `it canceled the watch: ${reason}`, code }),
  ])
}

/** A response may hold several revisions, but never part of one. */
function batchesOf(keys: Keys, response: Response): KvBatch[] {
  const batches: { revision: number; puts: KvEntry[]; deletes: string[] }[] = []
  for (const event of response.events ?? []) {
    const entry = readEntry(keys, event.kv ?? {})
    let batch = batches.at(-1)
    if (batch?.revision !== entry.modRevision) {
      batch = { revision: entry.modRevision, puts: [], deletes: [] }
      batches.push(batch)
    }
    if (event.type === 'DELETE') batch.deletes.push(entry.key)
    else batch.puts.push(entry)
  }
  return batches
}

/** Fragments of one response: the last revision of the one goes on in the next. */
function joined(parts: readonly KvBatch[], more: KvBatch[]): KvBatch[] {
  if (parts.length === 0) return more
  const last = parts.at(-1)
  const [first, ...rest] = more
  if (last === undefined || first === undefined || last.revision !== first.revision)
    return [...parts, ...more]
  const both = {
    revision: last.revision,
    puts: [...last.puts, ...first.puts],
    deletes: [...last.deletes, ...first.deletes],
  }
  return [...parts.slice(0, -1), both, ...rest]
}
