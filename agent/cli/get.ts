// warren get: objects of the model, from the store and from files alike.
import { WarrenError } from '../../lib/errors.js'
import type { ObjectWithOrigin } from '../api/control.js'
import type { Cluster } from '../model/cluster.js'
import type { Node } from '../model/node.js'
import { type Cli, type CommandModule, examples, exit, outputOption } from './command.js'
import { openModel } from './model-access.js'
import { type Column, tableLines } from './table.js'

type AnyObject = {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly tenant?: string; readonly namespace?: string }
  readonly spec: Readonly<Record<string, unknown>>
}

interface Row {
  readonly object: AnyObject
  readonly origin: string
}

const nameColumn: Column<Row> = { title: 'NAME', value: ({ object }) => object.metadata.name }
const originColumn: Column<Row> = { title: 'FROM', value: ({ origin }) => origin }

function column<T extends AnyObject['spec']>(
  title: string,
  value: (spec: T) => string | number | undefined,
): Column<Row> {
  return { title, value: ({ object }) => value(object.spec as T) }
}

/** A column of its own is worth it for what people look for; every other kind shows its first plain fields. */
const columnsOf: Readonly<Record<string, readonly Column<Row>[]>> = {
  Node: [
    column<Node['spec']>('ADDRESSES', spec => spec.addresses.join(' ')),
    column<Node['spec']>('POD CIDRS', spec => spec.podCIDRs.join(' ')),
    column<Node['spec']>('VTEP MAC', spec => spec.vtepMAC),
    column<Node['spec']>('MTU', spec => spec.mtu),
    column<Node['spec']>('ROLES', spec => spec.roles.join(' ')),
  ],
  Cluster: [
    column<Cluster['spec']>('POD CIDRS', spec => spec.podCIDRs.join(' ')),
    column<Cluster['spec']>('BACKEND', ({ backend }) =>
      backend.type === 'vxlan' ? `vxlan vni ${backend.vni} port ${backend.port}` : backend.type,
    ),
    column<Cluster['spec']>('NODE SUBNET', ({ podCIDRs, nodeSubnetLength }) =>
      podCIDRs
        .map(cidr => `/${cidr.includes(':') ? nodeSubnetLength.ipv6 : nodeSubnetLength.ipv4}`)
        .join(' '),
    ),
    column<Cluster['spec']>('MASQUERADE', spec => (spec.masquerade ? 'yes' : 'no')),
  ],
}

const title = (field: string): string => field.replace(/([a-z])([A-Z])/g, '$1 $2').toUpperCase()

function plainValue(value: unknown): string | undefined {
  if (Array.isArray(value))
    return value.every(each => typeof each !== 'object') ? value.join(' ') : `${value.length}`
  return typeof value === 'object' || value === undefined ? undefined : String(value)
}

function genericColumns(rows: readonly Row[]): readonly Column<Row>[] {
  const fields = [...new Set(rows.flatMap(({ object }) => Object.keys(object.spec)))]
  return fields
    .filter(field => rows.some(({ object }) => plainValue(object.spec[field]) !== undefined))
    .slice(0, 5)
    .map(field => ({ title: title(field), value: ({ object }) => plainValue(object.spec[field]) }))
}

const scopeOf = ({ object }: Row): string | undefined => object.metadata.tenant ?? object.metadata.namespace

export function objectLines(found: readonly ObjectWithOrigin[], paint: Cli['paint']): readonly string[] {
  const rows = found as readonly unknown[] as readonly Row[]
  const scope: readonly Column<Row>[] = rows.some(row => row.object.metadata.tenant !== undefined)
    ? [{ title: 'TENANT', value: scopeOf }]
    : rows.some(row => row.object.metadata.namespace !== undefined)
      ? [{ title: 'NAMESPACE', value: scopeOf }]
      : []
  const kind = rows[0]?.object.kind ?? ''
  const own = Object.hasOwn(columnsOf, kind) ? columnsOf[kind] : undefined
  return tableLines([...scope, nameColumn, ...(own ?? genericColumns(rows)), originColumn], rows, paint)
}

function refOf(object: AnyObject): string {
  const scope = object.metadata.tenant ?? object.metadata.namespace
  return [object.kind.toLowerCase(), scope, object.metadata.name].filter(part => part !== undefined).join('/')
}

async function show(
  groups: readonly (readonly ObjectWithOrigin[])[],
  output: string,
  one: boolean,
  cli: Cli,
): Promise<void> {
  const objects = groups.flat().map(({ object }) => object as unknown as AnyObject)
  switch (output) {
    case 'json':
      cli.io.write(`${JSON.stringify(one ? objects[0] : objects, null, 2)}\n`)
      return
    case 'yaml': {
      const { formatYaml } = await import('../../lib/yaml/yaml.js')
      cli.io.write(objects.map(object => formatYaml(object)).join('---\n'))
      return
    }
    case 'name':
      cli.print(objects.map(refOf))
      return
    default:
      groups
        .filter(group => group.length > 0)
        .forEach((group, i) => {
          cli.print([...(i > 0 ? [''] : []), ...objectLines(group, cli.paint)])
        })
  }
}

export const getCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(
      async (kinds: string, name: string | undefined, options: { readonly output: string }) => {
        const [first = '', ...rest] = kinds.split('/')
        const wanted = name ?? (rest.length > 0 ? rest.join('/') : undefined)
        const list = first.split(',').filter(kind => kind !== '')
        if (wanted !== undefined && list.length > 1)
          throw new WarrenError(`Cannot get "${wanted}" of ${list.length} kinds: a name goes with one kind`, {
            code: 'INVALID',
          })
        const model = await openModel(cli)
        try {
          const groups: (readonly ObjectWithOrigin[])[] = []
          for (const kind of list) groups.push(await model.get(kind, wanted))
          if (
            groups.every(group => group.length === 0) &&
            (options.output === 'table' || wanted !== undefined)
          ) {
            cli.complain([
              wanted === undefined ? `No ${list.join(', ')}.` : `There is no ${first}/${wanted}.`,
            ])
            return wanted === undefined ? exit.ok : exit.failed
          }
          await show(groups, options.output, wanted !== undefined, cli)
          return exit.ok
        } finally {
          await model.close()
        }
      },
    )
    program
      .command('get')
      .description('list objects of the model')
      .argument('<kind[,kind]>', 'cluster, nodes, ...; or kind/name')
      .argument('[name]', 'one object')
      .addOption(outputOption('table', 'yaml', 'json', 'name'))
      .addHelpText(
        'after',
        examples('warren get nodes', 'warren get node h1 -o yaml', 'warren get clusters,nodes -o name'),
      )
      .action(run)
  },
}
