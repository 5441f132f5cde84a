// The way to etcd: its own JSON gateway (etcd.io/docs, "Why gRPC gateway"; /v3 in 3.4 and newer) over node:http. No gRPC
// client: it would cost 80 ms of every start and 25 MB. Several endpoints: the one that answered last is asked first.
// Try it: curl http://127.0.0.1:2379/v3/maintenance/status -X POST -d '{}'
import { readFileSync } from 'node:fs'
import * as http from 'node:http'
import { WarrenError } from '../errors.js'
import { answerFailure, connectionFailure, type Failure, failureError, timeoutFailure } from './failure.js'

export interface EtcdTls {
  /** Paths of PEM files; read again for every connection, so renewed certificates need no restart. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

export interface GatewayOptions {
  readonly endpoints: readonly string[]
  readonly tls?: EtcdTls
  readonly user?: { readonly name: string; readonly password: string }
  readonly timeoutMs: number
}

export type Json = { readonly [field: string]: unknown }

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
  readonly timeoutMs?: number
  /** It may be asked twice: after an answer that never came, another endpoint is tried. */
  readonly idempotent: boolean
}

export interface Stream {
  readonly endpoint: string
  /** Its lines, parsed. Throws when the connection is lost; returns when the server ends it. */
  readonly messages: AsyncIterable<Json>
  close(): void
}

export interface Gateway {
  /** `action` completes "Cannot ...". Errors: as in lib/etcd/etcd. */
  call(action: string, path: string, body: Json, options: CallOptions): Promise<Json>
  stream(action: string, path: string, body: Json, signal: AbortSignal): Promise<Stream>
  /** Called when an endpoint stopped answering: what was open to it is not to be trusted. */
  onLeave(listener: (endpoint: string, error: WarrenError) => void): () => void
  close(): void
}

interface Answer {
  readonly status: number
  readonly response: http.IncomingMessage
}

export function gateway(options: GatewayOptions): Gateway {
  const endpoints = options.endpoints.map(text => text.replace(/\/+$/, ''))
  const listeners = new Set<(endpoint: string, error: WarrenError) => void>()
  const requests = new Set<http.ClientRequest>()
  let current = 0
  let closed = false
  let agent: http.Agent | undefined
  let token: Promise<string> | undefined

  /** https only where an endpoint needs it: loading it costs milliseconds. */
  async function transport(endpoint: string): Promise<{
    readonly module: Pick<typeof http, 'request'>
    readonly agent: http.Agent
    readonly tls: object
  }> {
    const settings = { keepAlive: true, maxFreeSockets: maxFree, scheduling: 'lifo' as const }
    if (!endpoint.startsWith('https:')) {
      agent ??= new http.Agent(settings)
      return { module: http, agent, tls: {} }
    }
    const https = await import('node:https')
    agent ??= new https.Agent(settings)
    return { module: https, agent, tls: pemFiles(options.tls ?? {}) }
  }

  /** Resolves with the head of the answer; the failure is thrown. `own`: a connection of its own, for a stream. */
  async function request(
    endpoint: string,
    path: string,
    body: Json,
    ms: number,
    signal: AbortSignal | undefined,
    own: boolean,
  ): Promise<Answer> {
    const { module, agent: pool, tls } = await transport(endpoint)
    const authorization =
      options.user !== undefined && path !== authPath ? await authenticate(endpoint, ms, signal) : undefined
    const text = JSON.stringify(body)
    return new Promise((resolve, reject) => {
      const headers = {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
        ...(authorization === undefined ? {} : { authorization }),
      }
      const outgoing = module.request(`${endpoint}${path}`, {
        method: 'POST',
        headers,
        agent: own ? false : pool,
        ...tls,
      })
      requests.add(outgoing)
      const timer = setTimeout(() => fail(timeoutFailure(endpoint, ms)), ms)
      let connected = false
      const stop = (): void => fail(signal?.reason)
      const fail = (cause: unknown): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', stop)
        reject(cause)
        outgoing.destroy()
      }
      signal?.addEventListener('abort', stop, { once: true })
      outgoing.on('socket', socket => {
        connected = !socket.connecting
        socket.once(endpoint.startsWith('https:') ? 'secureConnect' : 'connect', () => {
          connected = true
        })
        // A stream is silent for hours: let the kernel find out that the other side is gone. Probes each second after 3.
        if (own) socket.setKeepAlive(true, 3_000)
        socket.setNoDelay(true)
      })
      outgoing.on('error', error =>
        fail(connectionFailure(endpoint, error, connected, outgoing.reusedSocket)),
      )
      outgoing.on('close', () => requests.delete(outgoing))
      outgoing.on('response', response => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', stop)
        resolve({ status: response.statusCode ?? 0, response })
      })
      outgoing.end(text)
    })
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
    if (status === 200) return parsed
    throw answerFailure(endpoint, status, parsed)
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
        return { endpoint, messages: lines(response, endpoint, action), close: () => response.destroy() }
      }),
    onLeave: listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => {
      closed = true
      for (const outgoing of requests) outgoing.destroy()
      agent?.destroy()
    },
  }
}

/** Idle connections that the pool may hold, and so find dead one after the other. */
const maxFree = 2
const mostStale = maxFree

const authPath = '/v3/auth/authenticate'

function closedError(action: string): WarrenError {
  return new WarrenError(`Cannot ${action}: the client is closed`, { code: 'UNAVAILABLE' })
}

function isFailure(error: unknown): error is Failure {
  return typeof error === 'object' && error !== null && 'elsewhere' in error && 'endpoint' in error
}

function pemFiles(tls: EtcdTls): Record<string, Buffer> {
  const files: Record<string, Buffer> = {}
  for (const name of ['ca', 'cert', 'key'] as const) {
    const path = tls[name]
    if (path === undefined) continue
    try {
      files[name] = readFileSync(path)
    } catch (error) {
      throw new WarrenError(
        `Cannot read "${path}": ${error instanceof Error ? error.message : String(error)}`,
        {
          code: 'UNAUTHENTICATED',
          hint: `store.etcd.tls.${name} is the path of a PEM file`,
          cause: error,
        },
      )
    }
  }
  return files
}

function parseLine(text: string, endpoint: string): Json {
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null) return parsed as Json
  } catch {
    // said below
  }
  throw connectionFailure(
    endpoint,
    new Error(`it answers "${text.slice(0, 60).trim()}", which is no JSON`),
    true,
  )
}

function readBody(
  response: http.IncomingMessage,
  endpoint: string,
  ms: number,
  said: number,
  signal: AbortSignal | undefined,
): Promise<Json> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const settle = (done: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
      done()
    }
    const fail = (cause: unknown): void => {
      settle(() => reject(cause))
      response.destroy()
    }
    const timer = setTimeout(() => fail(timeoutFailure(endpoint, said)), ms)
    const stop = (): void => fail(signal?.reason)
    signal?.addEventListener('abort', stop, { once: true })
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', error => fail(connectionFailure(endpoint, error, true)))
    response.on('close', () => {
      if (!response.complete)
        fail(
          connectionFailure(
            endpoint,
            Object.assign(new Error('connection lost'), { code: 'ECONNRESET' }),
            true,
          ),
        )
    })
    response.on('end', () => {
      settle(() => {
        const text = Buffer.concat(chunks).toString('utf8')
        try {
          // A stream of one message (lease/keepalive) is one line.
          resolve(parseLine(text === '' ? '{}' : text, endpoint))
        } catch (error) {
          if (response.statusCode === 200) reject(error)
          else resolve({ message: text.trim() })
        }
      })
    })
  })
}

async function* lines(
  response: http.IncomingMessage,
  endpoint: string,
  action: string,
): AsyncGenerator<Json> {
  let rest: Buffer[] = []
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      let from = 0
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        const line = Buffer.concat([...rest, chunk.subarray(from, at)]).toString('utf8')
        rest = []
        from = at + 1
        if (line.trim() !== '') yield parseLine(line, endpoint)
      }
      if (from < chunk.length) rest.push(chunk.subarray(from))
    }
  } catch (error) {
    throw error instanceof WarrenError
      ? error
      : failureError(action, [isFailure(error) ? error : connectionFailure(endpoint, error, true)])
  }
}
