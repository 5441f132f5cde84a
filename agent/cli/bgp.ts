// warren bgp: who this host peers with and why; warren bgp routes: what they announce, and what became of it.
import type { Command } from 'commander'
import type { BgpRouteView, BgpSessionView, BgpView } from '../api/bgp-view.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { count, duration } from './format.js'
import { type Column, type Paint, printable, type Tone, tableLines } from './table.js'

interface Options {
  readonly output: string
}

function sum({ counts }: BgpSessionView, field: 'received' | 'advertised'): number | undefined {
  const numbers = Object.values(counts).flatMap(each => (each[field] === undefined ? [] : [each[field]]))
  return numbers.length === 0 ? undefined : numbers.reduce((a, b) => a + b, 0)
}

const sessionColumns: readonly Column<BgpSessionView>[] = [
  { title: 'PEER', value: row => row.peer },
  { title: 'ADDRESS', value: row => row.address },
  { title: 'AS', value: row => row.asn, right: true },
  { title: 'ROLE', value: row => (row.role === 'retained' ? { text: row.role, tone: 'warn' } : row.role) },
  {
    title: 'STATE',
    value: row =>
      row.state === 'established'
        ? {
            text: row.synced ? 'established' : 'established, not in sync',
            tone: row.synced ? 'good' : 'warn',
          }
        : { text: row.state, tone: 'bad' },
  },
  {
    title: 'UPTIME',
    value: row => (row.since === undefined ? undefined : duration(Date.now() - Date.parse(row.since))),
  },
  { title: 'IN', value: row => sum(row, 'received'), right: true },
  { title: 'ACCEPTED', value: row => row.accepted, right: true },
  {
    title: 'REJECTED',
    value: row => (row.rejected === 0 ? 0 : { text: String(row.rejected), tone: 'warn' }),
    right: true,
  },
  {
    title: 'STALE',
    value: row => (row.stale === 0 ? 0 : { text: String(row.stale), tone: 'warn' }),
    right: true,
  },
  { title: 'OUT', value: row => sum(row, 'advertised'), right: true },
]

function bgpLines(view: BgpView, paint: Paint): readonly string[] {
  const reflectors =
    view.topology === 'mesh' ? '' : `, reflectors: ${view.reflectors.join(', ') || 'none here'}`
  const lines = [
    `AS ${view.asn}  router id ${view.routerId}  ${paint('bold', view.topology)} (${printable(view.why)}${reflectors})`,
  ]
  const up = view.sessions.filter(({ state }) => state === 'established').length
  const tone: Tone = view.settled ? 'good' : 'warn'
  const known = view.settled
    ? 'all that routes depend on is known'
    : 'not all is known: what is missing is taken from the leases'
  lines.push(`${up} of ${count(view.sessions.length, 'session')} established; ${paint(tone, known)}`)
  if (view.error !== undefined) lines.push(`${paint('bad', 'gobgpd:')} ${printable(view.error)}`)
  if (view.sessions.length > 0) lines.push('', ...tableLines(sessionColumns, view.sessions, paint))
  for (const { peer, why } of view.sessions)
    if (why !== undefined) lines.push(`${paint('warn', peer)}: ${printable(why)}`)
  return lines
}

const tones: Readonly<Record<BgpRouteView['status'], Tone>> = {
  accepted: 'good',
  carrier: 'good',
  service: 'dim',
  lease: 'warn',
  rejected: 'bad',
}

const routeColumns: readonly Column<BgpRouteView>[] = [
  { title: 'PREFIX', value: row => row.prefix },
  { title: 'FROM', value: row => row.from },
  { title: 'NEXT HOP', value: row => row.nextHop },
  {
    title: 'STATUS',
    value: row => ({ text: row.stale ? `${row.status}, stale` : row.status, tone: tones[row.status] }),
  },
  { title: 'OWNER', value: row => row.owner },
  { title: 'KERNEL', value: row => row.kernel },
  { title: 'WHY', value: row => (row.code === undefined ? row.why : `${row.code}: ${row.why ?? ''}`) },
]

function bgpRouteLines(routes: readonly BgpRouteView[], paint: Paint): readonly string[] {
  if (routes.length === 0) return ['No routes.']
  return tableLines(routeColumns, routes, paint)
}

export const bgpCommand: CommandModule = {
  define(program, cli) {
    const print = async (value: unknown, lines: () => readonly string[], output: string): Promise<number> => {
      if (output === 'json') cli.io.write(`${JSON.stringify(value, null, 2)}\n`)
      else if (output === 'yaml') cli.io.write((await import('../../lib/yaml/yaml.js')).formatYaml(value))
      else cli.print(lines())
      return exit.ok
    }
    const bgp = program
      .command('bgp')
      .description('BGP: sessions and why they are wanted; routes and what became of them')
      .addOption(outputOption('table', 'json', 'yaml'))
      .addHelpText(
        'after',
        examples(
          'warren bgp',
          'warren bgp routes',
          'warren bgp routes 10.244.2.0/24',
          "warren bgp -o json | jq '.sessions[].state'",
        ),
      )
      .action(
        cli.action(async ({ output }: Options) => {
          const view = await (await cli.client()).bgp()
          return print(view, () => bgpLines(view, cli.paint), output)
        }),
      )
    bgp
      .command('routes')
      .description(
        'what the peers announce: accepted or rejected and why, whose lease it is, the route in the kernel',
      )
      .argument('[prefix]', 'only those that touch this prefix or address')
      .addOption(outputOption('table', 'json', 'yaml'))
      .action(
        // The option is read by the group, wherever it stands (commander's way with options of one name).
        cli.action(async (prefix: string | undefined, own: Options, command: Command) => {
          const output = command.parent?.opts<Options>().output ?? own.output
          const routes = await (await cli.client()).bgpRoutes(prefix)
          return print(routes, () => bgpRouteLines(routes, cli.paint), output)
        }),
      )
  },
}
