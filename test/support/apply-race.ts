// Two hosts that write many Services at the same time, half of which ask for the same nodePorts: what must be true of the
// store and of the answers afterwards, whatever came first.
import type { Test } from 'tap'
import { parseDocuments } from '../../agent/model/document.js'
import type { ModelObject } from '../../agent/model/kinds.js'
import { type ApplyResult, applyObjects } from '../../agent/objects.js'
import type { Kv } from '../../lib/kv/kv.js'

export function objectsOf(text: string): readonly ModelObject[] {
  const { objects, problems } = parseDocuments(text, { file: 'x.yaml', strict: true })
  if (problems.length > 0) throw new Error('the text of the test itself is bad')
  return objects.map(({ object }) => object)
}

const head = (kind: string, name: string): string =>
  `apiVersion: warren/v1\nkind: ${kind}\nmetadata: { name: ${name} }\n`

export const cluster = `${head('Cluster', 'default')}spec: { podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.96.0.0/16] }\n`

export function service(name: string, nodePort?: number): string {
  const given = nodePort === undefined ? '' : `, nodePort: ${nodePort}`
  return `${head('Service', name)}spec: { type: NodePort, ports: [{ name: http, port: 80${given} }] }\n`
}

export function endpoints(name: string, address: string): string {
  return `${head('Endpoints', `${name}-1`)}spec:\n  service: ${name}\n  endpoints: [{ addresses: [${address}] }]\n  ports: [{ name: http, port: 8080 }]\n`
}

const first = 30_000
const each = 120

/** The ports of `b` begin in the middle of those of `a`. */
const ofHost = (name: 'a' | 'b'): readonly ModelObject[] =>
  objectsOf(
    Array.from({ length: each }, (_, i) =>
      [
        service(`${name}${i}`, first + i + (name === 'b' ? each / 2 : 0)),
        endpoints(`${name}${i}`, '10.244.1.2'),
      ].join('---\n'),
    ).join('---\n'),
  )

/** On an empty store that both clients see. */
export async function raceOfTwo(t: Test, one: Kv, other: Kv): Promise<void> {
  await applyObjects(one, objectsOf(cluster))
  const [a, b] = [ofHost('a'), ofHost('b')]
  const [ofA, ofB] = await Promise.all([applyObjects(one, a), applyObjects(other, b)])
  const { entries } = await one.list('')
  const revisions = new Map(entries.map(({ key, createRevision }) => [key, createRevision]))
  const owners = new Map(
    entries
      .filter(({ key }) => key.startsWith('alloc/nodeport/'))
      .map(({ key, value }) => [key, JSON.parse(value).owner as string]),
  )
  t.equal(owners.size, each + each / 2, 'each port that somebody asked for is somebody`s')
  const written = (result: ApplyResult): ReadonlySet<string> => new Set(result.results.map(({ ref }) => ref))
  for (const [result, objects] of [
    [ofA, a],
    [ofB, b],
  ] as const) {
    const [there, refused] = [written(result), new Set(result.problems.map(({ about }) => about))]
    const wrong = objects.filter(object => {
      const { kind, metadata, spec } = object
      const ref = `${kind.toLowerCase()}/default/${metadata.name}`
      const at = revisions.get(`objects/${ref}`)
      if (there.has(ref) === refused.has(ref) || there.has(ref) !== (at !== undefined)) return true
      if (kind !== 'Service' || at === undefined) return false
      const record = `alloc/nodeport/tcp-${spec.ports[0]?.nodePort}`
      return owners.get(record) !== `${ref}:http` || revisions.get(record) !== at
    })
    t.same(wrong, [], 'a Service is there with its record, of one revision, or it was refused')
    const codes = new Set(result.problems.map(({ level, code }) => `${level} ${code}`))
    codes.delete('error NODE_PORT_TAKEN')
    t.same([...codes], [], 'what was refused has the reason')
    t.ok(
      objects.every(
        ({ kind, metadata }) => kind !== 'Endpoints' || there.has(`endpoints/default/${metadata.name}`),
      ),
      'and the others went in',
    )
  }
  t.equal(ofA.problems.length + ofB.problems.length, each / 2, 'of two that ask for one port, one has it')
}
