// What the control API answers to which request: one literal table. Every handler gives a value for JSON, a stream of
// lines, or throws a WarrenError whose code decides the status. The reference page is docs/reference/api.md.
import { asError, WarrenError } from '../../lib/errors.js'
import type { Receipt } from '../../lib/reconcile/receipt.js'
import { nearest } from '../model/check.js'
import type { TableName } from '../model/desired.js'
import type { Control } from './control.js'

export interface ApiRequest {
  readonly params: Readonly<Record<string, string | undefined>>
  readonly query: URLSearchParams
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** Aborts when the client goes away or the server ends. */
  readonly signal: AbortSignal
  /** UTF-8, at most maxBodyBytes. Errors: INVALID, TOO_LARGE. */
  body(): Promise<string>
}

export type ApiReply =
  | { readonly json: unknown; readonly status?: number }
  /** NDJSON: what is there, then, with `follow`, what comes until the signal aborts. */
  | {
      readonly lines: readonly unknown[]
      readonly follow?: (write: (line: unknown) => void, signal: AbortSignal) => void
    }

export interface Route {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  handle(request: ApiRequest, control: Control): ApiReply | Promise<ApiReply>
}

/** A day: nobody waits longer for one answer. */
const maxWaitMs = 86_400_000

const tables: Readonly<Record<TableName, true>> = {
  sysctl: true,
  link: true,
  'link-sysctl': true,
  port: true,
  address: true,
  neighbor: true,
  fdb: true,
  rule: true,
  filter: true,
  element: true,
  health: true,
  proxy: true,
  service: true,
  'service-iptables': true,
  jump: true,
  route: true,
  netns: true,
  'fabric-sysctl': true,
  'fabric-filter': true,
  'fabric-element': true,
  'fabric-link': true,
  'fabric-address': true,
  'fabric-neighbor': true,
  'fabric-fdb': true,
  'fabric-route': true,
  guest: true,
  dhcp: true,
  'bgp-speaker': true,
  'bgp-policy': true,
  'bgp-path': true,
  'bgp-peer': true,
  conntrack: true,
  'fabric-conntrack': true,
  file: true,
  record: true,
}

const statuses: Readonly<Record<string, number>> = {
  INVALID: 400,
  NOT_FOUND: 404,
  NOTFOUND: 404,
  METHOD: 405,
  CONFLICT: 409,
  HANDWRITTEN: 409,
  STORE_EMPTY: 409,
  TOO_LARGE: 413,
  UNAVAILABLE: 503,
  UNAUTHENTICATED: 503,
  TIMEOUT: 504,
}

/** The body and the status of an error. */
export function errorReply(thrown: unknown): { readonly json: ApiError; readonly status: number } {
  const { code, message, hint } = asError(thrown)
  return { json: { code, message, ...(hint === undefined ? {} : { hint }) }, status: statuses[code] ?? 500 }
}

export interface ApiError {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

function invalid(what: string, value: string, reason: string): WarrenError {
  return new WarrenError(`Cannot use ${what} "${printable(value, 80)}": ${reason}`, { code: 'INVALID' })
}

/** Without control characters and cut at a length: it is printed in messages. */
function printable(text: string, max: number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what has to go
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?')
  return clean.length > max ? `${clean.slice(0, max - 3)}...` : clean
}

function wholeNumber(query: URLSearchParams, name: string, max: number): number | undefined {
  const text = query.get(name)
  if (text === null) return undefined
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!(value <= max)) throw invalid(`query "${name}"`, text, `not a whole number up to ${max}`)
  return value
}

function flag(query: URLSearchParams, name: string): boolean {
  const text = query.get(name)
  if (text === null || text === '0' || text === 'false') return false
  if (text === '' || text === '1' || text === 'true') return true
  throw invalid(`query "${name}"`, text, 'not 1 or 0')
}

function fileOf({ query, headers }: ApiRequest): string {
  const header = headers['file']
  const name = query.get('file') ?? (typeof header === 'string' ? header : undefined)
  return name === undefined || name === '' ? 'request' : printable(name, 1024)
}

function tableOf(name: string | undefined): TableName | undefined {
  if (name === undefined || name === '') return undefined
  if (Object.hasOwn(tables, name)) return name as TableName
  const near = nearest(name, Object.keys(tables))
  throw new WarrenError(`Cannot show table "${printable(name, 40)}": there is no such table`, {
    code: 'NOT_FOUND',
    hint: near === undefined ? `tables: ${Object.keys(tables).join(', ')}` : `did you mean "${near}"?`,
  })
}

/** `{"refs": ["service/default/web"]}` */
function refsOf(text: string): readonly string[] {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    body = undefined
  }
  const refs = typeof body === 'object' && body !== null && 'refs' in body ? body.refs : undefined
  if (Array.isArray(refs) && refs.every(ref => typeof ref === 'string')) return refs
  throw invalid('body', text, 'not {"refs": ["kind/name"]}')
}

function readiness(control: Control): ApiReply {
  if (control.ready()) return { json: { status: 'ok' } }
  const { hold, sources } = control.status()
  const waiting = sources.filter(source => !source.inSync)
  const reason =
    hold ??
    (waiting.length === 0
      ? 'the first pass is not over'
      : `not in sync: ${waiting.map(({ name, error }) => (error === undefined ? name : `${name} (${error})`)).join(', ')}`)
  return {
    status: 503,
    json: { code: 'UNAVAILABLE', message: `Not ready: ${reason}`, hint: 'warren status' } satisfies ApiError,
  }
}

function events({ query }: ApiRequest, control: Control): ApiReply {
  const after = wholeNumber(query, 'after', Number.MAX_SAFE_INTEGER) ?? 0
  const lines = control.events(after)
  if (!flag(query, 'follow')) return { lines }
  const last = lines.at(-1)?.id ?? after
  return {
    lines,
    follow(write, signal) {
      control.follow((receipt: Receipt) => {
        if (receipt.id > last) write(receipt)
      }, signal)
    },
  }
}

export const routes: readonly Route[] = [
  { method: 'GET', path: '/healthz', handle: () => ({ json: { status: 'ok' } }) },
  { method: 'GET', path: '/readyz', handle: (_, control) => readiness(control) },
  { method: 'GET', path: '/v1/status', handle: (_, control) => ({ json: control.status() }) },
  {
    method: 'GET',
    path: '/v1/objects/:kind',
    handle: async ({ params }, control) => ({ json: await control.get(params['kind'] ?? '') }),
  },
  {
    method: 'GET',
    path: '/v1/objects/:kind/*',
    handle: async ({ params }, control) => ({ json: await control.get(params['kind'] ?? '', params['*']) }),
  },
  {
    method: 'GET',
    path: '/v1/services',
    async handle({ query, signal }, control) {
      const namespace = query.get('namespace') ?? undefined
      return { json: await control.services({ namespace, connections: flag(query, 'connections') }, signal) }
    },
  },
  { method: 'GET', path: '/v1/bgp', handle: async (_, control) => ({ json: await control.bgp() }) },
  {
    method: 'GET',
    path: '/v1/bgp/routes',
    handle: async ({ query }, control) => ({
      json: await control.bgpRoutes(query.get('within') ?? undefined),
    }),
  },
  {
    method: 'GET',
    path: '/v1/describe/:kind/*',
    handle: async ({ params, signal }, control) => ({
      json: await control.describe(params['kind'] ?? '', params['*'] ?? '', signal),
    }),
  },
  {
    method: 'DELETE',
    path: '/v1/objects/*',
    handle: async ({ params }, control) => ({ json: await control.delete(params['*'] ?? '') }),
  },
  {
    method: 'POST',
    path: '/v1/apply',
    handle: async (request, control) => ({
      json: await control.apply(await request.body(), fileOf(request)),
    }),
  },
  {
    method: 'POST',
    path: '/v1/delete',
    handle: async (request, control) => ({ json: await control.deleteMany(refsOf(await request.body())) }),
  },
  {
    method: 'POST',
    path: '/v1/plan',
    async handle(request, control) {
      const text = await request.body()
      const plan = await control.plan(text === '' ? undefined : text, fileOf(request), request.signal)
      return { json: plan }
    },
  },
  {
    method: 'GET',
    path: '/v1/show/:side/:table?',
    async handle({ params, signal }, control) {
      const side = params['side'] ?? ''
      if (side !== 'desired' && side !== 'observed') throw invalid('side', side, 'not desired or observed')
      return { json: await control.show(side, tableOf(params['table']), signal) }
    },
  },
  { method: 'GET', path: '/v1/events', handle: events },
  {
    method: 'GET',
    path: '/v1/wait',
    async handle({ query, signal }, control) {
      const revision = wholeNumber(query, 'revision', Number.MAX_SAFE_INTEGER)
      const timeoutMs = wholeNumber(query, 'timeoutMs', maxWaitMs) ?? 10_000
      return { json: await control.wait(revision, timeoutMs, signal) }
    },
  },
]
