// warren delete: objects out of the shared store. What stands in a file that people wrote is refused, with its place.
import { asError } from '../../lib/errors.js'
import type { DeleteResult } from '../api/control.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { errorLines, problemLines } from './format.js'
import { openModel } from './model-access.js'
import { someText } from './service-text.js'
import { printable } from './table.js'

interface DeleteOptions {
  readonly namespace?: string
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

export const deleteCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(async (given: readonly string[], options: DeleteOptions) => {
      const { namespace } = options
      const refs = namespace === undefined ? given : await withNamespace(given, namespace)
      const model = await openModel(cli)
      const results: (DeleteResult & { readonly ref: string })[] = []
      let failed = false
      try {
        for (const ref of refs) {
          try {
            const result = await model.delete(ref)
            results.push({ ref, ...result })
            failed ||= !result.deleted
            if (options.output === 'json') continue
            cli.complain(result.problems.flatMap(problem => problemLines(problem, cli.paint)))
            if (result.deleted)
              cli.print([
                `${printable(ref)} ${cli.paint('good', 'deleted')}${releasedText(result.released)}`,
                `revision ${result.revision}`,
              ])
            else if (result.problems.length === 0) cli.complain([`${printable(ref)} was not there`])
          } catch (thrown) {
            // One that cannot be deleted does not stop the others; nor does it hide behind them.
            if (refs.length === 1) throw thrown
            failed = true
            if (options.output !== 'json') cli.complain(errorLines(thrown, cli.paint))
            const { code, message, hint } = asError(thrown)
            const problem = { level: 'error', about: ref, code, message, hint } as const
            results.push({ ref, revision: 0, deleted: false, problems: [problem] })
          }
        }
      } finally {
        await model.close()
      }
      if (options.output === 'json') cli.io.write(`${JSON.stringify(results, null, 2)}\n`)
      return failed ? exit.failed : exit.ok
    })
    program
      .command('delete')
      .description('delete objects; with a node goes its block')
      .argument('<kind/name...>', 'as "warren get KIND -o name" prints them')
      .option('-n, --namespace <name>', 'of names that say none; default: default')
      .addOption(outputOption('text', 'json'))
      .addHelpText('after', examples('warren delete node/h3', 'warren delete service/web'))
      .action(run)
  },
}
