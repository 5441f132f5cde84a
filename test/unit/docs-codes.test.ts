// Codes in the documents: each that is told of is in the program, and each that the program has is told of.
import { readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { allPages, root } from '../support/markdown.js'

const pages = allPages()
const byPath = new Map(pages.map(page => [page.path, page]))

t.test('every code that is told of exists', async t => {
  const sources = ['agent', 'lib', 'scripts', 'test']
    .flatMap(folder =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map(name => join(folder, name)),
    )
    .filter(name => /\.(ts|mjs|sh|service)$/.test(name))
    .map(name => readFileSync(join(root, name), 'utf8'))
    .join('\n')
  /** Words of others. */
  const foreign = new Set(['NO_COLOR', 'ORIGINATOR_ID'])
  for (const page of pages)
    for (const { text, line } of page.inline)
      if (/^[A-Z]+(_[A-Z]+)+$/.test(text) && !foreign.has(text) && !sources.includes(text))
        t.fail(`${page.path}:${line}: ${text} stands nowhere in the program`)
  t.pass('all found')
})

t.test('every code of a problem or an error stands in the reference', async t => {
  const reference = ['errors', 'doctor', 'api']
    .map(name => byPath.get(`docs/reference/${name}.md`)?.text)
    .join('')
  /** Of programmers' errors, of steps within the program, and of HTTP. */
  const inner = new Set([
    'ABORTED',
    'ADDRESS',
    'ASYNC',
    'EXIT',
    'HOSTBITS',
    'LARGE',
    'METHOD',
    'OK',
    'PREFIX',
    'RANGE',
    'SYNTAX',
    'UNKNOWN',
  ])
  const codes = new Set<string>()
  for (const folder of ['agent', 'lib'])
    for (const name of readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }))
      if (name.endsWith('.ts') && !name.includes('fake'))
        for (const [, code = ''] of readFileSync(join(root, folder, name), 'utf8').matchAll(
          /\bcode: '([A-Z][A-Z_]+)'/g,
        ))
          if (!(code in constants.errno) && !inner.has(code)) codes.add(code)
  t.ok(codes.size > 60, `${codes.size} codes`)
  t.strictSame(
    [...codes].filter(code => !reference.includes(`\`${code}\``)).sort(),
    [],
    'docs/reference/errors.md: what it means and what to do',
  )
})
