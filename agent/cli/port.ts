// warren port: plugs a container's namespace or a VM's tap into a Port on this host, and pulls it out again. Both only write
// the Port's node and device; the agent of that host does the rest.
import { hostname } from 'node:os'
import { WarrenError } from '../../lib/errors.js'
import type { Port } from '../model/port.js'
import { type Cli, type CommandModule, examples, exit } from './command.js'
import { problemLines } from './format.js'
import { type ModelAccess, openModel } from './model-access.js'
import { printable } from './table.js'

interface AttachOptions {
  readonly netns?: string
  readonly tap?: string
  readonly name: string
  readonly node?: string
}

async function portOf(model: ModelAccess, ref: string): Promise<Port> {
  const [tenant, name, ...more] = ref.replace(/^ports?\//, '').split('/')
  if (tenant === undefined || name === undefined || more.length > 0)
    throw new WarrenError(`Cannot find port "${ref}": write tenant/name`, { code: 'USAGE' })
  const found = (await model.get('Port', `${tenant}/${name}`))[0]?.object
  if (found?.kind !== 'Port')
    throw new WarrenError(`Cannot find port "${tenant}/${name}": there is none`, {
      code: 'NOT_FOUND',
      hint: 'warren get ports',
    })
  return found as Port
}

/** This host's name in the model. */
async function thisNode(cli: Cli): Promise<string> {
  try {
    return (await (await cli.client()).status()).node
  } catch {
    return hostname().toLowerCase()
  }
}

async function write(cli: Cli, model: ModelAccess, port: Port, done: string): Promise<number> {
  const { tenant, name } = port.metadata
  const result = await model.apply(JSON.stringify(port), `port ${tenant}/${name}`)
  const problems = [...result.results.flatMap(each => each.problems), ...result.problems]
  cli.complain(problems.flatMap(problem => problemLines(problem, cli.paint)))
  if (problems.some(({ level }) => level === 'error')) return exit.failed
  cli.print([printable(`port ${tenant}/${name} ${done}`), `revision ${result.revision}`])
  return exit.ok
}

function deviceOf({ netns, tap, name }: AttachOptions): NonNullable<Port['spec']['device']> {
  if ((netns === undefined) === (tap === undefined))
    throw new WarrenError('Cannot attach: one of --netns and --tap is wanted', { code: 'USAGE' })
  return tap === undefined ? { kind: 'veth', netns: netns ?? '', name } : { kind: 'tap', name: tap }
}

export const portCommand: CommandModule = {
  define(program, cli) {
    const group = program
      .command('port')
      .description('plug containers and VMs into Ports of tenants')
      .addHelpText(
        'after',
        examples('warren port attach red/web-1 --netns /run/netns/c1', 'warren port detach red/web-1'),
      )
    group
      .command('attach')
      .description('plug a namespace or a tap of this host into a Port')
      .argument('<tenant/name>', 'the Port')
      .option('--netns <path>', "the container's namespace: a name below /run/netns, or a path")
      .option(
        '--tap <name>',
        "the VM's tap: one of this host, which moves into the fabric, or one that is made",
      )
      .option('--name <link>', 'of the link in the namespace', 'eth0')
      .option('--node <node>', 'another host than this')
      .addHelpText(
        'after',
        examples(
          'warren port attach red/web-1 --netns /run/netns/c1',
          'warren port attach red/vm-1 --tap vnet0',
        ),
      )
      .action(
        cli.action(async (ref: string, options: AttachOptions) => {
          const device = deviceOf(options)
          const model = await openModel(cli)
          try {
            const port = await portOf(model, ref)
            const node = options.node ?? (await thisNode(cli))
            const place = device.kind === 'tap' ? `tap ${device.name}` : `${device.netns} ${device.name}`
            return await write(
              cli,
              model,
              { ...port, spec: { ...port.spec, node, device } },
              `attached: ${node}, ${place}`,
            )
          } finally {
            await model.close()
          }
        }),
      )
    group
      .command('detach')
      .description("pull out what is plugged in; address and MAC stay the Port's")
      .argument('<tenant/name>', 'the Port')
      .addHelpText('after', examples('warren port detach red/web-1'))
      .action(
        cli.action(async (ref: string) => {
          const model = await openModel(cli)
          try {
            const port = await portOf(model, ref)
            const { node: _node, device: _device, ...spec } = port.spec
            return await write(cli, model, { ...port, spec }, 'detached')
          } finally {
            await model.close()
          }
        }),
      )
  },
}
