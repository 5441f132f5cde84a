// The client of the control API: HTTP over the unix socket by node:http alone, so that `warren status` starts quickly.
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import { codeOf, hasCode, WarrenError } from '../../lib/errors.js'
import type { Receipt } from '../../lib/reconcile/receipt.js'
import type { BgpRouteView, BgpView } from './bgp-view.js'
import type {
  ApplyResult,
  DeleteManyResult,
  DeleteResult,
  ObjectWithOrigin,
  PlanResult,
  ShownObject,
  Status,
} from './control.js'
import type { Description, ServiceList } from './views.js'

export interface ClientOptions {
  readonly socket: string
  /** Milliseconds for an answer; default 30,000. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

/** Every call rejects with the WarrenError that the daemon sent, or with UNREACHABLE. */
export interface Client {
  readonly socket: string
  /** Resolves when the daemon answers. */
  ping(): Promise<void>
  status(): Promise<Status>
  get(kind: string, name?: string): Promise<readonly ObjectWithOrigin[]>
  services(query: {
    readonly namespace?: string | undefined
    readonly connections: boolean
  }): Promise<ServiceList>
  bgp(): Promise<BgpView>
  bgpRoutes(within?: string): Promise<readonly BgpRouteView[]>
  describe(kind: string, name: string): Promise<Description>
  apply(text: string, file: string): Promise<ApplyResult>
  delete(ref: string): Promise<DeleteResult>
  deleteMany(refs: readonly string[]): Promise<DeleteManyResult>
  plan(text?: string, file?: string): Promise<PlanResult>
  show(
    side: 'desired' | 'observed',
    table?: string,
  ): Promise<Readonly<Record<string, readonly ShownObject[]>>>
  events(after?: number): Promise<readonly Receipt[]>
  /** What is there after `after`, then what comes; ends when the daemon does. */
  follow(after: number, listener: (receipt: Receipt) => void): Promise<void>
  wait(revision: number | undefined, timeoutMs: number): Promise<Status>
}

/** Nobody answers on the socket: not there, refused, no permission. */
export const unreachable = 'UNREACHABLE'

function connectError(socket: string, error: unknown): WarrenError {
  const code = codeOf(error)
  const cause = error instanceof Error ? error : undefined
  if (code === 'EACCES' || code === 'EPERM')
    return new WarrenError(`Cannot reach warrend on "${socket}": ${code}`, {
      code: unreachable,
      hint: 'run it as root, or as a member of the group that socketGroup names',
      cause,
    })
  if (hasCode(error, 'ENOENT', 'ECONNREFUSED', 'ENOTSOCK', 'ENOTDIR', 'EAGAIN'))
    return new WarrenError(`warrend does not answer on "${socket}": ${code}`, {
      code: unreachable,
      hint: 'systemctl status warrend; another socket: --socket PATH or WARREN_SOCKET',
      cause,
    })
  return new WarrenError(`Cannot talk to warrend on "${socket}": ${cause?.message ?? code}`, {
    code: unreachable,
    hint: 'systemctl status warrend',
    cause,
  })
}

interface Call {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly body?: string
  /** Milliseconds; Infinity: no limit. */
  readonly timeoutMs?: number
}

/** Thousands of objects a second are usual; 5 on a host that is busy with them, before a store whose disk is slow. */
const manyMs = (objects: number): number => 30_000 + objects * 200

const documentsOf = (text: string): number => text.match(/^---/gm)?.length ?? 0

function send(options: ClientOptions, call: Call): Promise<IncomingMessage> {
  const { socket, signal } = options
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(call.query ?? {}))
    if (value !== undefined) query.set(name, String(value))
  const timeoutMs = call.timeoutMs ?? options.timeoutMs ?? 30_000
  return new Promise((resolve, reject) => {
    const request: ClientRequest = httpRequest({
      socketPath: socket,
      method: call.method,
      path: query.size === 0 ? call.path : `${call.path}?${query}`,
      headers: {
        host: 'warren',
        connection: 'close',
        ...(call.body === undefined
          ? {}
          : { 'content-type': 'text/yaml; charset=utf-8', 'content-length': Buffer.byteLength(call.body) }),
      },
      agent: false,
      ...(signal === undefined ? {} : { signal }),
    })
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      request.setTimeout(timeoutMs, () => {
        request.destroy(
          new WarrenError(`warrend on "${socket}" gave no answer for ${timeoutMs / 1000} s`, {
            code: unreachable,
            hint: 'journalctl -u warrend',
          }),
        )
      })
    }
    request.once('error', error =>
      reject(error instanceof WarrenError || signal?.aborted ? error : connectError(socket, error)),
    )
    request.once('response', resolve)
    request.end(call.body)
  })
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

async function failureOf(response: IncomingMessage): Promise<WarrenError> {
  const text = await textOf(response)
  try {
    const { code, message, hint } = JSON.parse(text) as Readonly<Record<string, unknown>>
    if (typeof code === 'string' && typeof message === 'string')
      return new WarrenError(message, { code, ...(typeof hint === 'string' ? { hint } : {}) })
  } catch {
    // not our server, or one that broke off
  }
  return new WarrenError(`Cannot understand the answer on the socket: HTTP ${response.statusCode}`, {
    code: unreachable,
    hint: 'does warrend listen there?',
  })
}

/** A client of the daemon that listens on `socket`; nothing is opened before the first call. */
export function createClient(options: ClientOptions): Client {
  const { socket } = options

  async function open(call: Call): Promise<IncomingMessage> {
    const response = await send(options, call)
    if (response.statusCode !== 200) throw await failureOf(response)
    return response
  }

  async function json<T>(call: Call): Promise<T> {
    try {
      return JSON.parse(await textOf(await open(call))) as T
    } catch (error) {
      if (error instanceof WarrenError || options.signal?.aborted) throw error
      throw connectError(socket, error)
    }
  }

  async function lines(call: Call, listener: (receipt: Receipt) => void): Promise<void> {
    const response = await open(call)
    let rest = ''
    response.setEncoding('utf8')
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        const parts = (rest + chunk).split('\n')
        rest = parts.pop() ?? ''
        for (const line of parts) if (line !== '') listener(JSON.parse(line) as Receipt)
      }
    } catch (error) {
      if (options.signal?.aborted) throw error
      throw connectError(socket, error)
    }
  }

  const segment = encodeURIComponent
  const pathOf = (ref: string): string => ref.split('/').map(segment).join('/')

  return {
    socket,
    ping: async () => {
      await json({ method: 'GET', path: '/healthz', timeoutMs: 5_000 })
    },
    status: () => json({ method: 'GET', path: '/v1/status' }),
    get: (kind, name) =>
      json({
        method: 'GET',
        path: `/v1/objects/${segment(kind)}${name === undefined ? '' : `/${pathOf(name)}`}`,
      }),
    services: ({ namespace, connections }) =>
      json({
        method: 'GET',
        path: '/v1/services',
        query: { namespace, connections: connections ? 1 : 0 },
        timeoutMs: 60_000,
      }),
    bgp: () => json({ method: 'GET', path: '/v1/bgp' }),
    bgpRoutes: within =>
      json({ method: 'GET', path: '/v1/bgp/routes', query: { within }, timeoutMs: 60_000 }),
    describe: (kind, name) =>
      json({ method: 'GET', path: `/v1/describe/${segment(kind)}/${pathOf(name)}`, timeoutMs: 60_000 }),
    apply: (body, file) =>
      json({
        method: 'POST',
        path: '/v1/apply',
        query: { file },
        body,
        timeoutMs: manyMs(documentsOf(body)),
      }),
    delete: ref => json({ method: 'DELETE', path: `/v1/objects/${pathOf(ref)}` }),
    deleteMany: refs =>
      json({
        method: 'POST',
        path: '/v1/delete',
        body: JSON.stringify({ refs }),
        timeoutMs: manyMs(refs.length),
      }),
    plan: (body = '', file) =>
      json({ method: 'POST', path: '/v1/plan', query: { file }, body, timeoutMs: 60_000 }),
    show: (side, table) =>
      json({
        method: 'GET',
        path: `/v1/show/${side}${table === undefined ? '' : `/${segment(table)}`}`,
        timeoutMs: 60_000,
      }),
    async events(after) {
      const receipts: Receipt[] = []
      await lines({ method: 'GET', path: '/v1/events', query: { after } }, receipt => receipts.push(receipt))
      return receipts
    },
    follow: (after, listener) =>
      lines(
        {
          method: 'GET',
          path: '/v1/events',
          query: { after, follow: 1 },
          timeoutMs: Number.POSITIVE_INFINITY,
        },
        listener,
      ),
    wait: (revision, timeoutMs) =>
      json({
        method: 'GET',
        path: '/v1/wait',
        query: { revision, timeoutMs: Math.round(timeoutMs) },
        timeoutMs: timeoutMs + 5_000,
      }),
  }
}
