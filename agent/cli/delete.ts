// warren delete: objects out of the shared store. What stands in a file that people wrote is refused, with its place.
import { WarrenError } from '../../lib/errors.js'
import type { DeleteManyResult } from '../api/control.js'
import type { Problem } from '../model/object.js'
import { collect, readSources } from './apply.js'
import { type Cli, type CommandModule, examples, exit, outputOption } from './command.js'
import { problemLines } from './format.js'
import { openModel } from './model-access.js'
import { someText } from './service-text.js'
import { printable } from './table.js'

interface DeleteOptions {
  readonly namespace?: string
  readonly file?: readonly string[]
  readonly output: string
}

/** "service/web" in "shop" is "service/shop/web"; what says its namespace, or has none, stays. */
async function withNamespace(refs: readonly string[], namespace: string): Promise<readonly string[]> {
  const { findKind } = await import('../model/kinds.js')
  return refs.map(ref => {
    const [kind = '', ...rest] = ref.split('/')
    const scoped = findKind(kind)?.scope === 'namespace' && rest.length === 1
    return scoped ? [kind, namespace, ...rest].join('/') : ref
  })
}

/** ", released 10.0.0.9 31234/tcp": what others may have now. */
function releasedText(keys: readonly string[] = []): string {
  const values = keys.map(key => {
    const [, pool = '', value = ''] = /^([^/]+)\/(.*)$/.exec(key) ?? []
    return pool === 'nodeport' ? value.replace(/^(\w+)-(\d+)$/, '$2/$1') : value.replace(/-(\d+)$/, '/$1')
  })
  return values.length === 0 ? '' : printable(`, released ${someText(values, 8)}`)
}

type Result = DeleteManyResult['results'][number]

interface Named {
  readonly refs: readonly string[]
  readonly problems: readonly Problem[]
}

/** What stands in the files, the last one first: what leans on something comes after it there. */
async function refsOfFiles(files: readonly string[], cli: Cli): Promise<Named> {
  const { parseDocuments } = await import('../model/document.js')
  const { refOf } = await import('../model/object.js')
  const parsed = (await readSources(files, cli)).map(({ file, text }) =>
    parseDocuments(text, { file, strict: true }),
  )
  const refs = parsed.flatMap(({ objects }) => objects.map(({ object }) => refOf(object)))
  return { refs: [...new Set(refs.reverse())], problems: parsed.flatMap(({ problems }) => problems) }
}

function lines(result: Result, cli: Cli): readonly string[] {
  const { ref, deleted, released, revision } = result
  if (!deleted) return []
  return [
    `${printable(ref)} ${cli.paint('good', 'deleted')}${releasedText(released)}`,
    `revision ${revision}`,
  ]
}

function report(result: Result, cli: Cli): void {
  const { ref, deleted, problems } = result
  cli.complain(problems.flatMap(problem => problemLines(problem, cli.paint)))
  if (deleted) cli.print(lines(result, cli))
  else if (problems.length === 0) cli.complain([`${printable(ref)} was not there`])
}

export const deleteCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(async (given: readonly string[], options: DeleteOptions) => {
      const { namespace, file } = options
      if (given.length === 0 && file === undefined)
        throw new WarrenError('Cannot delete nothing: no object is named', {
          code: 'USAGE',
          hint: 'warren delete KIND/NAME, or warren delete -f FILE',
        })
      const named = namespace === undefined ? given : await withNamespace(given, namespace)
      const { refs: ofFiles, problems } =
        file === undefined ? { refs: [], problems: [] } : await refsOfFiles(file, cli)
      const refs = [...named, ...ofFiles]
      const model = await openModel(cli)
      const results: Result[] = []
      try {
        // One that cannot be deleted is the command's own failure.
        const [ref] = refs
        if (refs.length === 1 && ref !== undefined) results.push({ ref, ...(await model.delete(ref)) })
        else if (refs.length > 1) results.push(...(await model.deleteMany(refs)).results)
      } finally {
        await model.close()
      }
      if (options.output === 'json') cli.io.write(`${JSON.stringify(results, null, 2)}\n`)
      else for (const result of results) report(result, cli)
      cli.complain(problems.flatMap(problem => problemLines(problem, cli.paint)))
      const failed = problems.length > 0 || results.some(({ deleted }) => !deleted)
      return failed ? exit.failed : exit.ok
    })
    program
      .command('delete')
      .description('delete objects; with a node goes its block')
      .argument('[kind/name...]', 'as "warren get KIND -o name" prints them')
      .option(
        '-f, --file <file>',
        'the objects of a file, directory, or - for standard input, the last one first; may be repeated',
        collect,
      )
      .option('-n, --namespace <name>', 'of names that say none; default: default')
      .addOption(outputOption('text', 'json'))
      .addHelpText(
        'after',
        examples('warren delete node/h3', 'warren delete service/web', 'warren delete -f web.yaml'),
      )
      .action(run)
  },
}
