// warren status: the host at a glance.
import type { PeerStatus, Status } from '../api/control.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { count, duration, problemLines } from './format.js'
import { type Column, type Paint, printable, type Tone, tableLines } from './table.js'

type TableRow = Status['tables'][number]

const tableTones = { converged: 'good', degraded: 'bad', unknown: 'warn' } as const
const peerTones = { up: 'good', silent: 'warn', refused: 'bad' } as const

const tableColumns: readonly Column<TableRow>[] = [
  { title: 'TABLE', value: row => row.name },
  { title: 'STATE', value: row => ({ text: row.state, tone: tableTones[row.state] ?? 'warn' }) },
  { title: 'OBJECTS', value: row => row.objects, right: true },
  { title: 'WRITTEN', value: row => row.written, right: true },
  {
    title: 'FAILED',
    value: row => (row.failed > 0 ? { text: `${row.failed}`, tone: 'warn' } : 0),
    right: true,
  },
  { title: 'ERROR', value: row => row.error },
]

const peerColumns: readonly Column<PeerStatus>[] = [
  { title: 'PEER', value: row => row.name },
  {
    title: 'STATE',
    value: row => ({
      text: row.held ? `${row.state}, held` : row.state,
      tone: row.held ? 'warn' : (peerTones[row.state] ?? 'warn'),
    }),
  },
  { title: 'ADDRESSES', value: row => row.addresses.join(' ') },
  { title: 'POD CIDRS', value: row => row.podCIDRs.join(' ') },
]

/** One word for the state of the host, and how good it is. */
export function verdict(status: Status): { readonly word: string; readonly tone: Tone } {
  const degraded = status.tables.some(table => table.state === 'degraded')
  const errors = status.problems.filter(problem => problem.level === 'error').length
  if (degraded) return { word: 'degraded', tone: 'bad' }
  if (status.hold !== undefined) return { word: 'on hold', tone: 'warn' }
  if (!status.converged)
    return { word: errors > 0 ? 'degraded' : 'converging', tone: errors > 0 ? 'bad' : 'warn' }
  return errors > 0
    ? { word: `converged, ${count(errors, 'error')}`, tone: 'warn' }
    : { word: 'converged', tone: 'good' }
}

function headLines(status: Status, paint: Paint, now: number): readonly string[] {
  const { word, tone } = verdict(status)
  const behind = status.appliedRevision < status.revision ? ` (applied ${status.appliedRevision})` : ''
  const head = [
    paint('bold', printable(status.node)),
    paint(tone, word),
    `revision ${status.revision}${behind}`,
    [status.roles.join('+'), status.backend].filter(part => part !== undefined && part !== '').join(' '),
    status.mtu === undefined ? '' : `pod MTU ${status.mtu}`,
    `warrend ${status.version} up ${duration(Math.max(0, now - Date.parse(status.startedAt)))}`,
  ]
  return [head.filter(part => part !== '').join('  ')]
}

function serviceText(services: NonNullable<Status['services']>, paint: Paint): string {
  const { served, endpoints, entries, mode, problems } = services
  const all = services.count === served ? '' : ` of ${services.count}`
  const bad = problems === 0 ? '' : `, ${paint('warn', count(problems, 'problem'))}`
  return `${served}${all} by ${mode}, ${count(entries, 'entry point')}, ${count(endpoints, 'endpoint')}${bad}`
}

function tenantText(tenants: NonNullable<Status['tenants']>, paint: Paint): string {
  const { networks, routers, ports, active, allPorts, problems } = tenants
  const up = active === ports ? `${ports}` : paint('warn', `${active} of ${ports}`)
  const bad = problems === 0 ? '' : `, ${paint('warn', count(problems, 'problem'))}`
  return `${count(tenants.tenants, 'tenant')}; here ${count(networks, 'network')}, ${count(routers, 'router')}, ports ${up} active (${allPorts} on all hosts)${bad}`
}

function factLines(status: Status, paint: Paint): readonly string[] {
  const facts: (readonly [string, string])[] = []
  if (status.hold !== undefined) facts.push(['hold', paint('warn', printable(status.hold))])
  const { underlay, lease } = status
  facts.push([
    'underlay',
    underlay === undefined
      ? paint('warn', 'none')
      : `${printable([underlay.interface, ...underlay.addresses].join(' '))} MTU ${underlay.mtu}`,
  ])
  const blocks = [lease?.ipv4, lease?.ipv6].filter(block => block !== undefined)
  facts.push(['lease', blocks.length === 0 ? paint('warn', 'none') : printable(blocks.join(' '))])
  for (const source of status.sources) {
    const state = source.inSync
      ? paint('good', 'in sync')
      : paint(
          'bad',
          `not in sync since ${printable(source.since)}${source.error === undefined ? '' : `: ${printable(source.error)}`}`,
        )
    facts.push(['source', `${printable(source.name)} ${state}`])
  }
  if (status.services !== undefined) facts.push(['services', serviceText(status.services, paint)])
  if (status.tenants !== undefined) facts.push(['tenants', tenantText(status.tenants, paint)])
  const { start, model, drift, orphan } = status.counts
  facts.push([
    'writes',
    `${start} at start, ${model} by the model, ${count(drift, 'repair')}, ${count(orphan, 'orphan')} swept, in ${count(status.passes, 'pass', 'passes')}`,
  ])
  return facts.map(([name, value]) => `${paint('dim', name.padEnd(8))}  ${value}`)
}

/** Most hosts have objects in a dozen of forty tables: the others are a number, unless something is wrong with them. */
function tablesOf(status: Status, paint: Paint, all: boolean): readonly string[] {
  const tables = status.tables.filter(
    ({ state, objects, written, failed, error }) =>
      all || state === 'degraded' || error !== undefined || objects + written + failed > 0,
  )
  const rest = status.tables.length - tables.length
  const failing = tables.some(table => table.error !== undefined)
  const columns = failing ? tableColumns : tableColumns.slice(0, -1)
  const looked = status.tables.some(({ state }) => state !== 'unknown')
  const note = `${count(rest, 'table')} ${looked ? 'without objects' : 'not looked at yet'} (--all)`
  return [
    ...(tables.length > 0 ? ['', ...tableLines(columns, tables, paint)] : []),
    ...(rest > 0 ? [...(tables.length > 0 ? [] : ['']), note] : []),
  ]
}

export function statusLines(status: Status, paint: Paint, now = Date.now(), all = false): readonly string[] {
  const lines = [...headLines(status, paint, now), ...factLines(status, paint)]
  lines.push(...tablesOf(status, paint, all))
  if (status.peers.length > 0) lines.push('', ...tableLines(peerColumns, status.peers, paint))
  if (status.problems.length > 0) {
    lines.push('')
    for (const problem of status.problems) lines.push(...problemLines(problem, paint))
  }
  return lines
}

export const statusCommand: CommandModule = {
  define(program, cli) {
    program
      .command('status')
      .description('node, revision, sources, lease, tables, peers and problems of this host')
      .addOption(outputOption('text', 'json'))
      .option('--all', 'tables without objects, too')
      .addHelpText(
        'after',
        `\nExit status: 0 converged; 1 degraded or not converged; 3 warrend does not answer.${examples('warren status', 'warren status -o json | jq .lease')}`,
      )
      .action(
        cli.action(async (options: { readonly output: string; readonly all?: boolean }) => {
          const status = await (await cli.client()).status()
          if (options.output === 'json') cli.io.write(`${JSON.stringify(status, null, 2)}\n`)
          else cli.print(statusLines(status, cli.paint, Date.now(), options.all === true))
          return status.converged ? exit.ok : exit.failed
        }),
      )
  },
}
