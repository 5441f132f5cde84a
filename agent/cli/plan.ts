// warren plan: what a pass would write, in the words of ip, bridge and nft; nothing is written.
import type { PlanResult } from '../api/control.js'
import type { Problem } from '../model/object.js'
import { collect, readSources } from './apply.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { count, problemLines } from './format.js'
import { type Paint, printable, type Tone } from './table.js'

const signs: Readonly<Record<PlanResult['ops'][number]['verb'], readonly [string, Tone]>> = {
  add: ['+', 'good'],
  change: ['~', 'warn'],
  remove: ['-', 'bad'],
}

function planLines(plan: PlanResult, paint: Paint): readonly string[] {
  const lines: string[] = []
  let table: string | undefined
  for (const op of plan.ops) {
    if (op.table !== table) lines.push(paint('dim', `# ${printable(op.table)}`))
    table = op.table
    const [sign, tone] = signs[op.verb]
    for (const line of printable(op.line, true).trimEnd().split('\n'))
      lines.push(paint(tone, `${sign} ${line}`))
  }
  const of = (verb: string): number => plan.ops.filter(op => op.verb === verb).length
  lines.push(
    plan.ops.length === 0
      ? 'Nothing to do.'
      : `${count(plan.ops.length, 'change')}: ${of('add')} to add, ${of('change')} to change, ${of('remove')} to remove.`,
  )
  return lines
}

/** Those of `problems` that the documents of the plan brought: what is wrong already is for `status`. */
function newProblems(problems: readonly Problem[], present: readonly Problem[]): readonly Problem[] {
  const known = new Set(present.map(({ code, message }) => `${code} ${message}`))
  return problems.filter(({ code, message }) => !known.has(`${code} ${message}`))
}

export const planCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(
      async (options: { readonly file?: readonly string[]; readonly output: string }) => {
        const client = await cli.client()
        const sources = await readSources(options.file ?? [], cli)
        const present = sources.length === 0 ? [] : (await client.status()).problems
        const file = sources.map(source => source.file).join(', ')
        const plan =
          sources.length === 0
            ? await client.plan()
            : await client.plan(sources.map(source => source.text).join('\n---\n'), file)
        const problems = newProblems(plan.problems, present)
        const bad = sources.length > 0 && problems.some(problem => problem.level === 'error')
        if (options.output === 'json') cli.io.write(`${JSON.stringify(plan, null, 2)}\n`)
        else {
          cli.print(planLines(plan, cli.paint))
          if (plan.hold !== undefined)
            cli.complain([
              `${cli.paint('warn', 'on hold')}: ${printable(plan.hold)}; nothing of it is written now`,
            ])
          cli.complain(problems.flatMap(problem => problemLines(problem, cli.paint)))
        }
        if (bad) return exit.failed
        return plan.ops.length > 0 ? exit.changes : exit.ok
      },
    )
    program
      .command('plan')
      .description('what would change on this host, as ip, bridge and nft lines; writes nothing')
      .option(
        '-f, --file <file>',
        'documents laid over the present model: file, directory or -; may be repeated',
        collect,
      )
      .addOption(outputOption('text', 'json'))
      .addHelpText(
        'after',
        `\nExit status: 0 nothing to do; 2 there are changes; 1 an error; 3 warrend does not answer.${examples('warren plan', 'warren plan -f new.yaml')}`,
      )
      .action(run)
  },
}
