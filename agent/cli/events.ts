// warren events: what was written, what was repaired, after how long, whose hand it was.
import { InvalidArgumentError } from 'commander'
import type { Receipt } from '../../lib/reconcile/receipt.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { duration } from './format.js'
import { type Column, type Paint, type Tone, tableLines, tableStream } from './table.js'

const causeTones: Readonly<Record<Receipt['cause'], Tone>> = {
  start: 'dim',
  model: 'good',
  drift: 'warn',
  orphan: 'warn',
}

const localTime = (iso: string): string => {
  const date = new Date(iso)
  if (Number.isNaN(date.getTime())) return iso
  const two = (n: number, width = 2): string => String(n).padStart(width, '0')
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${two(date.getMilliseconds(), 3)}`
}

/** The first line tells which object; a table of nft has hundreds. */
function what(receipt: Receipt): string {
  const [first = '', ...more] = receipt.line.trimEnd().split('\n')
  return more.length === 0 ? first : `${first} ... (${more.length + 1} lines)`
}

const columns: readonly Column<Receipt>[] = [
  { title: 'TIME', value: row => localTime(row.at), width: 12 },
  { title: 'TABLE', value: row => row.table, width: 10 },
  { title: 'CAUSE', value: row => ({ text: row.cause, tone: causeTones[row.cause] ?? 'bold' }), width: 6 },
  {
    title: 'AFTER',
    value: row => (row.afterMs === undefined ? undefined : duration(row.afterMs)),
    width: 7,
    right: true,
  },
  { title: 'HAND', value: row => row.hand, width: 16 },
  {
    title: 'WHAT',
    value: row => (row.error === undefined ? what(row) : { text: `${what(row)}: ${row.error}`, tone: 'bad' }),
  },
]

export function eventLines(receipts: readonly Receipt[], paint: Paint): readonly string[] {
  return tableLines(columns, receipts, paint)
}

function parseId(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('an event has a whole number')
  return Number(text)
}

interface EventsOptions {
  readonly follow?: boolean
  readonly after: number
  readonly output: string
}

export const eventsCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(async ({ follow, after, output }: EventsOptions) => {
      const client = await cli.client()
      const json = (receipt: Receipt): void => cli.io.write(`${JSON.stringify(receipt)}\n`)
      if (follow !== true) {
        const receipts = await client.events(after)
        if (output === 'json') receipts.forEach(json)
        else if (receipts.length === 0) cli.complain(['No events.'])
        else cli.print(eventLines(receipts, cli.paint))
        return exit.ok
      }
      const { header, row } = tableStream(columns, cli.paint)
      if (output !== 'json') cli.print([header])
      try {
        await client.follow(after, receipt => (output === 'json' ? json(receipt) : cli.print([row(receipt)])))
      } catch (error) {
        if (!cli.io.signal.aborted) throw error
        return exit.ok
      }
      cli.complain(['warrend has ended.'])
      return exit.unreachable
    })
    program
      .command('events')
      .description('what was written and repaired, after how long, whose hand it was')
      .option('--follow', 'go on as they come')
      .option('--after <id>', 'only those with a higher id', parseId, 0)
      .addOption(outputOption('text', 'json'))
      .addHelpText(
        'after',
        `\nWith -o json every event is one line.${examples('warren events --follow', `warren events -o json | jq 'select(.cause == "drift")'`)}`,
      )
      .action(run)
  },
}
