// What `warren apply` and `warren delete` refuse, claim and release of Services: on a store in memory, no agent running.
import t from 'tap'
import { parseDocuments } from '../../agent/model/document.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import { applyText, deleteRef } from '../../agent/model-store.js'
import { deleteObject } from '../../agent/object-delete.js'
import { applyObjects } from '../../agent/objects.js'
import { createServiceAllocator } from '../../agent/service-alloc.js'
import { createStore } from '../../agent/store.js'
import { systemClock } from '../../lib/clock.js'
import type { Kv } from '../../lib/kv/kv.js'
import { memoryKv } from '../../lib/kv/memory.js'
import { silentLog } from '../../lib/log.js'

const doc = (kind: string, name: string, spec: string, namespace = ''): string =>
  `apiVersion: warren/v1\nkind: ${kind}\nmetadata: { name: ${name}${namespace === '' ? '' : `, namespace: ${namespace}`} }\nspec: { ${spec} }\n`
const cluster = (spec = 'serviceCIDRs: [10.0.0.0/24]'): string =>
  doc('Cluster', 'default', `podCIDRs: [10.244.0.0/16], ${spec}`)
const http = 'ports: [{ name: http, port: 80 }]'
const nodePort = (port: number, protocol = 'TCP'): string =>
  `type: NodePort, ports: [{ name: http, port: 80, protocol: ${protocol}, nodePort: ${port} }]`
const service = (name: string, spec = http, namespace = ''): string => doc('Service', name, spec, namespace)

function object(text: string): ModelObject {
  const [first] = parseDocuments(text, { file: 'x.yaml', strict: true }).objects
  if (first === undefined) throw new Error('the text of the test itself is bad')
  return first.object
}

/** Pool and value of every record, with its owner. */
async function records(kv: Kv): Promise<Readonly<Record<string, string>>> {
  const { entries } = await kv.list('alloc/')
  return Object.fromEntries(
    entries.map(({ key, value }) => [key.slice('alloc/'.length), JSON.parse(value).owner as string]),
  )
}

interface Said {
  readonly outcomes: string
  readonly said: readonly string[]
}

async function apply(kv: Kv, ...texts: string[]): Promise<Said> {
  const { results, problems } = await applyText(kv, texts.join('---\n'), 'x.yaml', {})
  const all = [...results.flatMap(each => each.problems), ...problems]
  return {
    outcomes: results.map(each => each.outcome).join(' '),
    said: all.map(each => `${each.level} ${each.code} ${each.message}`),
  }
}

async function store(...texts: string[]): Promise<Kv> {
  const kv = memoryKv()
  await apply(kv, cluster(), ...texts)
  return kv
}

t.test('a Service with values that it cannot have is refused, and the message says why', async t => {
  const taken = await store(
    service('web', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`),
    service('out', `externalIPs: [198.51.100.7], ${http}`),
  )
  const at = 'Cannot use service/default/new (x.yaml:1): '
  const cases: readonly (readonly [string, string])[] = [
    [
      `clusterIPs: [10.9.0.1], ${http}`,
      `CLUSTER_IP ${at}clusterIPs "10.9.0.1" is outside serviceCIDRs 10.0.0.0/24`,
    ],
    [
      `clusterIPs: [10.0.0.255], ${http}`,
      `CLUSTER_IP ${at}clusterIPs "10.0.0.255" is the broadcast address of 10.0.0.0/24`,
    ],
    [
      `clusterIPs: ["fd00::1"], ${http}`,
      `IP_FAMILY ${at}clusterIPs "fd00::1" cannot be had: the Cluster has no IPv6 serviceCIDRs`,
    ],
    [
      `ipFamilies: [IPv6], ${http}`,
      `IP_FAMILY ${at}family IPv6 cannot be had: the Cluster has no IPv6 serviceCIDRs`,
    ],
    [
      `clusterIPs: [10.0.0.9], ${http}`,
      `CLUSTER_IP_TAKEN ${at}clusterIPs "10.0.0.9" is taken: "service/default/web" has it`,
    ],
    [
      nodePort(31234),
      `NODE_PORT_TAKEN ${at}nodePort of port http "31234/tcp" is taken: "service/default/web:http" has it`,
    ],
    [nodePort(80), `NODE_PORT ${at}nodePort of port http "80/tcp" is outside nodePortRange 30000-32767`],
    [
      `type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31234, ${http}`,
      `NODE_PORT_TAKEN ${at}healthCheckNodePort "31234/tcp" is taken: "service/default/web:http" has it`,
    ],
    [
      `externalIPs: [10.0.0.77], ${http}`,
      `EXTERNAL_IP ${at}externalIPs "10.0.0.77" is inside serviceCIDRs 10.0.0.0/24, where no address from outside is`,
    ],
    [
      `type: LoadBalancer, loadBalancerIPs: [10.244.3.4], ${http}`,
      `EXTERNAL_IP ${at}loadBalancerIPs "10.244.3.4" is inside podCIDRs 10.244.0.0/16, where no address from outside is`,
    ],
    [
      `externalIPs: [198.51.100.7], ${http}`,
      `ENTRY_TAKEN ${at}externalIPs "198.51.100.7" is taken at port 80/TCP: "service/default/out" has it`,
    ],
  ]
  const before = (await taken.list('')).revision
  for (const [spec, message] of cases)
    t.same(await apply(taken, service('new', spec)), { outcomes: 'refused', said: [`error ${message}`] })
  t.equal((await taken.list('')).revision, before, 'and nothing was written')

  for (const fine of [
    nodePort(31234, 'UDP'),
    'externalIPs: [198.51.100.7], ports: [{ port: 81 }]',
    'clusterIPs: [None]',
  ])
    t.same((await apply(taken, service('new', fine))).said, [], fine)
})

t.test('two of one file that want the same value: the second is named, and nothing is written', async t => {
  const kv = await store()
  const two = [
    service('b', `clusterIPs: [10.0.0.9], ${http}`),
    service('a', `clusterIPs: [10.0.0.9], ${http}`),
  ]
  const { outcomes, said } = await apply(kv, ...two)
  t.equal(outcomes, 'refused refused')
  t.match(said, [
    /CLUSTER_IP_TAKEN .*service\/default\/a .*"10.0.0.9" is taken: "service\/default\/b" has it/,
  ])
  t.same(await records(kv), {})
})

t.test('what the spec gives is claimed with the object, what it leaves out is not', async t => {
  const kv = await store(service('web', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`), service('free'))
  const has = {
    'service-ipv4/10.0.0.9': 'service/default/web',
    'nodeport/tcp-31234': 'service/default/web:http',
  }
  t.same(await records(kv), has)
  const { entries } = await kv.list('')
  const revisions = entries
    .filter(({ key }) => key.startsWith('alloc/') || key.endsWith('/web'))
    .map(each => each.modRevision)
  t.equal(new Set(revisions).size, 1, 'in one transaction')

  const { revision } = await kv.list('')
  const again = service('web', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`)
  t.same(await apply(kv, again), { outcomes: 'unchanged', said: [] })
  t.equal((await kv.list('')).revision, revision, 'the same again writes nothing')
  await kv.txn({ compare: [], puts: [], deletes: ['alloc/nodeport/tcp-31234'] })
  t.equal((await apply(kv, again)).outcomes, 'unchanged')
  t.same(await records(kv), has, 'but for a record that was lost')

  await apply(
    kv,
    service(
      'web',
      `clusterIPs: [10.0.0.9], type: NodePort, ports: [{ name: other, port: 81, nodePort: 31234 }]`,
    ),
  )
  t.same(
    await records(kv),
    { ...has, 'nodeport/tcp-31234': 'service/default/web:other' },
    'renamed, renumbered',
  )
})

t.test(
  'a type that changes there and back keeps its values; another may take what is not in use',
  async t => {
    const kv = await store(service('web', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`))
    const before = await records(kv)
    await apply(kv, service('web', `clusterIPs: [10.0.0.9], ${http}`))
    t.same(await records(kv), before, 'the agents release it, a minute later')
    await apply(kv, service('web', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`))
    t.same(await records(kv), before)
    await apply(kv, service('web', `clusterIPs: [10.0.0.9], ${http}`))
    t.same(await apply(kv, service('db', nodePort(31234))), { outcomes: 'created', said: [] })
    t.equal((await records(kv))['nodeport/tcp-31234'], 'service/default/db:http')
    t.match(await apply(kv, service('web', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`)), {
      outcomes: 'refused',
      said: [/NODE_PORT_TAKEN .*"service\/default\/db:http" has it/],
    })
    const swap = await store(
      service('a', `clusterIPs: [10.0.0.1], ${http}`),
      service('b', `clusterIPs: [10.0.0.2], ${http}`),
    )
    t.same(
      await apply(
        swap,
        service('a', `clusterIPs: [10.0.0.2], ${http}`),
        service('b', `clusterIPs: [10.0.0.1], ${http}`),
      ),
      { outcomes: 'changed changed', said: [] },
      'two that swap',
    )
    t.same(await records(swap), {
      'service-ipv4/10.0.0.1': 'service/default/b',
      'service-ipv4/10.0.0.2': 'service/default/a',
    })
  },
)

t.test('delete takes the records along, and another name has them at once', async t => {
  const spec = `clusterIPs: [10.0.0.9], ${nodePort(31234)}`
  const kv = await store(service('web', spec), service('web', http, 'shop'))
  await kv.txn({
    compare: [],
    puts: [{ key: 'alloc/service-ipv4/10.0.0.5', value: '{"owner":"service/shop/web"}' }],
    deletes: [],
  })
  const { revision } = await deleteRef(kv, 'services/web', {})
  t.same(await records(kv), { 'service-ipv4/10.0.0.5': 'service/shop/web' })
  t.equal((await kv.list('')).revision, revision, 'one transaction')
  t.same(await apply(kv, service('web-2', spec)), { outcomes: 'created', said: [] })
  await t.rejects(deleteObject(kv, 'service/default/web'), { code: 'NOTFOUND' })
  const many = Array.from(
    { length: 250 },
    (_, i) => `{ name: p${i}, port: ${i + 1}, nodePort: ${30_000 + i} }`,
  )
  t.equal(
    (await apply(kv, service('large', `type: NodePort, ports: [${many.join(', ')}]`))).outcomes,
    'created',
  )
  t.equal(Object.values(await records(kv)).filter(owner => owner.includes('large')).length, 250)
  t.equal(
    (await deleteObject(kv, 'service/default/large')).released.length,
    94,
    'the rest is the agents` to release',
  )
})

t.test(
  'with agents: what a Service has it keeps through every change, and a deleted one keeps nothing',
  async t => {
    const kv = await store(service('web', `type: NodePort, ${http}`))
    const stop = new AbortController()
    t.teardown(() => stop.abort())
    const running = ['a', 'b'].flatMap(node => {
      const common = { kv, clock: systemClock, log: silentLog }
      const agent = createStore({ ...common, graceMs: 20 })
      const times = { turnMs: 0, releaseAfterMs: 400 }
      const allocator = createServiceAllocator({
        ...common,
        ...times,
        store: agent,
        node,
        identityHeld: () => true,
      })
      return [agent.run(stop.signal), allocator.run(stop.signal)]
    })
    const until = async (what: (found: Readonly<Record<string, string>>) => boolean): Promise<void> => {
      for (let i = 0; i < 400 && !what(await records(kv)); i += 1)
        await new Promise(resolve => setTimeout(resolve, 10))
    }
    await until(found => Object.keys(found).length === 2)
    const before = await records(kv)
    t.same(Object.values(before).sort(), ['service/default/web', 'service/default/web:http'])
    await apply(kv, service('web'))
    await new Promise(resolve => setTimeout(resolve, 100))
    t.same(await records(kv), before, 'no nodePort wanted, for a moment')
    await apply(kv, service('web', 'type: NodePort, ports: [{ name: http, port: 8080 }]'))
    await new Promise(resolve => setTimeout(resolve, 600))
    t.same(await records(kv), before, 'there and back, and renumbered')
    await apply(kv, service('web', 'type: NodePort, ports: [{ name: other, port: 8080 }]'))
    await until(found => Object.values(found).includes('service/default/web:other'))
    t.same(
      Object.keys(await records(kv)).sort(),
      Object.keys(before).sort(),
      'a port renamed keeps its number',
    )
    await apply(kv, service('web'))
    await until(found => Object.keys(found).length === 1)
    t.same(Object.values(await records(kv)), ['service/default/web'], 'a nodePort that nobody wants goes')
    await deleteRef(kv, 'service/web', {})
    t.same(await records(kv), {})
    await new Promise(resolve => setTimeout(resolve, 300))
    t.same(await records(kv), {}, 'and no agent claims it again')
    stop.abort()
    await Promise.all(running)
  },
)

/** A store that does something before its next transaction. */
function hasty(kv: Kv, first: () => Promise<unknown>): Kv {
  let done = false
  return {
    ...kv,
    name: kv.name,
    list: (prefix, signal) => kv.list(prefix, signal),
    async txn(txn, signal) {
      if (!done) {
        done = true
        await first()
      }
      return kv.txn(txn, signal)
    },
  }
}

t.test('two hosts that apply at the same time: one gets the value, the other is told', async t => {
  const kv = await store(service('idle', nodePort(31111)))
  const mine = hasty(kv, () => apply(kv, service('quick', `clusterIPs: [10.0.0.9], ${nodePort(31234)}`)))
  t.match(await apply(mine, service('slow', nodePort(31234)), service('other')), {
    outcomes: 'refused created',
    said: [
      /^error NODE_PORT_TAKEN Cannot use service\/default\/slow \(x.yaml:1\): .*"service\/default\/quick:http" has it/,
    ],
  })
  t.equal((await kv.list('objects/service/default/slow')).entries.length, 0)

  await apply(kv, service('idle'))
  const back = hasty(kv, () => apply(kv, service('idle', nodePort(31111))))
  t.match(
    (await apply(back, service('thief', nodePort(31111)))).said,
    [/"31111\/tcp" is taken: "service\/default\/idle:http" has it/],
    'an idle value whose Service asks for it again meanwhile',
  )
  t.equal((await records(kv))['nodeport/tcp-31111'], 'service/default/idle:http')

  const racers = Array.from({ length: 8 }, (_, i) =>
    applyObjects(kv, [object(service(`r${i}`, nodePort(32000)))]),
  )
  const won = (await Promise.all(racers)).filter(result => result.results.length === 1)
  t.equal(won.length, 1)
  t.match((await records(kv))['nodeport/tcp-32000'], `${won[0]?.results[0]?.ref}:http`)
})

t.test(
  'endpoints: an address of a Service is none, and a selector makes hand-written ones useless',
  async t => {
    const kv = await store(
      service('web', `clusterIPs: [10.0.0.9], ${http}`),
      service('db', `selector: { app: db }, ${http}`),
    )
    const of = (address: string, name = 'web'): string =>
      doc(
        'Endpoints',
        'e',
        `service: ${name}, endpoints: [{ addresses: [10.244.1.2] }, { addresses: [${address}] }]`,
      )
    t.match((await apply(kv, of('10.0.0.9'))).said, [
      'error ENDPOINT Cannot use endpoints/default/e (x.yaml:1): spec.endpoints[1].addresses[0] "10.0.0.9" is the cluster IP of "service/default/web": it would lead to itself',
    ])
    t.match((await apply(kv, of('10.0.0.44'))).said, [
      /is inside serviceCIDRs 10.0.0.0\/24, where no endpoint can be/,
    ])
    t.match((await apply(kv, doc('Pod', 'p', 'nodeName: h1, addresses: [10.0.0.9]'))).said, [
      /Cannot use pod\/default\/p \(x.yaml:1\): spec.addresses\[0\] "10.0.0.9" is the cluster IP of "service\/default\/web"/,
    ])
    t.same(await apply(kv, of('10.244.1.3')), { outcomes: 'created', said: [] })
    const { outcomes, said } = await apply(kv, of('10.244.1.3', 'db'))
    t.match([outcomes, ...said], ['changed', /^warning ENDPOINT .*service\/default\/db has a selector/])
  },
)

t.test(
  'a Cluster whose ranges break something: errors in itself, a warning for those that it leaves out',
  async t => {
    const kv = await store(service('web', `clusterIPs: [10.0.0.9], ${http}`))
    t.match((await apply(kv, cluster('serviceCIDRs: [10.244.9.0/24]'))).said, [
      /^error SERVICE_CIDR_OVERLAP Cannot use cluster\/default \(x.yaml:1\): serviceCIDRs "10.244.9.0\/24" overlaps podCIDRs/,
      /^warning SERVICE_CIDR_OUTSIDE /,
    ])
    t.match((await apply(kv, doc('Node', 'h1', 'addresses: [10.0.0.7]'))).said, [
      /^error SERVICE_CIDR_OVERLAP .*holds the underlay address 10.0.0.7 of node\/h1/,
    ])
    t.match(await apply(kv, cluster('serviceCIDRs: [10.1.0.0/24]')), {
      outcomes: 'changed',
      said: [
        'warning SERVICE_CIDR_OUTSIDE cluster/default (x.yaml:1): serviceCIDRs [10.1.0.0/24] and nodePortRange 30000-32767 leave out values of service/default/web',
      ],
    })
    t.same(
      await apply(kv, service('web', `clusterIPs: [10.0.0.9], ports: [{ port: 81 }]`)),
      {
        outcomes: 'changed',
        said: [
          'warning CLUSTER_IP service/default/web (x.yaml:1): clusterIPs "10.0.0.9" is outside serviceCIDRs 10.1.0.0/24',
        ],
      },
      'what it has it keeps',
    )
    const none = memoryKv()
    t.match(await apply(none, service('web')), {
      outcomes: 'created',
      said: [/^warning SERVICE_CIDR .*there is no Cluster/],
    })
    await apply(none, doc('Cluster', 'default', 'podCIDRs: [10.244.0.0/16]'))
    t.match(await apply(none, service('given', `clusterIPs: [10.0.0.1], ${http}`)), {
      outcomes: 'refused',
      said: [/^error SERVICE_CIDR .*clusterIPs "10.0.0.1" cannot be had: the Cluster has no serviceCIDRs/],
    })
  },
)
