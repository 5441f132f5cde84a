// warren show: what should be on this host and what is, table by table, as lines that can be pasted into a shell.
import { Argument } from 'commander'
import type { ShownObject } from '../api/control.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { count } from './format.js'
import { type Paint, printable } from './table.js'

function shownLines(
  tables: Readonly<Record<string, readonly ShownObject[]>>,
  paint: Paint,
): readonly string[] {
  const lines: string[] = []
  for (const [name, objects] of Object.entries(tables)) {
    if (lines.length > 0) lines.push('')
    lines.push(paint('bold', `# ${printable(name)}: ${count(objects.length, 'object')}`))
    for (const { line, owner } of objects) {
      const text = printable(line, true).trimEnd()
      const note = owner === undefined ? '' : paint('dim', `# ${printable(owner)}`)
      if (note === '') lines.push(text)
      else if (text.includes('\n')) lines.push(note, text)
      else lines.push(`${text}  ${note}`)
    }
  }
  return lines
}

export const showCommand: CommandModule = {
  define(program, cli) {
    program
      .command('show')
      .description('what should be on this host, or what of ours is there')
      .addArgument(new Argument('<side>', 'which').choices(['desired', 'observed']))
      .argument('[table]', 'link, route, fdb, filter ...; default: all')
      .addOption(outputOption('text', 'json'))
      .addHelpText(
        'after',
        examples('warren show desired', 'warren show observed route', 'warren show desired fdb -o json'),
      )
      .action(
        cli.action(
          async (
            side: 'desired' | 'observed',
            table: string | undefined,
            options: { readonly output: string },
          ) => {
            const tables = await (await cli.client()).show(side, table)
            if (options.output === 'json') cli.io.write(`${JSON.stringify(tables, null, 2)}\n`)
            else cli.print(shownLines(tables, cli.paint))
            return exit.ok
          },
        ),
      )
  },
}
