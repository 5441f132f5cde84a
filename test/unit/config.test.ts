// The configuration file: what it means, what is refused and with which words, and that the commented example tells the truth.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { parseConfig } from '../../agent/config.js'
import { configSchema, defaults } from '../../agent/config-schema.js'
import { z } from '../../agent/model/check.js'
import { parseYaml } from '../../lib/yaml/yaml.js'

function refused(text: string): string {
  try {
    parseConfig(`node: h1\n${text}`, 'w.yaml')
  } catch (error) {
    return (error as Error).message
  }
  return 'accepted'
}

t.test('every commented line of docs/warrend.yaml is accepted, and shows the default', async t => {
  const text = readFileSync(new URL('../../docs/warrend.yaml', import.meta.url), 'utf8')
  const plain = parseConfig('node: h1\n', 'w.yaml')
  // One field after the other, each with its indented lines; alternatives ("... or") and the node's name aside.
  const fields = text.match(/^#[a-zA-Z]+:.*(\n# {2,}.*)*/gm) ?? []
  const seen = new Set<string>()
  const absent = ['underlay', 'socketGroup', 'proxyMode', 'netnsPrefix', 'labels']
  // What is shown follows from other fields.
  const derived = ['metrics']
  for (const field of fields) {
    const yaml = field.replace(/^#/gm, '')
    const name = yaml.slice(0, yaml.indexOf(':'))
    const first = !seen.has(name)
    seen.add(name)
    if (name === 'node') continue
    const config = parseConfig(`node: h1\n${yaml}\n`, 'w.yaml')
    if (first && ![...absent, ...derived].includes(name)) t.strictSame(config, plain, yaml)
  }
  t.strictSame(
    [...seen].sort(),
    [...new Set([...Object.keys(plain), ...absent])].sort(),
    'every field stands in the example',
  )
  t.equal(plain.socket, defaults.socket)
})

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly anyOf?: readonly JsonSchema[]
}

/** "store.etcd.tls.ca": every field that a person may write; maps with keys of their own (labels) end there. */
function schemaPaths({ properties = {}, anyOf = [] }: JsonSchema, at = ''): readonly string[] {
  const below = Object.entries(properties).flatMap(([name, each]) => schemaPaths(each, `${at}.${name}`))
  const choices = anyOf.flatMap(each => schemaPaths(each, at)).filter(path => path !== at)
  return at === '' || (below.length === 0 && choices.length === 0)
    ? [at, ...below, ...choices].filter(Boolean)
    : [...below, ...choices]
}

function valuePaths(value: unknown, at = ''): readonly string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [at]
  return [at, ...Object.entries(value).flatMap(([name, each]) => valuePaths(each, `${at}.${name}`))]
}

t.test('docs/warrend.yaml has every field of the schema, nested ones with their defaults', async t => {
  const text = readFileSync(new URL('../../docs/warrend.yaml', import.meta.url), 'utf8')
  const blocks = (text.match(/^#[a-zA-Z]+:.*(\n# {2,}.*)*/gm) ?? []).map(block => block.replace(/^#/gm, ''))
  const shown = new Set(blocks.flatMap(block => valuePaths(parseYaml(block)[0]?.value)))
  const fields = schemaPaths(
    z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }) as JsonSchema,
  )
  t.ok(
    fields.length > 25 && fields.includes('.store.etcd.timeoutMs'),
    'the schema is walked down to its leaves',
  )
  t.strictSame(
    fields.filter(path => !shown.has(path)),
    ['.store.etcd.user.password'],
    'all but the one that a comment names',
  )
  const etcd = blocks.find(block => block.startsWith('store:\n')) ?? ''
  const least = parseConfig(
    'node: h1\nstore: { etcd: { endpoints: ["https://192.0.2.1:2379"] } }\n',
    'w.yaml',
  )
  const full = parseConfig(`node: h1\n${etcd}\n`, 'w.yaml')
  t.match(full.store, least.store, 'what is left out is as the example shows it')
})

t.test('what is wrong is told with file, line, field, value, reason and what to do', async t => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['stor: { file: /x }\n', /"w\.yaml:2": stor is not a known field \(did you mean "store"\?\)/],
    ['store: { file: x }\n', /store\.file "x" must be an absolute path/],
    [
      'store: { file: /x, etcd: { endpoints: ["http://a"] } }\n',
      /store .* fits none of the forms .* \(one of: \{ file \}, \{ etcd \}\)/,
    ],
    [
      'underlay: { interface: a, regex: b }\n',
      /underlay .* may name one of interface, regex, canReach and cidr/,
    ],
    ['underlay: { cidr: 192.0.2.1/24 }\n', /has host bits set \(write 192\.0\.2\.0\/24\)/],
    ['store: { etcd: { endpoints: ["http://a"], tls: { cert: /a } } }\n', /tls .* needs both cert and key/],
    [
      'store: { etcd: { endpoints: ["http://a"], user: { name: a } } }\n',
      /user .* one of password and passwordFile/,
    ],
    ['podBridge: wrn-ovl\n', /podBridge "wrn-ovl" is the name of the VXLAN device/],
    ['podBridge: a2345678901234567\n', /15 characters at most/],
    ['node: h2\n', /"w\.yaml:2": Map keys must be unique/],
    ['a: 1\n---\nb: 2\n', /more than one YAML document/],
  ]
  for (const [text, message] of cases) t.match(refused(text), message, text)
})

t.test('the underlay may be exclusive without being named', async t => {
  t.strictSame(parseConfig('node: h1\nunderlay: { exclusiveVXLAN: true }\n', 'w.yaml').underlay, {
    exclusiveVXLAN: true,
  })
  t.equal(parseConfig('node: h1\npodBridge: none\n', 'w.yaml').podBridge, undefined)
  t.equal(parseConfig('node: h1\nnamePrefix: abc\n', 'w.yaml').podBridge, 'abc0')
})
