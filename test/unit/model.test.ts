// Documents into objects, and the words for what is wrong with them.
import t from 'tap'
import { checkWrite } from '../../agent/model/cross-check.js'
import { parseDocuments, parseObject } from '../../agent/model/document.js'
import { jsonSchema } from '../../agent/model/json-schema.js'
import { keyOfRef, objectKey, refOfKey } from '../../agent/model/keys.js'
import { fullRef, kinds, type ModelObject } from '../../agent/model/kinds.js'
import type { Node } from '../../agent/model/node.js'
import { refOf } from '../../agent/model/object.js'
import { usualObject } from '../../agent/model/usual.js'
import { isNetworkPrefix, parsePrefix } from '../../lib/net/prefix.js'
import { formatYaml, parseYaml } from '../../lib/yaml/yaml.js'

const head = (kind: string, name: string): string =>
  `apiVersion: warren/v1\nkind: ${kind}\nmetadata: { name: ${name} }\n`
const cluster = `${head('Cluster', 'default')}spec:\n  podCIDRs: [10.244.0.0/16, "fd00:244::/48"]\n`

function read(text: string, strict = true): ReturnType<typeof parseDocuments> {
  return parseDocuments(text, { file: 'cluster.yaml', strict })
}

function node(name: string, spec: Partial<Node['spec']> = {}): Node {
  const all = { addresses: ['192.0.2.1'], podCIDRs: [], roles: ['cluster'], ...spec } as Node['spec']
  return { apiVersion: 'warren/v1', kind: 'Node', metadata: { name }, spec: all }
}

function parsed(text: string): ModelObject {
  const [first] = read(text).objects
  if (first === undefined) throw new Error('the text of the test itself is bad')
  return first.object
}

/** The one problem of a document, as a person sees it. */
function wrong(text: string): string {
  const { problems, objects } = read(text)
  if (problems.length !== 1 || objects.length !== 0) return `not one problem: ${JSON.stringify(problems)}`
  const [problem] = problems
  return problem?.hint === undefined ? (problem?.message ?? '') : `${problem.message} (${problem.hint})`
}

t.test('documents: any number in one file, with their lines and defaults', async t => {
  const text = `# a comment\n---\n${cluster}---\n# nothing\n---\n\n${head('Node', 'h1')}spec: { addresses: [192.0.2.1] }\n`
  const { objects, problems, failed } = read(text)
  t.same(problems, [])
  t.same(failed, [])
  t.same(
    objects.map(({ object, file, line }) => [refOf(object), file, line]),
    [
      ['cluster/default', 'cluster.yaml', 3],
      ['node/h1', 'cluster.yaml', 12],
    ],
  )
  t.match(objects[0]?.object.spec, {
    nodeSubnetLength: { ipv4: 24, ipv6: 64 },
    backend: { type: 'vxlan', vni: 1, port: 4789, directRouting: false },
    masquerade: true,
  })
})

t.test('documents: each mistake names file, line, object, field, value, reason and what to do', async t => {
  const of = (spec: string): string => `${head('Cluster', 'default')}spec:\n${spec}`
  const at = 'Cannot use cluster/default (cluster.yaml:'
  const cases: readonly (readonly [string, string])[] = [
    [
      of('  podCIDRs: [10.244.0.1/16]\n'),
      `${at}5): spec.podCIDRs[0] "10.244.0.1/16" has host bits set (write 10.244.0.0/16)`,
    ],
    [
      of('  podCIDRs: [ten]\n'),
      `${at}5): spec.podCIDRs[0] "ten" is not of the form address/length (write it as 10.244.0.0/16 or fd00:244::/48)`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  podCidr: 1\n'),
      `${at}6): spec.podCidr is not a known field (did you mean "podCIDRs"?)`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  vni: 5\n'),
      `${at}6): spec.vni is not a known field (it belongs to "spec.backend.vni")`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  backend:\n    type: vxlan\n    directRoutes: true\n'),
      `${at}8): spec.backend.directRoutes is not a known field (did you mean "directRouting"?)`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  backend: { type: host-gw, port: 1 }\n'),
      `${at}6): spec.backend.port is not a known field (known here: type, mtu)`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  backend: { type: vxlna }\n'),
      `${at}6): spec.backend.type "vxlna" must be one of vxlan, host-gw, bgp (did you mean "vxlan"?)`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  backend: { type: vxlan, vni: 16777216 }\n'),
      `${at}6): spec.backend.vni 16777216 must be 16777215 at most`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  backend: { type: vxlan, port: 0 }\n'),
      `${at}6): spec.backend.port 0 must be 1 or more`,
    ],
    [of('  podCIDRs: 10.0.0.0/8\n'), `${at}5): spec.podCIDRs "10.0.0.0/8" must be a list`],
    [
      of('  podCIDRs: [0.0.0.0/0]\n'),
      `${at}5): spec.podCIDRs[0] "0.0.0.0/0" overlaps 0.0.0.0/8, where no pod can have an address (take a private prefix: 10.244.0.0/16, fd00:244::/48)`,
    ],
    [
      of('  podCIDRs: ["fe80::/48"]\n'),
      `${at}5): spec.podCIDRs[0] "fe80::/48" overlaps fe80::/10, where no pod can have an address (take a private prefix: 10.244.0.0/16, fd00:244::/48)`,
    ],
    [
      of('  podCIDRs: ["fd00::/48"]\n  backend: { type: vxlan, mtu: 1279 }\n'),
      `${at}6): spec.backend.mtu 1279 is too small for IPv6 pods ("fd00::/48"): they need 1280`,
    ],
    [of('  podCIDRs: []\n'), `${at}5): spec.podCIDRs [] must have 1 entry or more`],
    [of('  masquerade: false\n'), `${at}5): spec.podCIDRs is required`],
    [
      of('  podCIDRs: [10.0.0.0/8]\n  masquerade: yes\n'),
      `${at}6): spec.masquerade "yes" must be true or false`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/8, 11.0.0.0/8]\n'),
      `${at}5): spec.podCIDRs[1] "11.0.0.0/8" is a second ipv4 prefix: one of each family at most`,
    ],
    [
      of('  podCIDRs: [10.0.0.0/26]\n'),
      `${at}5): spec.nodeSubnetLength.ipv4 does not fit into "10.0.0.0/26": a node's block of /24 is larger`,
    ],
    [
      `${head('Cluster', 'Big_Name')}spec: { podCIDRs: [10.0.0.0/8] }\n`,
      'Cannot use cluster/Big_Name (cluster.yaml:3): metadata.name "Big_Name" must be lower-case letters, digits, "-" and "."',
    ],
    [
      'apiVersion: warren/v1\nkind: Cluster\nmetadata: { name: default, tenant: red }\nspec: { podCIDRs: [10.0.0.0/8] }\n',
      'Cannot use cluster/red/default (cluster.yaml:3): metadata.tenant "red" is not for kind Cluster: its objects belong to the whole cluster (leave it out)',
    ],
    [
      `${head('Clutser', 'default')}spec: {}\n`,
      'Cannot use clutser/default (cluster.yaml:2): kind "Clutser" is not a known kind (did you mean "Cluster"?)',
    ],
    [
      `${head('nodes', 'h1')}`,
      'Cannot use node/h1 (cluster.yaml:2): kind "nodes" is not a known kind (did you mean "Node"?)',
    ],
    [
      'apiVersion: warren/v2\nkind: Node\nmetadata: { name: h1 }\n',
      'Cannot use node/h1 (cluster.yaml:1): apiVersion "warren/v2" is not a version that this program knows (write apiVersion: warren/v1)',
    ],
    [
      '- 1\n- 2\n',
      'Cannot use cluster.yaml:1: [1,2] is not an object with apiVersion, kind, metadata and spec',
    ],
  ]
  for (const [text, expected] of cases) t.equal(wrong(text), expected)
})

t.test('documents: a bad one never stops the others, wherever its YAML ends', async t => {
  const good = `${head('Node', 'h1')}spec: { addresses: [192.0.2.1] }\n`
  for (const bad of [
    'a: "no end\n',
    'a: [1, 2\n',
    'a: 1\na: 2\n',
    'a: !!weird 1\n',
    '\tx\n',
    `${'['.repeat(30_000)}\n`,
    'kind: 7\n',
  ]) {
    const { objects, problems } = read(`${bad}---\n${good}---\n${bad}`)
    t.same(
      objects.map(({ object }) => refOf(object)),
      ['node/h1'],
      JSON.stringify(bad.slice(0, 20)),
    )
    t.equal(problems.length, 2)
    t.match(problems[0]?.message, /cluster\.yaml:[12]:/)
  }
})

t.test('documents: aliases work, and cannot blow up', async t => {
  t.equal(read(`${head('Node', 'h1')}spec: { addresses: &a [192.0.2.1], podCIDRs: [] }\n`).objects.length, 1)
  const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]']
  for (let i = 1; i < 9; i += 1) {
    const [name, of] = [String.fromCharCode(97 + i), String.fromCharCode(96 + i)]
    bomb.push(`${name}: &${name} [${Array(9).fill(`*${of}`).join(',')}]`)
  }
  const { problems } = read(`${bomb.join('\n')}\n---\n${cluster}`)
  t.equal(problems.length, 1)
  t.match(problems[0]?.message, /alias/)
  t.match(read('x'.repeat(9 << 20)).problems[0]?.message, /larger than/)
})

t.test('documents: records of other versions keep what this one knows', async t => {
  const record = {
    ...node('h1'),
    metadata: { name: 'h1', shoe: 42 },
    spec: { addresses: ['192.0.2.1'], color: 'red', roles: ['cluster'] },
    status: {},
  }
  const lenient = parseObject(record, { about: 'memory: objects/node/-/h1', strict: false })
  t.same(lenient.ok && lenient.object, node('h1'))
  const strict = parseObject(record, { about: 'memory: objects/node/-/h1', strict: true })
  t.equal(strict.ok, false)
  if (!strict.ok) {
    t.same(
      strict.problems.map(problem => problem.code),
      ['FIELD', 'FIELD', 'FIELD'],
    )
    t.match(strict.problems[0]?.message, 'node/h1 (memory: objects/node/-/h1)')
  }
  t.equal(
    parseObject({ ...record, spec: { ...record.spec, mtu: 1 } }, { about: 'x', strict: false }).ok,
    false,
  )
})

t.test('yaml: what is written reads the same', async t => {
  const value = { a: ['10.0.0.0/8', 'yes', '1e3', null], b: { c: 'x: y' } }
  t.same(parseYaml(formatYaml(value))[0]?.value, value)
})

t.test('keys: a reference and its key lead to each other', async t => {
  t.equal(objectKey(node('h1')), 'objects/node/-/h1')
  t.equal(refOfKey('objects/node/-/h1'), 'node/h1')
  t.equal(refOfKey('objects/port/red/p1'), 'port/red/p1')
  t.equal(keyOfRef('port/red/p1'), 'objects/port/red/p1')
  t.equal(keyOfRef('node/h1'), 'objects/node/-/h1')
  for (const bad of ['objects/node/h1', 'objects/node/-/', 'format', 'objects/a/b/c/d'])
    t.equal(refOfKey(bad), undefined)
  for (const bad of ['node', 'node/', 'a/b/c/d', 'a//c']) t.equal(keyOfRef(bad), undefined)
})

t.test('prefixes: the quick test and the parser agree', async t => {
  const texts =
    '10.0.0.0/8 10.0.0.1/8 10.0.0.0/33 0.0.0.0/0 192.0.2.128/25 192.0.2.128/24 10.0.0.0 fd00::/48 fd00::1/48 fd00::1/128 ::/0 fd00:0:0:1::/63 fd00:0:0:2::/63 x/8 10.0.0/8 fe80::%1/64 10.0.0.0/08 ::ffff:10.0.0.0/104'
  for (const text of texts.split(' ')) {
    let parses = true
    try {
      parsePrefix(text)
    } catch {
      parses = false
    }
    if (isNetworkPrefix(text)) t.ok(parses, `${text} parses`)
    else t.ok(!parses || text.includes('08') || text.startsWith('::ffff'), `${text} is refused`)
  }
})

t.test('json schema: one of all kinds, with defaults optional and unknown fields refused', async t => {
  const schema = jsonSchema()
  t.same(
    schema['oneOf'],
    [
      'BGPPeer',
      'Cluster',
      'Endpoints',
      'Network',
      'Node',
      'Pod',
      'Port',
      'Router',
      'SecurityGroup',
      'Service',
      'Tenant',
    ].map(kind => ({ $ref: `#/$defs/${kind}` })),
  )
  t.match(schema['$defs'], {
    Cluster: {
      properties: {
        kind: { const: 'Cluster' },
        spec: { required: ['podCIDRs'], additionalProperties: false },
      },
      additionalProperties: false,
    },
    Node: {
      properties: {
        spec: { required: ['addresses'], properties: { bgp: { required: ['asn', 'routerId'] } } },
      },
    },
    BGPPeer: { properties: { spec: { required: ['address', 'asn'], additionalProperties: false } } },
    Pod: { properties: { spec: { required: ['nodeName', 'addresses'] } } },
  })
})

t.test(
  'checks before a write: one Cluster, room for the nodes, no overlap, no running node outside',
  async t => {
    const base = { standing: [], handWritten: [], live: new Set<string>() }
    const codes = (check: Partial<Parameters<typeof checkWrite>[0]>): unknown =>
      checkWrite({ objects: [], ...base, ...check }).map(problem => [problem.level, problem.code])
    const one = parsed(cluster)
    const small = parsed(`${head('Cluster', 'default')}spec: { podCIDRs: [10.244.0.0/23] }\n`)
    t.same(codes({ objects: [one] }), [])
    t.same(codes({ objects: [one], standing: [one, node('h1')] }), [])
    const other = parsed(cluster.replace('default', 'other'))
    t.same(codes({ objects: [other], standing: [one] }), [['error', 'SECOND_CLUSTER']])
    t.same(codes({ objects: [one, other] }), [['error', 'SECOND_CLUSTER']])
    const three = ['h1', 'h2', 'h3'].map(name => node(name))
    t.same(codes({ objects: [small], standing: three }), [['warning', 'POD_CIDR_SMALL']])
    t.same(codes({ objects: [small], standing: three.slice(1) }), [])
    const inside = node('h7', { addresses: ['10.244.9.1'] })
    const [overlap] = checkWrite({ ...base, objects: [one], standing: [inside] })
    t.match(
      overlap?.message,
      /cluster\/default: podCIDRs "10\.244\.0\.0\/16" holds the underlay address 10\.244\.9\.1 of node\/h7/,
    )
    t.equal(overlap?.level, 'error')
    t.same(codes({ objects: [inside], standing: [one] }), [['error', 'POD_CIDR_OVERLAP']])
    const far = node('h9', { podCIDRs: ['10.99.1.0/24'] })
    t.same(codes({ objects: [one], standing: [far] }), [], 'h9 does not run')
    t.same(codes({ objects: [one], standing: [far], live: new Set(['h9']) }), [
      ['warning', 'POD_CIDR_OUTSIDE'],
    ])
    const written = read(cluster).objects
    const [refused] = checkWrite({ ...base, objects: [one], handWritten: written })
    t.equal(refused?.message, 'Cannot apply cluster/default: it stands in cluster.yaml:1')
  },
)

t.test('usual objects: what is read by hand is what the schemas say', async t => {
  // Values for each field, good and bad; undefined: it is left out.
  const texts = [
    '10.0.0.1',
    '10.1.2.3',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3',
    '127.0.0.1',
    '169.254.1.1',
    '0.0.0.0',
    '224.0.0.1',
    'fd00::1',
    '1.2.3.4 ',
    '',
    '10.0.0.0001',
  ]
  const addresses = [
    undefined,
    [],
    'x',
    [1],
    ['10.0.0.1', '10.0.0.2'],
    ['10.0.0.1', 'fd00::1'],
    ...texts.map(text => [text]),
  ]
  const names = [undefined, 'web', 'Web', '', 'a'.repeat(16), 'a-1', '-a', '1', 7, null]
  const ports = [undefined, 80, 0, 65_536, 1.5, '80', 65_535]
  const booleans = [undefined, true, false, 'true', null]
  const protocols = [undefined, 'TCP', 'UDP', 'tcp']
  const fields: Readonly<Record<string, readonly unknown[]>> = {
    'Endpoints metadata.name': names,
    'Endpoints metadata.namespace': names,
    'Endpoints metadata.labels': [undefined, { a: 'b' }],
    'Endpoints more': [undefined, 1],
    'Endpoints spec.service': names,
    'Endpoints spec.endpoints': [undefined, [], {}, [{}], [null]],
    'Endpoints spec.endpoints.0.addresses': addresses,
    'Endpoints spec.endpoints.0.nodeName': names,
    'Endpoints spec.endpoints.0.ready': booleans,
    'Endpoints spec.endpoints.0.serving': booleans,
    'Endpoints spec.endpoints.0.terminating': booleans,
    'Endpoints spec.endpoints.0.zone': [undefined, 'a'],
    'Endpoints spec.ports': [undefined, [], {}, [null]],
    'Endpoints spec.ports.0.name': names,
    'Endpoints spec.ports.0.protocol': protocols,
    'Endpoints spec.ports.0.port': ports,
    'Endpoints spec.ports.0.more': [undefined, 1],
    'Service metadata.name': names,
    'Service metadata.tenant': [undefined, 'a'],
    'Service spec.type': [undefined, 'ClusterIP', 'NodePort', 'LoadBalancer', 'None'],
    'Service spec.clusterIPs': [...addresses, ['None']],
    'Service spec.ipFamilyPolicy': [undefined, 'SingleStack', 'PreferDualStack', 'x'],
    'Service spec.ipFamilies': [undefined, ['IPv4']],
    'Service spec.ports': [undefined, [], [{ port: 1 }, { port: 2 }], null],
    'Service spec.ports.0.name': names,
    'Service spec.ports.0.protocol': protocols,
    'Service spec.ports.0.port': ports,
    'Service spec.ports.0.targetPort': [...ports, 'http', 'HTTP'],
    'Service spec.ports.0.nodePort': ports,
    'Service spec.selector': [undefined, {}, { app: 'web' }, { app: 1 }, [], null],
    'Service spec.sessionAffinity': [undefined, 'None', 'ClientIP'],
    'Service spec.externalTrafficPolicy': [undefined, 'Cluster', 'Local', 'x'],
    'Service spec.internalTrafficPolicy': [undefined, 'Cluster', 'Local', 'x'],
    'Service spec.healthCheckNodePort': ports,
    'Service spec.externalIPs': [undefined, [], ['10.0.0.1'], null],
    'Service spec.loadBalancerIPs': [undefined, [], ['10.0.0.1']],
    'Service spec.loadBalancerSourceRanges': [undefined, []],
  }
  const usually = {
    Endpoints: {
      service: 'web',
      endpoints: [{ addresses: ['10.1.0.1'], nodeName: 'h1' }],
      ports: [{ name: 'http', port: 8080 }],
    },
    Service: { clusterIPs: ['10.0.0.1'], ports: [{ name: 'http', port: 80 }] },
  }
  const set = (target: Record<string, unknown>, path: readonly string[], value: unknown): void => {
    const [step = '', ...rest] = path
    const inner = target[step]
    if (rest.length > 0 && typeof inner === 'object' && inner !== null)
      set(inner as Record<string, unknown>, rest, value)
    else if (rest.length === 0 && value === undefined) delete target[step]
    else if (rest.length === 0) target[step] = value
  }
  let seed = 1
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return (seed >>> 8) % n
  }
  const read = { usual: 0, refused: 0 }
  for (let round = 0; round < 4000; round += 1) {
    const kind = round % 2 === 0 ? 'Service' : 'Endpoints'
    const value: Record<string, unknown> = {
      apiVersion: 'warren/v1',
      kind,
      metadata: { name: 'a', namespace: 'default' },
      spec: structuredClone(usually[kind]),
    }
    const own = Object.keys(fields).filter(name => name.startsWith(kind))
    for (let i = random(4); i >= 0; i -= 1) {
      const name = own[random(own.length)] ?? ''
      const values = fields[name] ?? []
      set(value, name.slice(kind.length + 1).split('.'), values[random(values.length)])
    }
    const usual = usualObject(structuredClone(value))
    const checked = kinds[kind].schema.safeParse(value)
    if (usual === undefined) {
      if (!checked.success) read.refused += 1
      continue
    }
    read.usual += 1
    if (!checked.success) t.fail(`usual, and wrong by its schema: ${JSON.stringify(value)}`)
    else if (JSON.stringify(usual) !== JSON.stringify(checked.data))
      t.same(usual, checked.data, JSON.stringify(value))
  }
  t.ok(read.usual > 700, `${read.usual} were usual`)
  t.ok(read.refused > 500, `${read.refused} were wrong`)
})

t.test('services: what stands there when people leave it out', async t => {
  const { objects, problems } = read(
    `${head('Service', 'web')}spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
${head('Endpoints', 'web-1')}spec: { service: web, endpoints: [{ addresses: [192.0.2.7, "2001:db8::7"] }] }
---
${head('Pod', 'web-a')}spec: { nodeName: h1, addresses: [10.244.1.2] }
---
apiVersion: warren/v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { clusterIPs: [None] }
`,
  )
  t.same(problems, [])
  t.same(
    objects.map(({ object }) => refOf(object)),
    ['service/default/web', 'endpoints/default/web-1', 'pod/default/web-a', 'service/shop/web'],
  )
  t.same(objects[0]?.object.spec, {
    type: 'ClusterIP',
    ipFamilyPolicy: 'SingleStack',
    ports: [{ protocol: 'TCP', port: 80 }],
    selector: { app: 'web' },
    sessionAffinity: 'None',
    externalTrafficPolicy: 'Cluster',
    internalTrafficPolicy: 'Cluster',
    externalIPs: [],
    loadBalancerIPs: [],
  })
  t.match(objects[1]?.object.spec, { endpoints: [{ ready: true, terminating: false }], ports: [] })
  t.match(objects[2]?.object.spec, { ready: true, terminating: false, ports: [] })
  t.same(['service/web', 'Services/web', 'service/shop/web', 'pods/a', 'node/h1', 'nods/h1'].map(fullRef), [
    'service/default/web',
    'service/default/web',
    'service/shop/web',
    'pod/default/a',
    'node/h1',
    'nods/h1',
  ])
})

t.test('services: each mistake names the field, the value, the reason and what to do', async t => {
  const service = (spec: string): string => `${head('Service', 'web')}spec: { ${spec} }\n`
  const endpoints = (list: string): string =>
    `${head('Endpoints', 'web-1')}spec: { service: web, endpoints: [{ addresses: [${list}] }] }\n`
  const p80 = 'ports: [{ port: 80 }]'
  const linkLocal = 'is a link-local address: no other host can reach it'
  const cases: readonly (readonly [string, string])[] = [
    [service('ports: [{ port: 0 }]'), 'spec.ports[0].port 0 must be 1 or more'],
    [service('ports: [{ port: 70000 }]'), 'spec.ports[0].port 70000 must be 65535 at most'],
    [service('ports: [{ port: 80, targetPort: 0 }]'), 'spec.ports[0].targetPort 0 must be 1 or more'],
    [
      service('ports: [{ port: 80, protocol: tcp }]'),
      'spec.ports[0].protocol "tcp" must be one of TCP, UDP, SCTP (did you mean "TCP"?)',
    ],
    [
      service('ports: [{ name: a, port: 80 }, { name: b, port: 80 }]'),
      'spec.ports[1].port 80 is there twice with TCP (one entry is enough)',
    ],
    [
      service('ports: [{ name: a, port: 80 }, { port: 81 }]'),
      'spec.ports[1].name is required when there are several ports (give every port a name)',
    ],
    [
      service('ports: [{ name: a, port: 80 }, { name: a, port: 81 }]'),
      'spec.ports[1].name "a" is the name of another port (names of ports are unique in a Service)',
    ],
    [
      service('ports: [{ port: 80, nodePort: 31234 }]'),
      'spec.ports[0].nodePort 31234 does not go with type ClusterIP (write type: NodePort or LoadBalancer)',
    ],
    [
      service(
        'type: NodePort, ports: [{ name: a, port: 80, nodePort: 31234 }, { name: b, port: 81, nodePort: 31234 }]',
      ),
      'spec.ports[1].nodePort 31234 is there twice with TCP (leave it out: one is allocated)',
    ],
    [service(`clusterIPs: [127.0.0.1], ${p80}`), 'spec.clusterIPs[0] "127.0.0.1" is not a unicast address'],
    [service(`clusterIPs: [ten], ${p80}`), 'spec.clusterIPs[0] "ten" is not a unicast address'],
    [
      service(`clusterIPs: ["::ffff:10.0.0.1"], ${p80}`),
      'spec.clusterIPs[0] "::ffff:10.0.0.1" is an IPv4 address written as IPv6: write the IPv4 address',
    ],
    [
      service('clusterIPs: [None, 10.0.0.1]'),
      'spec.clusterIPs ["None","10.0.0.1"] has None beside an address (a headless Service has no other)',
    ],
    [
      service('type: NodePort, clusterIPs: [None]'),
      'spec.clusterIPs ["None"] does not go with type NodePort (a headless Service is of type ClusterIP)',
    ],
    [
      service('clusterIPs: [10.0.0.1, 10.0.0.2]'),
      'spec.clusterIPs[1] "10.0.0.2" is of the same family as the first (one cluster IP of each family)',
    ],
    [
      service('ipFamilies: [IPv6], clusterIPs: [10.0.0.1]'),
      'spec.clusterIPs[0] "10.0.0.1" is not of IPv6, as ipFamilies wants it (correct one of the two)',
    ],
    [service('ipFamilies: [IPv6, IPv6]'), 'spec.ipFamilies[1] "IPv6" is there twice (one entry is enough)'],
    [
      service('type: NodePort, loadBalancerIPs: [192.0.2.9]'),
      'spec.loadBalancerIPs ["192.0.2.9"] does not go with type NodePort (write type: LoadBalancer, or use externalIPs)',
    ],
    [
      service('loadBalancerSourceRanges: [192.0.2.0/24]'),
      'spec.loadBalancerSourceRanges ["192.0.2.0/24"] does not go with type ClusterIP (write type: LoadBalancer, or use externalIPs)',
    ],
    [
      service('sessionAffinityConfig: { clientIP: { timeoutSeconds: 5 } }'),
      'spec.sessionAffinityConfig {"clientIP":{"timeoutSeconds":5}} does not go with sessionAffinity: None (write sessionAffinity: ClientIP)',
    ],
    [
      service('type: LoadBalancer, healthCheckNodePort: 30001'),
      'spec.healthCheckNodePort 30001 goes with type: LoadBalancer and externalTrafficPolicy: Local only (leave it out)',
    ],
    [service('externalIPs: [169.254.1.1]'), `spec.externalIPs[0] "169.254.1.1" ${linkLocal}`],
    [service('clusterIP: 10.0.0.1'), 'spec.clusterIP is not a known field (did you mean "clusterIPs"?)'],
    [
      service('type: NodePort, ports: [{ port: 80, nodePort: 0 }]'),
      'spec.ports[0].nodePort 0 must be 1 or more',
    ],
    [
      service('type: NodePort, ports: [{ port: 80, nodePort: 70000 }]'),
      'spec.ports[0].nodePort 70000 must be 65535 at most',
    ],
    [
      `${head('Endpoints', 'web-1')}spec: { service: web, ports: [{ port: 70000 }] }\n`,
      'spec.ports[0].port 70000 must be 65535 at most',
    ],
    [
      `${head('Pod', 'a')}spec: { nodeName: h1, addresses: [127.0.0.1] }\n`,
      'spec.addresses[0] "127.0.0.1" is not a unicast address',
    ],
    [service(`externalIPs: ["::"], ${p80}`), 'spec.externalIPs[0] "::" is not a unicast address'],
    [endpoints('"::"'), 'spec.endpoints[0].addresses[0] "::" is not a unicast address'],
    [endpoints('169.254.0.7'), `spec.endpoints[0].addresses[0] "169.254.0.7" ${linkLocal}`],
    [endpoints('127.0.0.1'), 'spec.endpoints[0].addresses[0] "127.0.0.1" is not a unicast address'],
    [endpoints('0.0.0.0'), 'spec.endpoints[0].addresses[0] "0.0.0.0" is not a unicast address'],
    [endpoints('"::1"'), 'spec.endpoints[0].addresses[0] "::1" is not a unicast address'],
    [endpoints('224.0.0.1'), 'spec.endpoints[0].addresses[0] "224.0.0.1" is not a unicast address'],
    [endpoints('"ff02::1"'), 'spec.endpoints[0].addresses[0] "ff02::1" is not a unicast address'],
    [endpoints('"fe80::1"'), `spec.endpoints[0].addresses[0] "fe80::1" ${linkLocal}`],
    [
      endpoints('10.0.0.1, 10.0.0.2'),
      'spec.endpoints[0].addresses[1] "10.0.0.2" is of the same family as the first (one address of each family; write another endpoint for it)',
    ],
    [`${head('Endpoints', 'web-1')}spec: { endpoints: [] }\n`, 'spec.service is required'],
    [
      `${head('Pod', 'a')}spec: { nodeName: h1, addresses: [] }\n`,
      'spec.addresses [] must have 1 entry or more',
    ],
    [
      `${head('Pod', 'a')}spec: { nodeName: h1, addresses: [10.0.0.1], ports: [{ port: 0 }] }\n`,
      'spec.ports[0].port 0 must be 1 or more',
    ],
    [
      `${head('Node', 'h1')}spec: { addresses: [192.0.2.1], linkLocal: x }\n`,
      'spec.linkLocal "x" is not a unicast address',
    ],
  ]
  for (const [text, expected] of cases) {
    const said = wrong(text)
    t.equal(said.slice(said.indexOf('): ') + 3), expected)
  }
})
