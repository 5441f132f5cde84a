// warren apply: documents into the shared store.
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf, WarrenError } from '../../lib/errors.js'
import type { ApplyResult } from '../api/control.js'
import { type Cli, type CommandModule, examples, exit, outputOption } from './command.js'
import { problemLines } from './format.js'
import { openModel } from './model-access.js'
import { type Column, type Tone, tableLines } from './table.js'

type Applied = ApplyResult['results'][number]

const tones: Readonly<Record<Applied['outcome'], Tone>> = {
  created: 'good',
  changed: 'good',
  unchanged: 'dim',
  refused: 'bad',
}

const columns: readonly Column<Applied>[] = [
  { title: 'OBJECT', value: row => row.ref },
  { title: 'OUTCOME', value: row => ({ text: row.outcome, tone: tones[row.outcome] ?? 'bold' }) },
]

export interface Source {
  /** As messages name it. */
  readonly file: string
  readonly text: string
}

function readFailure(file: string, error: unknown): WarrenError {
  return new WarrenError(`Cannot read "${file}": ${codeOf(error)}`, {
    code: codeOf(error),
    hint: 'name a YAML file, a directory of them, or - for standard input',
    cause: error,
  })
}

/** The texts that -f names: files, directories (their *.yaml and *.yml, by name), "-". */
export async function readSources(files: readonly string[], cli: Cli): Promise<readonly Source[]> {
  const sources: Source[] = []
  for (const file of files) {
    try {
      if (file === '-') sources.push({ file: 'stdin', text: await cli.io.readStdin() })
      else if ((await stat(file)).isDirectory()) {
        const names = (await readdir(file)).filter(name => /^[^.].*\.ya?ml$/.test(name)).sort()
        for (const name of names)
          sources.push({ file: join(file, name), text: await readFile(join(file, name), 'utf8') })
      } else sources.push({ file, text: await readFile(file, 'utf8') })
    } catch (error) {
      throw readFailure(file, error)
    }
  }
  return sources
}

export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value]
}

function report(result: ApplyResult, cli: Cli): void {
  if (result.results.length > 0) cli.print(tableLines(columns, result.results, cli.paint))
  // One that concerns an object may stand at the object and in the whole.
  const problems = new Map(
    [...result.results.flatMap(each => each.problems), ...result.problems].map(problem => [
      `${problem.about} ${problem.message}`,
      problem,
    ]),
  )
  cli.complain([...problems.values()].flatMap(problem => problemLines(problem, cli.paint)))
  if (result.results.length === 0 && problems.size === 0) cli.complain(['No documents.'])
  cli.print([`revision ${result.revision}`])
}

function refused(result: ApplyResult): boolean {
  return (
    result.results.some(each => each.outcome === 'refused') ||
    result.problems.some(problem => problem.level === 'error')
  )
}

export const applyCommand: CommandModule = {
  define(program, cli) {
    program
      .command('apply')
      .description('create or change the objects of YAML documents')
      .requiredOption(
        '-f, --file <file>',
        'file, directory, or - for standard input; may be repeated',
        collect,
      )
      .addOption(outputOption('text', 'json'))
      .addHelpText(
        'after',
        `\nExit status: 0 all are in the store; 1 one or more were refused, with file, line and reason; 3 warrend does not answer.${examples('warren apply -f cluster.yaml', 'warren get nodes -o yaml | warren apply -f -')}`,
      )
      .action(
        cli.action(async (options: { readonly file: readonly string[]; readonly output: string }) => {
          const sources = await readSources(options.file, cli)
          const model = await openModel(cli)
          try {
            const parts: ApplyResult[] = []
            for (const { file, text } of sources) parts.push(await model.apply(text, file))
            const result: ApplyResult = {
              revision: Math.max(0, ...parts.map(part => part.revision)),
              results: parts.flatMap(part => part.results),
              problems: parts.flatMap(part => part.problems),
            }
            if (options.output === 'json') cli.io.write(`${JSON.stringify(result, null, 2)}\n`)
            else report(result, cli)
            return refused(result) ? exit.failed : exit.ok
          } finally {
            await model.close()
          }
        }),
      )
  },
}
