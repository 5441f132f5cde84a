// Where apply, get and delete go: to the daemon when it answers, else straight to the store of this host's
// configuration. An explicit --config means the store, an explicit --socket the daemon.
import { hasCode } from '../../lib/errors.js'
import { unreachable } from '../api/client.js'
import type { Control } from '../api/control.js'
import type { Cli } from './command.js'
import { hasHostConfig, hostConfig } from './host-config.js'
import { printable } from './table.js'

export interface ModelAccess extends Pick<Control, 'get' | 'apply' | 'delete' | 'deleteMany'> {
  close(): Promise<void>
}

async function openStore(cli: Cli): Promise<ModelAccess> {
  const config = await hostConfig(cli, { required: true })
  const { openModelStore } = await import('../model-store.js')
  return openModelStore(config, cli.io.signal)
}

/** Errors: UNREACHABLE, CONFIG, those of the store. */
export async function openModel(cli: Cli): Promise<ModelAccess> {
  if (cli.configFlag() !== undefined && cli.socketFlag() === undefined) return openStore(cli)
  const client = await cli.client()
  try {
    await client.ping()
  } catch (error) {
    if (!hasCode(error, unreachable) || cli.socketFlag() !== undefined || !hasHostConfig(cli)) throw error
    const model = await openStore(cli)
    cli.complain([`warrend does not answer on "${printable(client.socket)}": the store is used without it`])
    return model
  }
  return { ...client, close: async () => undefined }
}
