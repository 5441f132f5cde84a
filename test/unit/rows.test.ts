// Objects written as rows and read again are the same, whatever form they have.
import t from 'tap'
import { parseDocuments } from '../../agent/model/document.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import { refOf } from '../../agent/model/object.js'
import { createRowReader, createRowWriter, type Noted, type RowLine } from '../../agent/model/rows.js'
import { random } from '../support/random.js'

const draw = random(Number(process.env['WARREN_SEED'] ?? 11))

/** One of the values, as a field of a document; undefined: without the field. */
function field(name: string, ...values: readonly unknown[]): Readonly<Record<string, unknown>> {
  const value = values[draw.below(values.length)]
  return value === undefined ? {} : { [name]: value }
}

function service(n: number): unknown {
  const type = [undefined, 'ClusterIP', 'NodePort', 'LoadBalancer'][draw.below(4)]
  const published = type === 'NodePort' || type === 'LoadBalancer'
  const usual = draw.next() < 0.7
  const port = {
    name: 'http',
    port: 80 + draw.below(3),
    ...field('targetPort', undefined, 8080, 'web'),
    ...(published ? field('nodePort', undefined, 30_000 + n) : {}),
  }
  return {
    apiVersion: 'warren/v1',
    kind: 'Service',
    metadata: {
      name: `s${n}`,
      ...field('namespace', undefined, 'default', 'other'),
      ...(usual ? {} : field('labels', undefined, { app: 'x' })),
    },
    spec: {
      ...(type === undefined ? {} : { type }),
      ...field('clusterIPs', undefined, [`10.0.0.${n}`], ...(usual ? [] : [[`10.0.0.${n}`, `fd00::${n}`]])),
      ...(!published && !usual ? field('clusterIPs', ['None'], []) : {}),
      ports: usual ? [port] : [port, { name: 'dns', protocol: 'UDP', port: 53 }],
      ...field('selector', undefined, { app: 'web' }, {}),
      ...field('internalTrafficPolicy', undefined, 'Local'),
      ...field('externalTrafficPolicy', undefined, 'Local'),
      ...(usual ? {} : field('externalIPs', undefined, ['192.0.2.1'], [])),
      ...(usual ? {} : field('sessionAffinity', undefined, 'None', 'ClientIP')),
      ...(usual ? {} : field('ipFamilyPolicy', undefined, 'PreferDualStack')),
    },
  }
}

function endpoints(n: number): unknown {
  const usual = draw.next() < 0.7
  return {
    apiVersion: 'warren/v1',
    kind: 'Endpoints',
    metadata: { name: `e${n}`, ...field('namespace', undefined, 'other') },
    spec: {
      service: `s${n}`,
      ports: draw.pick([[], [{ port: 8080 }], [{ name: 'http', protocol: 'UDP', port: 8080 }]]),
      endpoints: Array.from({ length: draw.below(5) }, (_, i) => ({
        addresses:
          usual || i > 0 ? [draw.pick([`10.1.${n}.${i}`, `fd01::${n}:${i}`])] : [`10.1.${n}.9`, `fd01::${n}`],
        ...field('nodeName', undefined, 'h1', 'a-node-of-a-long-name.example'),
        ...field('ready', undefined, true, false),
        ...field('terminating', undefined, true, false),
        ...(usual ? {} : { ...field('serving', undefined, true, false), ...field('zone', undefined, 'a') }),
      })),
    },
  }
}

const others = `
{apiVersion: warren/v1, kind: Cluster, metadata: {name: default}, spec: {podCIDRs: [10.244.0.0/16]}}
---
{apiVersion: warren/v1, kind: Node, metadata: {name: h1}, spec: {addresses: [192.0.2.1], podCIDRs: [10.244.1.0/24]}}
---
{apiVersion: warren/v1, kind: Pod, metadata: {name: p, labels: {app: "wéb"}}, spec: {nodeName: h1, addresses: [10.244.1.2]}}
---
{apiVersion: warren/v1, kind: Network, metadata: {name: a, tenant: red}, spec: {subnets: [{cidr: 10.0.1.0/24}]}}
`

function parsed(text: string): readonly ModelObject[] {
  // Some of what is drawn does not fit together, and is no object.
  const { objects } = parseDocuments(text, { file: 'test.yaml', strict: true })
  return objects.map(({ object }) => object)
}

t.test(
  'rows: what was written is read again, with reference, revision and hash, over several pieces',
  async t => {
    const texts = Array.from({ length: 200 }, (_, i) =>
      JSON.stringify(i % 2 === 0 ? service(i) : endpoints(i)),
    )
    const all: Noted[] = [...parsed(others), ...texts.flatMap(parsed)].map((object, i) => ({
      ref: refOf(object),
      modRevision: 1_000 + i,
      hash: i % 3 === 0 ? -i : i,
      object,
    }))
    const write = createRowWriter()
    const lines: RowLine[] = []
    for (let i = 0; i < all.length; i += 30) lines.push(...write(all.slice(i, i + 30)))
    const [packed, plain] = [
      lines.flatMap(line => [...(line.services ?? []), ...(line.endpoints ?? [])]).length,
      lines.flatMap(line => line.objects ?? []).length / 3,
    ]
    t.ok(packed > 500 && plain > 20, `both forms: ${packed} cells, ${plain} objects`)
    const read: Noted[] = []
    const reader = createRowReader(read)
    for (const line of lines) reader(JSON.parse(JSON.stringify(line)) as RowLine)
    const byRef = (list: readonly Noted[]): readonly Noted[] =>
      [...list].sort((a, b) => (a.ref < b.ref ? -1 : 1))
    t.strictSame(byRef(read), byRef(all))
  },
)
