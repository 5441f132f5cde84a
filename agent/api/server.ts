// The control API: HTTP/1.1 on a unix socket, JSON in and out. It only carries Control (control.ts); what it answers is
// routes.ts. Who may connect is decided by the mode of the socket file. Input is hostile all the same: sizes and times
// are bounded, and a follower that does not read is cut off.
// Look: curl --unix-socket /run/warren/warrend.sock http://warren/v1/status
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { asError, WarrenError } from '../../lib/errors.js'
import { aborted } from '../../lib/lifetime.js'
import type { Log } from '../../lib/log.js'
import type { Control } from './control.js'
import { type ApiReply, type ApiRequest, errorReply, type Route, routes } from './routes.js'
import { listenOnSocket } from './socket.js'

export interface ApiOptions {
  readonly socket: string
  /** Default 0660. */
  readonly mode?: number
  /** Name or number of the group that may connect. */
  readonly group?: string | undefined
  readonly log: Log
  /** Called once the socket accepts. */
  readonly onListening?: () => void
}

/** As much as lib/yaml takes. */
export const maxBodyBytes = 8 << 20

/** What may wait unread for a follower of events before it is cut off. */
const maxUnreadBytes = 4 << 20

const maxConnections = 512

/** JSON of values that may hold what JSON has not: bigint, Map, Set. */
function toJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) => {
    if (typeof inner === 'bigint') return inner.toString()
    if (inner instanceof Map) return Object.fromEntries(inner)
    if (inner instanceof Set) return [...inner]
    return inner
  })
}

function tooLarge(): WarrenError {
  return new WarrenError(`Cannot read the request: larger than ${maxBodyBytes} bytes`, {
    code: 'TOO_LARGE',
    hint: 'cut the documents into several files',
  })
}

async function readBody(request: IncomingMessage): Promise<string> {
  if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) throw tooLarge()
  const encoding = request.headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity')
    throw new WarrenError(`Cannot read the request: content-encoding "${encoding}" is not supported`, {
      code: 'INVALID',
    })
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > maxBodyBytes) throw tooLarge()
    chunks.push(chunk)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch {
    throw new WarrenError('Cannot read the request: it is not UTF-8', { code: 'INVALID' })
  }
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  if (response.headersSent || response.destroyed) return
  const text = `${toJson(value)}\n`
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    // What is left of a body that nobody read would be taken for the next request.
    ...(response.req.complete ? {} : { connection: 'close' }),
  })
  response.end(text)
}

function sendLines(
  response: ServerResponse,
  reply: Extract<ApiReply, { lines: unknown }>,
  signal: AbortSignal,
): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' })
  response.write(reply.lines.map(line => `${toJson(line)}\n`).join(''))
  if (reply.follow === undefined) {
    response.end()
    return
  }
  response.flushHeaders()
  signal.addEventListener('abort', () => response.end(), { once: true })
  reply.follow(line => {
    if (response.writableLength > maxUnreadBytes) response.destroy()
    else if (!response.destroyed && !response.writableEnded) response.write(`${toJson(line)}\n`)
  }, signal)
}

type Answer = (request: IncomingMessage, response: ServerResponse) => Promise<void>

function answerer(
  control: Control,
  log: Log,
  ending: AbortSignal,
): (
  route: Route,
) => (request: IncomingMessage, response: ServerResponse, params: ApiRequest['params']) => Promise<void> {
  return route => async (request, response, params) => {
    const gone = new AbortController()
    response.once('close', () => gone.abort())
    const signal = AbortSignal.any([gone.signal, ending])
    const url = request.url ?? '/'
    const query = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?')) : '')
    try {
      const body = (): Promise<string> => readBody(request)
      const reply = await route.handle({ params, query, headers: request.headers, signal, body }, control)
      if ('lines' in reply) sendLines(response, reply, signal)
      else sendJson(response, reply.status ?? 200, reply.json)
    } catch (error) {
      const { status, json } = errorReply(error)
      if (status === 500 && !signal.aborted)
        log.error('control API failed', { route: `${route.method} ${route.path}`, error: json.message })
      sendJson(response, status, json)
    }
  }
}

/** find-my-way, loaded with the first request: the first pass does not wait for it. */
async function createRouter(control: Control, log: Log, ending: AbortSignal): Promise<Answer> {
  const { default: findMyWay } = await import('find-my-way')
  const answer = answerer(control, log, ending)
  const methods = ['GET', 'POST', 'DELETE'] as const
  const missing = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = (request.url ?? '/').replace(/\?.*$/s, '')
    const allowed = methods.filter(method => router.find(method, path) !== null)
    const what = `"${request.method} ${path.slice(0, 200)}"`
    const error =
      allowed.length === 0
        ? new WarrenError(`Cannot answer ${what}: there is no such path`, {
            code: 'NOT_FOUND',
            hint: 'docs/reference/api.md lists them',
          })
        : new WarrenError(`Cannot answer ${what}: this path takes ${allowed.join(', ')}`, { code: 'METHOD' })
    if (allowed.length > 0) response.setHeader('allow', allowed.join(', '))
    const { status, json } = errorReply(error)
    sendJson(response, status, json)
  }
  const router = findMyWay({
    ignoreTrailingSlash: true,
    maxParamLength: 1024,
    defaultRoute: missing,
    onBadUrl: (_path, _request, response) => {
      const { status, json } = errorReply(
        new WarrenError('Cannot read the path of the request: bad percent-encoding', { code: 'INVALID' }),
      )
      sendJson(response, status, json)
    },
  })
  for (const route of routes) {
    const handle = answer(route)
    router.on(route.method, route.path, (request, response, params) => handle(request, response, params))
  }
  return async (request, response) => {
    await (router.lookup(request, response) as Promise<void> | undefined)
  }
}

/**
 * Serves `control` until the signal aborts; then followers end, other requests are answered or cut, and the file goes.
 * Errors: CONFLICT when another daemon answers on the socket, CONFIG, the kernel's.
 */
export async function serveApi(control: Control, options: ApiOptions, signal: AbortSignal): Promise<void> {
  const { log, socket, mode = 0o660, group } = options
  let router: Promise<Answer> | undefined
  const answer: Answer = async (request, response) => {
    router ??= createRouter(control, log, signal)
    await (await router)(request, response)
  }
  const server = createServer({ requestTimeout: 30_000, headersTimeout: 10_000, maxHeaderSize: 16_384 })
  server.maxConnections = maxConnections
  server.keepAliveTimeout = 5_000
  server.on('request', (request, response) => {
    answer(request, response).catch((error: unknown) => {
      log.error('control API failed', { error: asError(error).message })
      response.destroy()
    })
  })
  const remove = await listenOnSocket(server, { path: socket, mode, group })
  log.debug('control socket listens', { socket })
  options.onListening?.()
  const failed = new Promise<never>((_, reject) => server.once('error', reject))
  try {
    await Promise.race([aborted(signal), failed])
  } finally {
    remove()
    const closed = new Promise<void>(resolve => server.close(() => resolve()))
    server.closeIdleConnections()
    const cut = setTimeout(() => server.closeAllConnections(), 500)
    await closed
    clearTimeout(cut)
  }
}
