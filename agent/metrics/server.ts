// Serves metrics: GET /metrics, HTTP/1.1 on a unix socket and, if configured, on a TCP address. Nothing can be changed here,
// and what is told is sums. A scrape in progress is shared, and one of a moment ago given again: whoever asks in a loop costs
// a few renderings a second. An endpoint that cannot be opened is tried again; the agent does not end for that.
// Look: curl --unix-socket /run/warren/metrics.sock http://warren/metrics
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Clock } from '../../lib/clock.js'
import { asError, codeOf, describeError, WarrenError } from '../../lib/errors.js'
import { aborted } from '../../lib/lifetime.js'
import type { Log } from '../../lib/log.js'
import { type AddressPort, formatAddressPort } from '../../lib/net/endpoint.js'
import { listenOnSocket } from '../api/socket.js'
import { createExposition, type Exposition } from './exposition.js'
import { createGatherer, type Facts, type MetricSources } from './facts.js'
import { familyGroups } from './families.js'

export interface MetricsEndpoints {
  /** Undefined: none. */
  readonly socket: { readonly path: string; readonly group?: string | undefined } | undefined
  readonly address: AddressPort | undefined
}

export interface MetricsServerOptions extends MetricsEndpoints {
  readonly sources: MetricSources
  readonly clock: Clock
  readonly log: Log
  readonly onListening?: (where: string) => void
}

/** An answer that is no older is given again, ms. */
const freshMs = 200
const againMs = 30_000
const maxConnections = 64

interface Answer {
  readonly contentType: string
  readonly text: string
}

/** Gathers and renders; loads prom-client with the first call. */
function createScraper({ sources, clock }: MetricsServerOptions, signal: AbortSignal): () => Promise<Answer> {
  let made: Promise<{ readonly exposition: Exposition; readonly gather: () => Promise<Facts> }> | undefined
  let running: Promise<Answer> | undefined
  let last: { readonly at: number; readonly answer: Answer } | undefined
  const make = async () => ({
    exposition: await createExposition(familyGroups.flatMap(({ families }) => families)),
    gather: createGatherer(sources, signal),
  })
  async function scrape(): Promise<Answer> {
    made ??= make()
    const { exposition, gather } = await made
    const facts = await gather()
    const answer = { contentType: exposition.contentType, text: await exposition.render(facts) }
    last = { at: clock.now(), answer }
    return answer
  }
  return () => {
    if (last !== undefined && clock.now() - last.at < freshMs) return Promise.resolve(last.answer)
    running ??= scrape().finally(() => {
      running = undefined
    })
    return running
  }
}

function send(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    'x-content-type-options': 'nosniff',
    ...(response.req.complete ? {} : { connection: 'close' }),
    ...headers,
  })
  response.end(response.req.method === 'HEAD' ? undefined : text)
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  scrape: () => Promise<Answer>,
): Promise<void> {
  const path = (request.url ?? '/').replace(/\?.*$/s, '')
  if (path !== '/metrics') {
    send(response, path === '/' ? 200 : 404, path === '/' ? 'warrend: /metrics\n' : 'only /metrics is here\n')
    return
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(response, 405, 'GET only\n', { allow: 'GET, HEAD' })
    return
  }
  const { contentType, text } = await scrape()
  send(response, 200, text, { 'content-type': contentType })
}

function listenOnAddress(server: Server, address: AddressPort): Promise<void> {
  const { host, port } = address
  return new Promise((resolve, reject) => {
    server.once('error', error =>
      reject(
        new WarrenError(`Cannot listen on "${formatAddressPort(address)}": ${codeOf(error)}`, {
          code: codeOf(error),
          hint: 'metrics.address in warrend.yaml names an address of this host and a free port',
          cause: error,
        }),
      ),
    )
    server.listen({ host, port, backlog: 32, ipv6Only: host.includes(':') }, resolve)
  })
}

/** Serves until the signal aborts; never rejects. */
export async function serveMetrics(options: MetricsServerOptions, signal: AbortSignal): Promise<void> {
  const { log, clock, socket, address } = options
  const scrape = createScraper(options, signal)

  function createOne(): Server {
    const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000, maxHeaderSize: 8192 })
    server.maxConnections = maxConnections
    server.keepAliveTimeout = 5_000
    server.on('request', (request, response) => {
      answer(request, response, scrape).catch((error: unknown) => {
        const { message } = asError(error)
        if (!signal.aborted) log.error('metrics failed', { error: message })
        if (response.headersSent) response.destroy()
        else send(response, 500, `${message}\n`)
      })
    })
    return server
  }

  /** One life of one endpoint: until the signal aborts, or the server fails. */
  async function serveOnce(where: string, listen: (server: Server) => Promise<() => void>): Promise<void> {
    const server = createOne()
    let remove: (() => void) | undefined
    try {
      remove = await listen(server)
      log.debug('metrics listen', { on: where })
      options.onListening?.(where)
      await Promise.race([aborted(signal), new Promise<never>((_, reject) => server.once('error', reject))])
    } finally {
      remove?.()
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    }
  }

  async function serve(where: string, listen: (server: Server) => Promise<() => void>): Promise<void> {
    let told = ''
    while (!signal.aborted) {
      try {
        await serveOnce(where, listen)
      } catch (error) {
        const reason = describeError(error)
        if (reason !== told) log.warn('metrics are not served', { on: where, reason })
        told = reason
        await clock.sleep(againMs, signal).catch(() => undefined)
      }
    }
  }

  await Promise.all([
    socket === undefined
      ? undefined
      : serve(socket.path, server =>
          listenOnSocket(server, { path: socket.path, mode: 0o660, group: socket.group }),
        ),
    address === undefined
      ? undefined
      : serve(formatAddressPort(address), async server => {
          await listenOnAddress(server, address)
          return () => undefined
        }),
    aborted(signal),
  ])
}
