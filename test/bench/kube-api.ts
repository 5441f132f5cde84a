// A small API server of Kubernetes for kube-proxy: list and watch of what its informers ask for (v1.36: Services without
// headless ones, EndpointSlices, ServiceCIDRs, its own Node) and events, which are taken and forgotten. JSON alone; plain HTTP;
// no authentication; everything in memory. Streaming lists (sendInitialEvents), bookmarks, "410 Gone" for what is too old.
// The words are those of https://kubernetes.io/docs/reference/using-api/api-concepts/.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { KubeObject } from './kube-objects.js'
import { type Selects, selectorOf } from './kube-select.js'

const resources = {
  services: { path: '/api/v1/services', apiVersion: 'v1', kind: 'Service' },
  nodes: { path: '/api/v1/nodes', apiVersion: 'v1', kind: 'Node' },
  namespaces: { path: '/api/v1/namespaces', apiVersion: 'v1', kind: 'Namespace' },
  endpointslices: {
    path: '/apis/discovery.k8s.io/v1/endpointslices',
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice' },
  },
  servicecidrs: {
    path: '/apis/networking.k8s.io/v1/servicecidrs',
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'ServiceCIDR' },
  },
} as const

export type KubeResource = keyof typeof resources

export interface KubeApiOptions {
  readonly host: string
  /** Default: any that is free. */
  readonly port?: number
  /** Events of each resource that a watch can still ask for. */
  readonly history?: number
  readonly bookmarkMs?: number
}

export interface KubeApi {
  readonly url: string
  readonly revision: number
  /** Watches that are open. */
  watches(resource: KubeResource): number
  /** Lines of what was asked, the first thousand: "GET /api/v1/nodes?watch=true". */
  readonly asked: readonly string[]
  /** Creates or changes it. Returns when the event was in the sockets of all who watch it, by performance.now(). */
  put(object: KubeObject): number
  remove(resource: KubeResource, key: string): void
  /** Cuts every open watch, as a restart of an API server does. */
  cut(): void
  close(): Promise<void>
}

interface Stored {
  readonly object: KubeObject
  /** With resourceVersion and uid, as it goes out. */
  readonly text: string
}

interface Change {
  readonly revision: number
  readonly before: Stored | undefined
  readonly after: Stored | undefined
}

interface Watch {
  readonly selects: Selects
  readonly bookmarks: boolean
  readonly response: ServerResponse
}

interface Shelf {
  readonly stored: Map<string, Stored>
  readonly changes: Change[]
  readonly watches: Set<Watch>
  /** A watch may begin here, or later. */
  oldest: number
}

/** An answer that is none of the resource: a Status. */
class Refusal extends Error {
  readonly code: number
  readonly reason: string

  constructor(code: number, reason: string, message: string) {
    super(message)
    this.code = code
    this.reason = reason
  }
}

const keyOf = ({ metadata: { namespace, name } }: KubeObject): string =>
  namespace === undefined ? name : `${namespace}/${name}`

function textOf(object: KubeObject, resourceVersion: number, uid: string): string {
  const metadata = { ...object.metadata, uid, resourceVersion: `${resourceVersion}` }
  return JSON.stringify({ ...object, metadata })
}

class Server implements KubeApi {
  revision = 1
  url = ''
  readonly asked: string[] = []
  readonly #shelves: Readonly<Record<KubeResource, Shelf>>
  readonly #history: number
  readonly #http = createServer((request, response) => this.#answer(request, response))
  readonly #timer: NodeJS.Timeout

  constructor({ history = 20_000, bookmarkMs = 60_000 }: KubeApiOptions) {
    this.#history = history
    const shelf = (): Shelf => ({ stored: new Map(), changes: [], watches: new Set(), oldest: 1 })
    this.#shelves = {
      services: shelf(),
      nodes: shelf(),
      namespaces: shelf(),
      endpointslices: shelf(),
      servicecidrs: shelf(),
    }
    // Watches last for minutes.
    this.#http.requestTimeout = 0
    this.#timer = setInterval(() => this.#bookmark(), bookmarkMs)
    this.#timer.unref()
  }

  async listen({ host, port = 0 }: KubeApiOptions): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject).listen({ host, port }, () => resolve())
    })
    const at = this.#http.address() as AddressInfo
    this.url = `http://${host}:${at.port}`
  }

  watches(resource: KubeResource): number {
    return this.#shelves[resource].watches.size
  }

  put(object: KubeObject): number {
    const resource = this.#resourceOf(object)
    const shelf = this.#shelves[resource]
    const key = keyOf(object)
    this.revision += 1
    const text = textOf(object, this.revision, `${resource}-${key}`)
    const after = { object, text }
    const before = shelf.stored.get(key)
    shelf.stored.set(key, after)
    return this.#tell(shelf, { revision: this.revision, before, after })
  }

  remove(resource: KubeResource, key: string): void {
    const shelf = this.#shelves[resource]
    const before = shelf.stored.get(key)
    if (before === undefined) return
    shelf.stored.delete(key)
    this.revision += 1
    // A deletion is told with the last of the object, at the revision of the deletion.
    const text = textOf(before.object, this.revision, `${resource}-${key}`)
    this.#tell(shelf, { revision: this.revision, before: { ...before, text }, after: undefined })
  }

  cut(): void {
    for (const { watches } of Object.values(this.#shelves))
      for (const { response } of watches) response.destroy()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    const closed = new Promise<void>(resolve => this.#http.close(() => resolve()))
    this.#http.closeAllConnections()
    await closed
  }

  #resourceOf({ apiVersion, kind }: KubeObject): KubeResource {
    const found = Object.entries(resources).find(
      ([, known]) => known.kind === kind && known.apiVersion === apiVersion,
    )
    if (found === undefined) throw new Error(`no resource for ${apiVersion} ${kind}`)
    return found[0] as KubeResource
  }

  #tell(shelf: Shelf, change: Change): number {
    shelf.changes.push(change)
    if (shelf.changes.length > this.#history) {
      const dropped = shelf.changes.splice(0, shelf.changes.length - (this.#history >> 1))
      shelf.oldest = dropped.at(-1)?.revision ?? shelf.oldest
    }
    for (const watch of shelf.watches) this.#sendChange(watch, change)
    return performance.now()
  }

  /** What a change is to one who sees only what its selector lets through. */
  #sendChange({ selects, response }: Watch, { before, after }: Change): void {
    const was = before !== undefined && selects(before.object)
    const is = after !== undefined && selects(after.object)
    if (is) this.#send(response, was ? 'MODIFIED' : 'ADDED', after.text)
    else if (was) this.#send(response, 'DELETED', before.text)
  }

  #send(response: ServerResponse, type: string, object: string): void {
    response.write(`{"type":"${type}","object":${object}}\n`)
  }

  #bookmark(): void {
    for (const [name, { watches }] of Object.entries(this.#shelves))
      for (const { bookmarks, response } of watches)
        if (bookmarks) this.#send(response, 'BOOKMARK', this.#mark(name as KubeResource, false))
  }

  /** An object that says how far a watch is; the one after a streamed list says that, too. */
  #mark(resource: KubeResource, initial: boolean): string {
    const { apiVersion, kind } = resources[resource]
    const annotations = initial ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}
    const metadata = { resourceVersion: `${this.revision}`, creationTimestamp: null, ...annotations }
    return JSON.stringify({ kind, apiVersion, metadata })
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://api')
    if (this.asked.length < 1_000) this.asked.push(`${request.method} ${url.pathname}${url.search}`)
    request.resume()
    try {
      this.#route(request, url, response)
    } catch (error) {
      const refusal =
        error instanceof Refusal ? error : new Refusal(400, 'BadRequest', (error as Error).message)
      const { code, reason, message } = refusal
      const status = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message }
      this.#json(response, code, JSON.stringify({ ...status, reason, code }))
    }
  }

  #json(response: ServerResponse, code: number, text: string): void {
    response.writeHead(code, { 'Content-Type': 'application/json' }).end(text)
  }

  #route(request: IncomingMessage, url: URL, response: ServerResponse): void {
    // Events that components write of themselves.
    if (request.method === 'POST' && url.pathname.endsWith('/events')) {
      const chunks: Buffer[] = []
      request.on('data', chunk => chunks.push(chunk as Buffer))
      request.on('end', () => this.#json(response, 201, Buffer.concat(chunks).toString()))
      return
    }
    const found = Object.entries(resources).find(([, { path }]) => path === url.pathname)
    if (found === undefined || request.method !== 'GET')
      throw new Refusal(404, 'NotFound', `the server could not find ${request.method} ${url.pathname}`)
    const accepts = request.headers.accept ?? '*/*'
    if (!/application\/json|\*\/\*|application\/\*/.test(accepts))
      throw new Refusal(406, 'NotAcceptable', `only application/json is served, not "${accepts}"`)
    const resource = found[0] as KubeResource
    const query = url.searchParams
    const selects = selectorOf(query.get('labelSelector'), query.get('fieldSelector'))
    if (['true', '1'].includes(query.get('watch') ?? '')) this.#watch(resource, query, selects, response)
    else this.#list(resource, query, selects, response)
  }

  #list(resource: KubeResource, query: URLSearchParams, selects: Selects, response: ServerResponse): void {
    if ((query.get('continue') ?? '') !== '' || query.get('resourceVersionMatch') === 'Exact')
      throw new Refusal(410, 'Expired', 'lists are served whole and of now')
    const { apiVersion, kind } = resources[resource]
    const items = [...this.#shelves[resource].stored.values()]
      .filter(({ object }) => selects(object))
      .map(({ text }) => text)
    const head = `{"kind":"${kind}List","apiVersion":"${apiVersion}","metadata":{"resourceVersion":"${this.revision}"}`
    this.#json(response, 200, `${head},"items":[${items.join()}]}`)
  }

  #watch(resource: KubeResource, query: URLSearchParams, selects: Selects, response: ServerResponse): void {
    const shelf = this.#shelves[resource]
    const from = Number(query.get('resourceVersion') ?? '0')
    const streamed = query.get('sendInitialEvents') === 'true'
    const bookmarks = query.get('allowWatchBookmarks') === 'true'
    if (streamed && query.get('resourceVersionMatch') !== 'NotOlderThan')
      throw new Refusal(422, 'Invalid', 'sendInitialEvents wants resourceVersionMatch=NotOlderThan')
    if (!streamed && from > 0 && from < shelf.oldest)
      throw new Refusal(410, 'Expired', `too old resource version: ${from} (${shelf.oldest})`)
    if (from > this.revision)
      throw new Refusal(504, 'Timeout', `Too large resource version: ${from}, current: ${this.revision}`)
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.flushHeaders()
    const watch = { selects, bookmarks, response }
    if (streamed || from === 0) {
      for (const { object, text } of shelf.stored.values())
        if (selects(object)) this.#send(response, 'ADDED', text)
      if (streamed) this.#send(response, 'BOOKMARK', this.#mark(resource, true))
    } else {
      for (const change of shelf.changes) if (change.revision > from) this.#sendChange(watch, change)
    }
    shelf.watches.add(watch)
    const seconds = Number(query.get('timeoutSeconds') ?? '0')
    const late = seconds > 0 ? setTimeout(() => response.end(), seconds * 1000) : undefined
    late?.unref()
    response.on('close', () => {
      clearTimeout(late)
      shelf.watches.delete(watch)
    })
  }
}

/** Listens from the moment that it resolves. */
export async function startKubeApi(options: KubeApiOptions): Promise<KubeApi> {
  const server = new Server(options)
  await server.listen(options)
  return server
}
