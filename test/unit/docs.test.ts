// The documents tell the truth, as far as a machine can see: links lead somewhere, commands, options, kinds, codes and files
// exist, YAML is accepted, and the references are what the schemas say.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import type { Command } from 'commander'
import t from 'tap'
import { createProgram } from '../../agent/cli/cli.js'
import { parseConfig } from '../../agent/config.js'
import { configSchema } from '../../agent/config-schema.js'
import { parseDocuments } from '../../agent/model/document.js'
import { fieldsOf } from '../../agent/model/fields.js'
import { findKind, kinds } from '../../agent/model/kinds.js'
import { exampleOf, pages as references } from '../../scripts/reference.js'
import { allPages, argumentsOf, commandsOf, parsePage, root } from '../support/markdown.js'

const pages = allPages()
const byPath = new Map(pages.map(page => [page.path, page]))

t.test('the references are what the schemas say', async t => {
  for (const [path, page] of Object.entries(references))
    t.equal(
      readFileSync(join(root, path), 'utf8'),
      page(),
      `${path}: node --no-warnings --import ./test/support/register.mjs scripts/reference.ts`,
    )
})

t.test('every field that people may write has a meaning', async t => {
  const all = [
    ['warrend.yaml', configSchema] as const,
    ...Object.values(kinds).map(k => [k.kind, k.schema] as const),
  ]
  for (const [name, schema] of all) {
    const fields = fieldsOf(schema).filter(({ path }) => name === 'warrend.yaml' || path.startsWith('spec.'))
    t.ok(fields.length > 0, name)
    t.strictSame(
      fields.filter(({ meaning }) => meaning === '').map(({ path }) => path),
      [],
      `${name}: .describe(...) where one is missing`,
    )
  }
})

t.test('fields of a schema: forms, lists, bounds and defaults', async t => {
  const of = new Map(
    fieldsOf(kinds.Cluster.schema).map(field => [`${field.path} ${field.form ?? ''}`, field]),
  )
  t.match(of.get('spec.backend.vni type: vxlan'), { type: 'integer', range: '1 to 16777215', default: '1' })
  t.match(of.get('spec.podCIDRs '), { type: 'list of prefix', range: '1 to 2 entries', required: true })
  t.match(of.get('spec.nodeSubnetLength.ipv4 '), { range: '8 to 30', default: '24', required: false })
  t.equal(of.get('spec.backend.directRouting type: host-gw'), undefined)
})

t.test('an example of each kind is accepted, all of them together', async t => {
  const text = Object.values(kinds).map(exampleOf).join('---\n')
  const { objects, problems } = parseDocuments(text, { file: 'resources.md', strict: true })
  t.strictSame(problems, [])
  t.equal(objects.length, Object.keys(kinds).length)
})

t.test('every link leads somewhere', async t => {
  let count = 0
  for (const page of pages) {
    for (const { text, line } of page.links) {
      if (/^[a-z]+:/.test(text)) continue
      count += 1
      const [file = '', anchor] = text.split('#')
      const target = file === '' ? page.path : normalize(join(dirname(page.path), file))
      if (!existsSync(join(root, target))) t.fail(`${page.path}:${line}: ${text}: no such file`)
      else if (anchor !== undefined && byPath.get(target)?.anchors.has(anchor) === false)
        t.fail(`${page.path}:${line}: ${text}: no such heading`)
    }
  }
  t.ok(count > 50, `${count} links`)
  const sample = parsePage(
    'a.md',
    '# A `b` (c), d\n# A `b` (c), d\n[x](y.md#z)\n\n    warren status\n\n`[n](o)`\n',
  )
  t.strictSame([...sample.anchors], ['a-b-c-d', 'a-b-c-d-1'])
  t.strictSame(
    [sample.links, sample.blocks.map(({ text }) => text)],
    [[{ text: 'y.md#z', line: 3 }], ['warren status']],
  )
})

const io = {
  write: () => undefined,
  warn: () => undefined,
  readStdin: async () => '',
  env: {},
  colour: false,
  progress: false,
  signal: new AbortController().signal,
}
const { program } = createProgram(io)
/** Stands for something: KIND/NAME, [PREFIX|ADDRESS], FILE|DIR|-, ... */
const placeholder = (word: string): boolean => /^[[<]|[\]>]$|[A-Z]{2,}|^\.\.\.$|^\$/.test(word)

/** What is wrong with a line of `warren`; undefined: it could be run. */
function fault(args: readonly string[], whole = true): string | undefined {
  let command: Command = program
  const given: string[] = []
  const rest = args.flatMap(word => (word.startsWith('--') && word.includes('=') ? word.split('=') : [word]))
  while (rest.length > 0) {
    const word = (rest.shift() ?? '').replace(/^\[+(?=-|\w)|\]+$/g, '')
    if (word === '' || word === '...') continue
    if (/^-./.test(word)) {
      const known = [command, program].flatMap(({ options }) => [...options])
      const option = known.find(({ short, long }) => word === short || word === long)
      if (option === undefined) {
        if (word === '--help' || word === '-h') continue
        return `no option ${word} of "${command.name()}"`
      }
      if (!option.required && !option.optional) continue
      const value = (rest.shift() ?? '').replace(/\]+$/g, '')
      if (value === '' && whole) return `${word} needs a value`
      const choices = option.argChoices
      const wrong = value.split('|').find(each => choices?.includes(each) === false && !placeholder(each))
      if (wrong !== undefined) return `${word} ${wrong}: one of ${choices?.join(', ')}`
      continue
    }
    // "attach|detach" are two lines in one
    const names = word.split('|')
    const [inner, ...others] = names.map(name => command.commands.find(each => each.name() === name))
    if (inner !== undefined && !others.includes(undefined) && given.length === 0) command = inner
    else if (command.commands.length > 0 && command.registeredArguments.length === 0) {
      if (placeholder(word) || (command === program && ['help', 'version'].includes(word))) return undefined
      return `no command "${word}" of "${command.name()}"`
    } else given.push(word)
  }
  const takes = command.registeredArguments
  if (given.length > takes.length && takes.at(-1)?.variadic !== true && !given.some(placeholder))
    return `too many arguments of "${command.name()}": ${given.join(' ')}`
  const [first = ''] = given
  const choices = takes[0]?.argChoices
  if (first !== '' && !placeholder(first) && choices?.includes(first.split('|')[0] ?? '') === false)
    return `${first}: one of ${choices.join(', ')}`
  if (['get', 'describe', 'delete'].includes(command.name()) && first !== '' && !placeholder(first)) {
    const unknown = (first.split('/')[0] ?? '').split(/[,|]/).find(name => findKind(name) === undefined)
    if (unknown !== undefined) return `no kind "${unknown}"`
  }
  return undefined
}

/** Shell lines of a page: those of its blocks, and code inside of text that begins with a program of ours. */
const lines = pages.flatMap(page => [
  ...page.blocks
    .filter(({ language }) => language === '' || language === 'sh')
    .flatMap(({ text, line }) =>
      text.split('\n').map((each, i) => ({ page: page.path, line: line + i, text: each, block: true })),
    ),
  ...page.inline
    .filter(({ text }) => /^(sudo )?(warren|warrend|scripts\/\S+|npm run) /.test(text))
    .map(({ text, line }) => ({ page: page.path, line, text, block: false })),
])

t.test('every `warren` line names a command, options and kinds that exist', async t => {
  let count = 0
  for (const { page, line, text, block } of lines)
    for (const command of commandsOf(text)) {
      const args = argumentsOf(command, 'warren')
      if (args === undefined) continue
      count += 1
      const wrong = fault(args, block)
      if (wrong !== undefined) t.fail(`${page}:${line}: ${text.trim()}: ${wrong}`)
    }
  t.ok(count > 60, `${count} lines`)
  const cases: readonly (readonly [string, RegExp | undefined])[] = [
    ['warren get nodes -o wide', undefined],
    ['sudo warren --socket /x status -o json | jq .', undefined],
    ['scripts/lab.sh exec h1 warren plan # why', undefined],
    ['warren frobnicate', /no command/],
    ['warren status --wide', /no option --wide/],
    ['warren status -o yaml', /one of text, json/],
    ['warren get pots', /no kind "pots"/],
    ['warren port atach red/a --tap x', /no command "atach"/],
    ['warren port attach red/a --tap', /--tap needs a value/],
    ['warren status h1 h2', /too many/],
  ]
  for (const [text, expected] of cases) {
    const found = commandsOf(text).map(command => argumentsOf(command, 'warren'))
    const wrong = fault(found.find(args => args !== undefined) ?? ['no warren in it'])
    if (expected === undefined) t.equal(wrong, undefined, text)
    else t.match(wrong, expected, text)
  }
})

t.test('every script and option of one exists', async t => {
  const texts = new Map<string, string>()
  const textOf = (script: string): string => {
    const known = texts.get(script)
    if (known !== undefined) return known
    let text = readFileSync(join(root, script), 'utf8')
    // lab.sh and what it sources; bench.sh and the program behind it.
    if (/\/(lab|test|run)\.sh$/.test(script))
      for (const name of readdirSync(join(root, 'scripts')))
        if (/^(lab|env|lib)/.test(name)) text += readFileSync(join(root, 'scripts', name), 'utf8')
    if (/bench\.sh$/.test(script))
      for (const name of readdirSync(join(root, 'test/bench')))
        text += readFileSync(join(root, 'test/bench', name), 'utf8')
    texts.set(script, text)
    return text
  }
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
  }
  const daemon = readFileSync(join(root, 'agent/main.ts'), 'utf8')
  let count = 0
  for (const { page, line, text } of lines) {
    for (const command of commandsOf(text)) {
      const at = command.findIndex(word => /^(\.\/)?(scripts|vagrant)\/[\w/-]+\.(sh|ts|mjs)$/.test(word))
      const script = command[at]?.replace(/^\.\//, '')
      const run = command[0] === 'npm' && command[1] === 'run' ? command[2] : undefined
      let known: string | undefined
      if (script !== undefined) {
        if (!existsSync(join(root, script))) {
          t.fail(`${page}:${line}: ${script}: no such file`)
          continue
        }
        known = textOf(script)
      } else if (run !== undefined) {
        if (scripts[run] === undefined) t.fail(`${page}:${line}: npm run ${run}: not in package.json`)
        known = run === 'bench' ? textOf('scripts/bench.sh') : undefined
      } else if (/^(sudo )?warrend( |$)/.test(command.join(' '))) known = daemon
      if (known === undefined) continue
      count += 1
      // Behind "exec HOST" and "--" stands another program's line.
      const end = command.indexOf('exec')
      for (const word of end < 0 ? command : command.slice(0, end)) {
        const flag = /^\[?(--[a-z][a-z-]*)/.exec(word)?.[1]
        if (flag === undefined || flag === '--help') continue
        const there =
          known.includes(flag) || known.includes(`${flag.slice(2)}:`) || known.includes(`'${flag.slice(2)}'`)
        if (!there) t.fail(`${page}:${line}: ${text.trim()}: no option ${flag}`)
      }
    }
  }
  t.ok(count > 20, `${count} lines`)
})

t.test('documents of the model and of warrend.yaml in the text are accepted', async t => {
  let count = 0
  for (const page of pages)
    for (const { text, line, language } of page.blocks) {
      if (language !== 'yaml') continue
      const about = `${page.path}:${line}`
      if (/^apiVersion: warren\/v1/m.test(text)) {
        count += 1
        const { problems } = parseDocuments(text, { file: about, strict: true })
        t.strictSame(
          problems.map(({ message }) => message),
          [],
          about,
        )
      } else if (/warrend\.yaml/.test(text.split('\n')[0] ?? '')) {
        count += 1
        t.doesNotThrow(() => parseConfig(`${/^node:/m.test(text) ? '' : 'node: h1\n'}${text}`, about), about)
      }
    }
  t.ok(count > 8, `${count} blocks`)
})
