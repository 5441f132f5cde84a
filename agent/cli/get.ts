// warren get: objects of the model, from the store and from files alike.
import { WarrenError } from '../../lib/errors.js'
import type { ObjectWithOrigin } from '../api/control.js'
import { type Cli, type CommandModule, examples, exit, outputOption } from './command.js'
import { type AnyObject, objectLines } from './get-columns.js'
import { openModel } from './model-access.js'

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
          cli.print([...(i > 0 ? [''] : []), ...objectLines(group, cli.paint, output === 'wide')])
        })
  }
}

interface GetOptions {
  readonly namespace?: string
  readonly tenant?: string
  readonly output: string
}

export const getCommand: CommandModule = {
  define(program, cli) {
    const run = cli.action(async (kinds: string, name: string | undefined, options: GetOptions) => {
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
        const { namespace, tenant } = options
        const scope = namespace ?? tenant
        const full = wanted === undefined || scope === undefined || wanted.includes('/')
        for (const kind of list) {
          const found = await model.get(kind, full ? wanted : `${scope}/${wanted}`)
          groups.push(
            found.filter(({ object }) => {
              const { metadata, kind } = object as AnyObject
              const owner = kind === 'Tenant' ? metadata.name : metadata.tenant
              return (
                (namespace === undefined || metadata.namespace === namespace) &&
                (tenant === undefined || owner === tenant)
              )
            }),
          )
        }
        if (
          groups.every(group => group.length === 0) &&
          (options.output === 'table' || options.output === 'wide' || wanted !== undefined)
        ) {
          cli.complain([wanted === undefined ? `No ${list.join(', ')}.` : `There is no ${first}/${wanted}.`])
          return wanted === undefined ? exit.ok : exit.failed
        }
        await show(groups, options.output, wanted !== undefined, cli)
        return exit.ok
      } finally {
        await model.close()
      }
    })
    program
      .command('get')
      .description('list objects of the model')
      .argument(
        '<kind[,kind]>',
        'clusters, nodes, services, endpoints, pods, tenants, networks, routers, ports, securitygroups; or kind/name',
      )
      .argument('[name]', 'one object')
      .option('-n, --namespace <name>', 'only those of one namespace; of a name that says none')
      .option('-t, --tenant <name>', 'only those of one tenant; of a name that says none')
      .addOption(outputOption('table', 'wide', 'yaml', 'json', 'name'))
      .addHelpText(
        'after',
        examples(
          'warren get nodes',
          'warren get services -n shop -o wide',
          'warren get clusters,nodes -o name',
          'warren get networks,ports --tenant red',
        ),
      )
      .action(run)
  },
}
