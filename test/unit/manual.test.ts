// The manual pages are what the program says of itself, and are mdoc without a fault.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createProgram } from '../../agent/cli/cli.js'
import { configSchema } from '../../agent/config-schema.js'
import { fieldsOf } from '../../agent/model/fields.js'
import { manuals } from '../../scripts/manual.js'
import { usageOf } from '../../scripts/manual-warrend.js'
import { flags, plain, sentences } from '../../scripts/mdoc.js'
import { root } from '../support/markdown.js'

t.test('the pages are what the program says of itself', async t => {
  for (const [path, text] of Object.entries(manuals))
    t.equal(readFileSync(join(root, path), 'utf8'), text(), `${path}: npm run manual`)
})

t.test('nothing that the program has is missing', async t => {
  const { program } = createProgram({
    write: () => undefined,
    warn: () => undefined,
    readStdin: async () => '',
    env: {},
    colour: false,
    progress: false,
    signal: new AbortController().signal,
  })
  const commands = readFileSync(join(root, 'docs/man/warren.8'), 'utf8')
  for (const command of program.commands) {
    t.match(commands, `.Ss warren ${command.name()}\n`)
    for (const option of command.options)
      t.match(commands, `Fl ${(option.long ?? '').slice(1)}`, `${command.name()} ${option.long}`)
  }
  const fields = readFileSync(join(root, 'docs/man/warrend.yaml.5'), 'utf8')
  for (const { path } of fieldsOf(configSchema)) t.match(fields, `.It Cm ${path}\n`)
})

t.test(
  'mandoc finds no fault',
  { skip: spawnSync('mandoc', ['-h']).error === undefined ? false : 'no mandoc' },
  async t => {
    for (const path of Object.keys(manuals)) {
      const { stdout, stderr } = spawnSync('mandoc', ['-T', 'lint', join(root, path)], { encoding: 'utf8' })
      // Whether other pages are installed here is no fault of this one.
      const faults = `${stdout}${stderr}`
        .split('\n')
        .filter(line => line !== '' && !/referenced manual not found|mandoc\.db/.test(line))
      t.strictSame(faults, [], path)
    }
    const page = execFileSync('mandoc', ['-T', 'utf8', join(root, 'docs/man/warrend.yaml.5')], {
      encoding: 'utf8',
    }).replace(/.[\b]/g, '')
    t.match(page, /resyncInterval\n +Integer, 1 to 3600\. /)
  },
)

t.test('usage: a flag without a line of its own is an error, not a page without it', async t => {
  const usage =
    'const usage = `Usage: warrend [--config FILE] [--loud]\n\n  --config FILE  where\n\nExit status: 0 fine; 1 not.\n`'
  t.throws(() => usageOf(usage), /Cannot read the usage/)
  const whole = usage.replace('  --config', '  --loud         more\n  --config')
  t.strictSame(usageOf(whole), {
    flags: [
      ['--loud', 'more'],
      ['--config FILE', 'where'],
    ],
    statuses: [
      ['0', 'fine'],
      ['1', 'not'],
    ],
  })
})

t.test('mdoc: escapes and sentences', async t => {
  t.equal(plain('.It is \\n'), '\\&.It is \\en')
  t.equal(flags('-o, --output <format>'), 'Fl o , Fl -output Ar format')
  t.strictSame(sentences('See [this](that.md). Or `ls`; no more.'), ['See this.', 'Or ls; no more.'])
})
