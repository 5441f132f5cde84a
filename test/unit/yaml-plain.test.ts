// The quick reader of plain YAML against the parser of all of it: where it has a value, it is the parser's, and so is its line.
import { readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { readPlain } from '../../lib/yaml/plain.js'
import { parseYaml } from '../../lib/yaml/yaml.js'
import { random } from '../support/random.js'

/** As the parser reads it: the comment is none of the quick reader's. */
const parsed = (text: string): ReturnType<typeof parseYaml> => parseYaml(`${text}\n# \u00e9`)

/** Says what differs; undefined: nothing, or it was left to the parser. */
function differs(text: string): string | undefined {
  const plain = readPlain(text)
  if (plain === undefined) return undefined
  const [document, ...more] = parsed(text)
  const theirs = document?.error?.message ?? JSON.stringify(document?.value)
  if (more.length === 0 && theirs === JSON.stringify(plain.value) && document?.line === plain.line + 1)
    return undefined
  return `${JSON.stringify(text)}\n${JSON.stringify(plain)}\n${theirs} line ${document?.line}`
}

const usual = [
  'apiVersion: warren/v1\nkind: Service\nmetadata: { name: web-1 }\nspec:\n  type: NodePort\n  ports: [{ name: http, port: 80, nodePort: 31234 }]\n',
  'apiVersion: warren/v1\nkind: Endpoints\nmetadata:\n  name: web-1\n  namespace: shop\n  labels: {}\nspec:\n  service: web\n  endpoints:\n    - addresses: [10.244.1.2, "fd00::1"]\n      nodeName: h1\n      ready: true\n    - addresses:\n        - 10.244.1.3\n      ready: false\n  ports:\n  - name: http\n    port: 8080\n  - { name: dns, port: 53, protocol: UDP }\n',
  "# a comment\n\nspec:\n  podCIDRs: [10.244.0.0/16, fd00:244::/48]\n  nodePortRange: 30000-32767\n  mac: 0a:00:00:00:00:01\n  # another\n  backend: { type: vxlan, mtu: 1450 }\n  empty: []\n  quoted: 'it is: {so}, they say'\n",
]

t.test('what most documents are is read, and as the parser reads it', async t => {
  for (const text of usual) {
    t.not(readPlain(text), undefined)
    t.equal(differs(text), undefined)
    t.strictSame(parseYaml(text)[0]?.value, parsed(text)[0]?.value)
  }
  t.equal(parseYaml('---\n\n\na: 1\n')[0]?.line, 4)
  const [, second] = parseYaml(`${usual[0]}---\nspec:\n  ports:\n    - { port: 80 }\n    - port: 81\n`)
  t.equal(second?.lineOf(['spec', 'ports', 1, 'port']), 11, 'and where something stands the parser says')
})

t.test('what is not certain is left to the parser', async t => {
  const unusual = [
    ...[
      'a: &x 1',
      'a: *x',
      'a: !!str 1',
      'a: |\n  text',
      'a: >\n  text',
      'a: b # c',
      'a: b#c',
      '"a": 1',
      '? a\n: b',
      'a:',
      'a: ~',
      'a: null',
    ],
    ...[
      'a: Yes it is',
      'a: True',
      'a: 0x10',
      'a: 0o17',
      'a: 1e3',
      'a: 1.5',
      'a: -1',
      'a: .5',
      'a: 012',
      'a: +1',
      'a: 1234567890123456',
      'a: .inf',
    ],
    ...[
      'a: 1\na: 2',
      'a: { b: 1, b: 2 }',
      'null: 1',
      '__proto__: 1',
      'a: b\n  c',
      'a: b\n  c: d',
      'a: [1,\n  2]',
      'a: "x\\n"',
      "a: 'it''s'",
      'a: [b: c]',
    ],
    ...[
      'a: { b }',
      'a: { b:1 }',
      'a: [b,]',
      'a: b:',
      'a:\n - b\nc',
      'a:\n\tb: 1',
      'a: é',
      ' a: 1',
      '- 1',
      'x',
      '{ a: 1 }',
      '%YAML 1.2',
      'a: b, c',
      'a: @b',
      'a: `b',
      'a: - b',
    ],
  ]
  for (const text of unusual) t.equal(readPlain(text), undefined, text)
})

t.test('every document of this tree, and what becomes of it when letters fall out or in', async t => {
  const texts = [...usual]
  for (const dir of ['docs', 'docs/reference', 'vagrant', 'scripts'])
    for (const name of await readdir(dir)) {
      if (/\.ya?ml$/.test(name)) texts.push(readFileSync(join(dir, name), 'utf8'))
      if (name.endsWith('.md'))
        for (const [, block = ''] of readFileSync(join(dir, name), 'utf8').matchAll(
          /```yaml\n([\s\S]*?)```/g,
        ))
          texts.push(block)
    }
  const documents = texts.flatMap(text => text.split(/^---$/m))
  t.ok(documents.length > 40)
  const { below: int, pick } = random(7)
  const pieces = [
    ...' \n:-,[]{}"\'#&*!|>%@?~.0a/_',
    ': ',
    '- ',
    '\n  ',
    '\n- ',
    ' #',
    'null',
    'true',
    '1e3',
    '0x1',
    '::1',
    'a: b\n',
    '  ',
    '{}',
    '[]',
  ]
  let read = 0
  let changed = 0
  const wrong: string[] = []
  const look = (text: string): void => {
    const found = differs(text)
    if (found !== undefined) wrong.push(found)
  }
  for (const document of documents) {
    if (readPlain(document) !== undefined) read += 1
    look(document)
  }
  t.ok(read > documents.length / 3, `${read} of ${documents.length} are plain`)
  for (let i = 0; i < 6_000; i += 1) {
    let text = pick(documents.slice(0, 40)).slice(0, 600)
    for (let n = int(3); n >= 0; n -= 1) {
      const at = int(text.length + 1)
      text = text.slice(0, at) + (int(3) === 0 ? '' : pick(pieces)) + text.slice(at + int(3))
    }
    // What cuts documents apart is not the reader's.
    if (/^(---|\.\.\.|%)/m.test(text)) continue
    if (readPlain(text) !== undefined) changed += 1
    look(text)
  }
  t.ok(changed > 500, `${changed} changed ones are plain still`)
  t.same(wrong.slice(0, 3), [])
})
