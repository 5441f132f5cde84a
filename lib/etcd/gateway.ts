// The way to etcd: its own JSON gateway (etcd.io/docs, "Why gRPC gateway"; /v3 in 3.4 and newer) over node:http. No gRPC
// client: it would cost 80 ms of every start and 25 MB. Several endpoints: the one that answered last is asked first.
// Try it: curl http://127.0.0.1:2379/v3/maintenance/status -X POST -d '{}'
import { WarrenError } from '../errors.js'
import { answerFailure, type Failure, failureError } from './failure.js'
import {
  type Answer,
  type EtcdTls,
  isFailure,
  type Json,
  type LinesFound,
  maxFree,
  readBody,
  readLines,
  transport,
} from './transport.js'

export type { EtcdTls, Json } from './transport.js'

export interface GatewayOptions {
  readonly endpoints: readonly string[]
  readonly tls?: EtcdTls
  readonly user?: { readonly name: string; readonly password: string }
  readonly timeoutMs: number
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  readonly timeoutMs?: number
  /** It may be asked twice: after an answer that never came, another endpoint is tried. */
  readonly idempotent: boolean
}

export interface Stream {
  readonly endpoint: string
  /** Shows its lines, parsed, those that came together at once. Rejects when the connection is lost; resolves when the server ends it. */
  read(found: LinesFound): Promise<void>
  close(): void
}

export interface Gateway {
  /** `action` completes "Cannot ...". Errors: as in lib/etcd/etcd. */
  call(action: string, path: string, body: Json, options: CallOptions): Promise<Json>
  stream(action: string, path: string, body: Json, signal: AbortSignal): Promise<Stream>
  /** performance.now() of the last whole answer to a call (not to a stream). */
  answeredAt(): number
  /** Called when an endpoint stopped answering: what was open to it is not to be trusted. */
  onLeave(listener: (endpoint: string, error: WarrenError) => void): () => void
  close(): void
}

export function gateway(options: GatewayOptions): Gateway {
  const endpoints = options.endpoints.map(text => text.replace(/\/+$/, ''))
  const listeners = new Set<(endpoint: string, error: WarrenError) => void>()
  const carrier = transport(options.tls ?? {})
  let current = 0
  let closed = false
  let answeredAt = 0
  let token: Promise<string> | undefined

  async function request(
    endpoint: string,
    path: string,
    body: Json,
    ms: number,
    signal: AbortSignal | undefined,
    own: boolean,
  ): Promise<Answer> {
    const known = options.user !== undefined && path !== authPath
    const authorization = known ? await authenticate(endpoint, ms, signal) : undefined
    return carrier.ask({ endpoint, path, body, authorization, ms, signal, own })
  }

  function authenticate(endpoint: string, ms: number, signal: AbortSignal | undefined): Promise<string> {
    token ??= once(
      endpoint,
      authPath,
      { name: options.user?.name, password: options.user?.password },
      ms,
      signal,
    )
      .then(answer => String(answer['token']))
      .catch((error: unknown) => {
        token = undefined
        throw error
      })
    return token
  }

  async function once(
    endpoint: string,
    path: string,
    body: Json,
    ms: number,
    signal: AbortSignal | undefined,
  ): Promise<Json> {
    const end = performance.now() + ms
    const { status, response } = await request(endpoint, path, body, ms, signal, false)
    const left = Math.max(1, end - performance.now())
    const parsed = await readBody(response, endpoint, left, ms, signal)
    if (status !== 200) throw answerFailure(endpoint, status, parsed)
    answeredAt = performance.now()
    return parsed
  }

  /** Goes round the endpoints until one does it. */
  async function anywhere<T>(
    action: string,
    options_: CallOptions,
    attempt: (endpoint: string, ms: number) => Promise<T>,
  ): Promise<T> {
    options_.signal?.throwIfAborted()
    const total = options_.timeoutMs ?? options.timeoutMs
    const end = performance.now() + total
    const failures: Failure[] = []
    let renewed = false
    let stale = 0
    for (let tried = 0; tried < endpoints.length; ) {
      if (closed) throw closedError(action)
      const endpoint = endpoints[current % endpoints.length] ?? ''
      const left = Math.floor(end - performance.now())
      const share = options_.idempotent
        ? Math.max(left / (endpoints.length - tried), Math.min(left, 500))
        : left
      if (left <= 0) break
      try {
        return await attempt(endpoint, Math.ceil(share))
      } catch (error) {
        if (closed) throw closedError(action)
        if (!isFailure(error)) throw error
        if (error.staleToken && options.user !== undefined && !renewed) {
          renewed = true
          token = undefined
          continue
        }
        if (error.staleConnection && options_.idempotent && ++stale <= mostStale) continue
        failures.push(error)
        if (!error.elsewhere) break
        leave(endpoint, failureError(action, [error]))
        if (error.ambiguous && !options_.idempotent) break
        tried += 1
      }
    }
    throw failureError(action, failures)
  }

  function leave(endpoint: string, error: WarrenError): void {
    if (endpoints[current % endpoints.length] === endpoint) current = (current + 1) % endpoints.length
    token = undefined // simple tokens are known to every member, but a member that was restarted may have lost them
    for (const listener of listeners) listener(endpoint, error)
  }

  return {
    call: (action, path, body, call) =>
      anywhere(action, call, (endpoint, ms) => once(endpoint, path, body, ms, call.signal)),
    stream: (action, path, body, signal) =>
      anywhere(action, { signal, idempotent: true }, async (endpoint, ms) => {
        const { status, response } = await request(endpoint, path, body, ms, signal, true)
        if (status !== 200)
          throw answerFailure(endpoint, status, await readBody(response, endpoint, ms, ms, signal))
        return {
          endpoint,
          read: found => readLines(response, endpoint, action, found),
          close: () => response.destroy(),
        }
      }),
    answeredAt: () => answeredAt,
    onLeave: listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => {
      closed = true
      carrier.close()
    },
  }
}

const mostStale = maxFree
const authPath = '/v3/auth/authenticate'

function closedError(action: string): WarrenError {
  return new WarrenError(`Cannot ${action}: the client is closed`, { code: 'UNAVAILABLE' })
}
