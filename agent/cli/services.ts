// warren services: every Service as this host serves it.
import type { ServiceList, ServiceStatus } from '../api/views.js'
import { type CommandModule, examples, exit, outputOption } from './command.js'
import { problemLines } from './format.js'
import { endpointsText, portText, someText } from './service-text.js'
import { type Column, type Paint, printable, tableLines } from './table.js'

interface ServicesOptions {
  readonly namespace?: string
  readonly all?: boolean
  readonly output: string
}

function vip({ headless, clusterIPs, externalIPs }: ServiceStatus): string {
  return headless ? 'None' : [...clusterIPs, ...externalIPs].join(' ')
}

function problemCell({ problems }: ServiceStatus): ReturnType<Column<ServiceStatus>['value']> {
  if (problems.length === 0) return undefined
  const codes = [...new Set(problems.map(({ code }) => code))]
  const bad = problems.some(({ level }) => level === 'error')
  return { text: someText(codes, 2), tone: bad ? 'bad' : 'warn' }
}

const columns: readonly Column<ServiceStatus>[] = [
  { title: 'SERVICE', value: row => `${row.namespace}/${row.name}` },
  { title: 'TYPE', value: row => row.type },
  { title: 'VIP', value: vip },
  { title: 'PORTS', value: row => someText(row.ports.map(portText), 4) },
  { title: 'MODE', value: row => row.mode },
  {
    title: 'ENDPOINTS',
    value: row => {
      const text = endpointsText(row.endpoints)
      return row.endpoints.serving === 0 && row.mode !== undefined ? { text, tone: 'warn' } : text
    },
  },
  { title: 'CONNECTIONS', value: row => row.connections, right: true },
  { title: 'PROBLEMS', value: problemCell },
]

const wideColumns: readonly Column<ServiceStatus>[] = [
  ...columns.slice(0, 4),
  {
    title: 'TARGETS',
    value: row =>
      someText(
        row.ports.map(({ name, targetPort }) => `${name === '' ? '' : `${name}=`}${targetPort}`),
        4,
      ),
  },
  { title: 'HEALTH', value: row => row.healthCheckNodePort },
  ...columns.slice(4),
]

function serviceLines(
  list: ServiceList,
  paint: Paint,
  options: { readonly all: boolean; readonly wide: boolean },
): readonly string[] {
  const shown = list.services.filter(({ headless }) => options.all || !headless)
  const hidden = list.services.length - shown.length
  const wide = options.wide ? wideColumns : columns
  const lines = shown.length === 0 ? ['No Services.'] : [...tableLines(wide, shown, paint)]
  if (list.unserved !== undefined && shown.length > 0)
    lines.push(paint('warn', `this host serves none of them: ${printable(list.unserved)}`))
  if (list.uncounted !== undefined)
    lines.push(paint('dim', `connections are not counted: ${printable(list.uncounted)}`))
  if (hidden > 0) lines.push(paint('dim', `${hidden} headless, which no host serves: --all`))
  const problems = shown.flatMap(service => service.problems)
  if (problems.length > 0) lines.push('')
  for (const problem of problems) lines.push(...problemLines(problem, paint))
  return lines
}

export const servicesCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(async ({ namespace, all, output }: ServicesOptions) => {
      const list = await (await cli.client()).services({ namespace, connections: true })
      const shown = { ...list, services: list.services.filter(({ headless }) => all === true || !headless) }
      if (output === 'json') cli.io.write(`${JSON.stringify(shown, null, 2)}\n`)
      else if (output === 'yaml') cli.io.write((await import('../../lib/yaml/yaml.js')).formatYaml(shown))
      else cli.print(serviceLines(list, cli.paint, { all: all === true, wide: output === 'wide' }))
      return exit.ok
    })
    program
      .command('services')
      .description('Services as this host serves them: addresses, endpoints, connections, problems')
      .option('-n, --namespace <name>', 'only those of one namespace')
      .option('--all', 'headless ones, too')
      .addOption(outputOption('table', 'wide', 'json', 'yaml'))
      .addHelpText(
        'after',
        `\nENDPOINTS: ready/serving/terminating. CONNECTIONS: open ones through this host.${examples('warren services', 'warren services -n shop -o wide', "warren services -o json | jq '.services[] | select(.endpoints.ready == 0).name'")}`,
      )
      .action(run)
  },
}
