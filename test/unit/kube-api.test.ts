// The API server of the benchmark's kube-proxy rows (test/bench/kube-api.ts), asked as client-go's reflector asks: a streamed
// list, or a list and a watch from its resourceVersion; again from where it was after a cut; a new list after 410.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { type KubeApi, type KubeResource, startKubeApi } from '../bench/kube-api.js'
import {
  type KubeObject,
  kubeEndpointSlice,
  kubeNode,
  kubeService,
  kubeServiceCidr,
} from '../bench/kube-objects.js'
import { goSeconds } from '../bench/kube-proxy.js'
import { endpointsOf, serviceOf } from '../bench/services-fleet.js'

const paths: Partial<Record<KubeResource, string>> = {
  services: '/api/v1/services',
  nodes: '/api/v1/nodes',
  endpointslices: '/apis/discovery.k8s.io/v1/endpointslices',
}
// As v1.36 asks them (cmd/kube-proxy/app/server.go).
const noHeadless = `labelSelector=${encodeURIComponent('!service.kubernetes.io/service-proxy-name')}&fieldSelector=${encodeURIComponent('spec.clusterIP!=None')}`

interface Event {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'
  readonly object: KubeObject & {
    readonly metadata: { readonly resourceVersion: string; readonly uid?: string }
  }
}

/** What a reflector has of a resource, and how it got it. */
class Reflector {
  readonly store = new Map<string, Event['object']>()
  readonly seen: string[] = []
  version = ''
  lists = 0
  readonly #url: string
  readonly #stop = new AbortController()

  constructor(url: string) {
    this.#url = url
  }

  get names(): string {
    return [...this.store.keys()].sort().join(' ')
  }

  async list(): Promise<void> {
    const response = await fetch(`${this.#url}&limit=500&resourceVersion=0`)
    const list = (await response.json()) as {
      readonly metadata: { readonly resourceVersion: string }
      readonly items: readonly Event['object'][]
    }
    this.lists += 1
    this.store.clear()
    for (const item of list.items) this.store.set(item.metadata.name, item)
    this.version = list.metadata.resourceVersion
  }

  /** Until the watch ends; its status. */
  async watch(more = ''): Promise<number> {
    const from = more === '' ? `&resourceVersion=${this.version}` : more
    const response = await fetch(
      `${this.#url}&watch=true&allowWatchBookmarks=true&timeoutSeconds=300${from}`,
      { signal: this.#stop.signal },
    )
    if (response.status !== 200) return response.status
    let rest = ''
    try {
      for await (const chunk of response.body ?? []) {
        const lines = (rest + Buffer.from(chunk).toString()).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) this.#take(JSON.parse(line) as Event)
      }
    } catch {
      // Cut, or at our end.
    }
    return 200
  }

  #take({ type, object }: Event): void {
    const { name, resourceVersion, annotations } = object.metadata
    const end = annotations?.['k8s.io/initial-events-end'] === 'true' ? ' end' : ''
    this.seen.push(type === 'BOOKMARK' ? `BOOKMARK${end}` : `${type} ${name}`)
    this.version = resourceVersion
    if (type === 'DELETED') this.store.delete(name)
    else if (type !== 'BOOKMARK') this.store.set(name, object)
  }

  stop(): void {
    this.#stop.abort()
  }
}

async function soon(what: () => boolean): Promise<void> {
  for (let i = 0; i < 400 && !what(); i += 1) await delay(5)
}

function of(api: KubeApi, resource: KubeResource, query = ''): Reflector {
  return new Reflector(`${api.url}${paths[resource]}?${query}`)
}

const headless = (name: string): KubeObject => ({
  ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default' } },
  spec: { clusterIP: 'None', ports: [] },
})

t.test('kube-api: a reflector has what was put, and follows it', async t => {
  const api = await startKubeApi({ host: '127.0.0.1', bookmarkMs: 20, history: 8 })
  t.teardown(() => api.close())
  for (const n of [0, 1, 2]) api.put(kubeService(serviceOf(n)))
  api.put(headless('none'))

  const listed = of(api, 'services', noHeadless)
  await listed.list()
  t.equal(listed.names, 'svc-0 svc-1 svc-2', 'the field selector keeps the headless one out')
  t.match(listed.store.get('svc-1'), {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'default', uid: 'services-default/svc-1' },
    spec: { clusterIP: '172.16.1.1', ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }] },
  })
  const watching = listed.watch()
  await soon(() => api.watches('services') === 1)
  api.put(kubeService(serviceOf(3)))
  api.put(kubeService(serviceOf(1, '172.16.9.9')))
  api.remove('services', 'default/svc-0')
  // A Service that becomes headless is gone for who does not see those, and comes back.
  api.put(headless('svc-2'))
  api.put(headless('none'))
  await soon(() => listed.names === 'svc-1 svc-3' && listed.seen.includes('BOOKMARK'))
  t.strictSame(
    listed.seen.filter(line => !line.startsWith('BOOKMARK')),
    ['ADDED svc-3', 'MODIFIED svc-1', 'DELETED svc-0', 'DELETED svc-2'],
  )
  t.match(listed.store.get('svc-1'), { spec: { clusterIP: '172.16.9.9' } })
  await soon(() => listed.version === `${api.revision}`)
  t.equal(listed.version, `${api.revision}`, 'a bookmark says how far it is, past what it does not see')

  api.cut()
  t.equal(await watching, 200)
  await soon(() => api.watches('services') === 0)
  api.put(kubeService(serviceOf(2)))
  listed.seen.length = 0
  const again = listed.watch()
  await soon(() => listed.seen.some(line => line.startsWith('ADDED')))
  t.strictSame(
    listed.seen.filter(line => !line.startsWith('BOOKMARK')),
    ['ADDED svc-2'],
    'after a cut: what it missed, and nothing twice',
  )
  t.equal(listed.lists, 1)
  listed.stop()
  await again

  const late = of(api, 'services', noHeadless)
  // Eight changes are kept.
  for (let i = 0; i < 9; i += 1) api.put(kubeService(serviceOf(i)))
  t.equal(await late.watch('&resourceVersion=2'), 410, 'too old: list again')
  t.equal(await late.watch('&resourceVersion=99999'), 504, 'of another life of the server')
  await late.list()
  t.equal(late.store.size, 9)
})

t.test(
  'kube-api: lists that are streamed, one node alone, endpoints, and what it does not serve',
  async t => {
    const api = await startKubeApi({ host: '127.0.0.1' })
    t.teardown(() => api.close())
    api.put(kubeNode('h1', '198.18.0.1'))
    api.put(kubeNode('h2', '198.18.0.2'))
    api.put(kubeServiceCidr(['172.16.0.0/12']))
    api.put(kubeEndpointSlice(endpointsOf(7, 2)))

    const node = of(api, 'nodes', `fieldSelector=${encodeURIComponent('metadata.name=h1')}`)
    const watching = node.watch('&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=')
    await soon(() => node.seen.length === 2)
    t.strictSame(node.seen, ['ADDED h1', 'BOOKMARK end'], 'all that there is, and the mark of its end')
    t.equal(node.version, `${api.revision}`)
    t.match(node.store.get('h1'), { status: { addresses: [{ type: 'InternalIP', address: '198.18.0.1' }] } })
    api.put(kubeNode('h2', '198.18.0.9'))
    api.put(kubeNode('h1', '198.18.0.8'))
    await soon(() => node.seen.length === 3)
    t.strictSame(node.seen.slice(2), ['MODIFIED h1'])
    node.stop()
    await watching

    const slices = of(
      api,
      'endpointslices',
      `labelSelector=${encodeURIComponent('!service.kubernetes.io/headless')}`,
    )
    await slices.list()
    t.match(slices.store.get('svc-7-1'), {
      addressType: 'IPv4',
      metadata: { labels: { 'kubernetes.io/service-name': 'svc-7' } },
      endpoints: [
        {
          addresses: ['10.128.0.14'],
          conditions: { ready: true, serving: true, terminating: false },
          nodeName: 'sim-7',
        },
        { addresses: ['10.128.0.15'] },
      ],
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    })
    const status = async (path: string, init?: RequestInit): Promise<number> =>
      (await fetch(`${api.url}${path}`, init)).status
    t.equal(await status('/apis/networking.k8s.io/v1/servicecidrs'), 200)
    const event = { method: 'POST', body: '{"kind":"Event"}' }
    t.equal(await status('/apis/events.k8s.io/v1/namespaces/default/events', event), 201)
    t.equal(await status('/api/v1/pods'), 404)
    t.equal(
      await status('/api/v1/nodes', { headers: { accept: 'application/vnd.kubernetes.protobuf' } }),
      406,
    )
    t.equal(await status('/api/v1/nodes?watch=true&sendInitialEvents=true'), 422)
    t.equal(await status('/api/v1/nodes?fieldSelector=a%20in%20(b)'), 400)
  },
)

t.test('kube-api: durations of its log', async t => {
  for (const [text, seconds] of [
    ['812.4ms', 0.8124],
    ['2.5s', 2.5],
    ['1m2.5s', 62.5],
    ['93.1µs', 0.0000931],
    ['1h0m0s', 3600],
  ] as const)
    t.ok(Math.abs(goSeconds(text) - seconds) < 1e-9, text)
})
