// warren describe: one object and all that this host knows of it.
import { WarrenError } from '../../lib/errors.js'
import type { Description, EndpointView, EntryView } from '../api/views.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { type Fact, factLines, factsOf, mostRows } from './describe-facts.js'
import { eventLines } from './events.js'
import { problemLines } from './format.js'
import { groupLines } from './port-text.js'
import { pairsText, placeText, someText } from './service-text.js'
import { type Column, type Paint, printable, type Tone, tableLines } from './table.js'

const stateTones: Readonly<Record<EndpointView['state'], Tone>> = {
  ready: 'good',
  serving: 'warn',
  terminating: 'warn',
  'not ready': 'bad',
}

function targetsText(targets: EntryView['targets'], most: number): string {
  return someText(
    targets.map(({ address, port, local }) => `${placeText(address, port)}${local ? ' (local)' : ''}`),
    most,
  )
}

function reach(entry: EntryView): ReturnType<Column<EntryView>['value']> {
  if (entry.targets.length > 0) return targetsText(entry.targets, 4)
  return {
    text: entry.empty === 'refuse' ? 'none: refused' : 'none on this node: dropped',
    tone: 'warn',
  }
}

const entryColumns: readonly Column<EntryView>[] = [
  {
    title: 'ENTRY POINT',
    value: ({ address, family, port, protocol }) => {
      const anywhere = family === 'inet' ? '0.0.0.0' : '::'
      return `${placeText(address === '' ? anywhere : address, port)}/${protocol}`
    },
  },
  { title: 'KIND', value: row => row.kind },
  { title: 'PORT', value: row => row.portName },
  { title: 'CONNECTIONS', value: row => row.connections, right: true },
  { title: 'TARGETS', value: reach },
]

const outsideColumn: Column<EntryView> = {
  title: 'FROM OUTSIDE',
  value: ({ outside }) => {
    if (outside === undefined) return 'the same'
    return outside.length === 0
      ? { text: 'none on this node: dropped', tone: 'warn' }
      : targetsText(outside, 4)
  },
}

const endpointColumns = (of: 'service' | 'from'): readonly Column<EndpointView>[] => [
  { title: of === 'from' ? 'ENDPOINT' : 'SERVICE', value: row => row[of] },
  { title: 'ADDRESSES', value: row => row.addresses.join(' ') },
  { title: 'NODE', value: row => row.node },
  {
    title: 'PORTS',
    value: row =>
      someText(
        Object.entries(row.ports).map(([name, port]) => (name === '' ? `${port}` : `${name}=${port}`)),
        3,
      ),
  },
  { title: 'STATE', value: row => ({ text: row.state, tone: stateTones[row.state] ?? 'warn' }) },
  {
    title: 'USED',
    value: row => (row.used ? (row.local === true ? 'yes, local' : 'yes') : `no: ${row.why ?? '?'}`),
  },
]

export function describeLines(view: Description, paint: Paint): readonly string[] {
  const { object, service, endpoints = [] } = view
  const lines = [paint('bold', printable(view.ref))]
  const head: readonly Fact[] = [
    ['from', view.origin],
    ['labels', pairsText(object.metadata.labels)],
  ]
  lines.push(...factLines([...head, ...factsOf(view)], paint))
  if (view.port !== undefined && view.port.groups.length > 0) lines.push('', ...groupLines(view.port, paint))
  if (service !== undefined && service.entries.length > 0) {
    const differ = service.entries.some(entry => entry.outside !== undefined)
    const columns = differ ? [...entryColumns, outsideColumn] : entryColumns
    lines.push('', ...tableLines(columns, service.entries, paint))
  }
  if (endpoints.length > 0) {
    const shown = endpoints.slice(0, mostRows)
    const of = object.kind === 'Service' ? 'from' : 'service'
    lines.push('', ...tableLines(endpointColumns(of), shown, paint))
    if (endpoints.length > mostRows)
      lines.push(paint('dim', `... and ${endpoints.length - mostRows} more: -o json has them all`))
  }
  if (view.problems.length > 0) lines.push('')
  for (const problem of view.problems) lines.push(...problemLines(problem, paint))
  if (view.events.length > 0) lines.push('', ...eventLines(view.events, paint))
  return lines
}

interface DescribeOptions {
  readonly namespace?: string
  readonly output: string
}

/** "service web", "service/web", "service/shop/web", `-n shop`. Errors: INVALID. */
function referenceOf(
  first: string,
  second: string | undefined,
  namespace: string | undefined,
): readonly [kind: string, name: string] {
  const [kind = '', ...rest] = first.split('/')
  const name = [...rest, ...(second === undefined ? [] : [second])].join('/')
  if (kind === '' || name === '' || (rest.length > 0 && second !== undefined))
    throw new WarrenError(`Cannot tell what "${[first, second].filter(Boolean).join(' ')}" is`, {
      code: 'INVALID',
      hint: 'write KIND NAME or KIND/NAME: service web, service/shop/web, node/h1',
    })
  return [kind, namespace === undefined || name.includes('/') ? name : `${namespace}/${name}`]
}

export const describeCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(
      async (first: string, second: string | undefined, { namespace, output }: DescribeOptions) => {
        const [kind, name] = referenceOf(first, second, namespace)
        const view = await (await cli.client()).describe(kind, name)
        if (output === 'json') cli.io.write(`${JSON.stringify(view, null, 2)}\n`)
        else if (output === 'yaml') cli.io.write((await import('../../lib/yaml/yaml.js')).formatYaml(view))
        else cli.print(describeLines(view, cli.paint))
        return exit.ok
      },
    )
    program
      .command('describe')
      .description(
        'one object: its values, status, entry points, endpoints and why one is not used, problems, events',
      )
      .argument('<kind>', 'service, node, endpoints, pod, cluster, port, network, ...; or kind/name')
      .argument('[name]', 'the object')
      .option('-n, --namespace <name>', 'of a name that says none; default: default')
      .addOption(outputOption('text', 'json', 'yaml'))
      .addHelpText(
        'after',
        examples(
          'warren describe service web',
          'warren describe node/h2',
          'warren describe pod/web-1 -n shop',
          'warren describe port red/web-1',
        ),
      )
      .action(run)
  },
}
