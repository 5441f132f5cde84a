// The configuration file of this host, for the commands that work without a daemon.
import { existsSync } from 'node:fs'
import type { Config } from '../config.js'
import type { Cli } from './command.js'

/** --config, else WARREN_CONFIG, else the default file; `named` when one was asked for. */
export async function configFile(cli: Cli): Promise<{ readonly file: string; readonly named: boolean }> {
  const asked = cli.configFlag() ?? cli.io.env['WARREN_CONFIG']
  if (asked !== undefined && asked !== '') return { file: asked, named: true }
  return { file: (await import('../config.js')).defaults.config, named: false }
}

/** `required: false`: all defaults where nobody named a file and the default one is not there. Errors: CONFIG. */
export async function hostConfig(cli: Cli, options: { readonly required: boolean }): Promise<Config> {
  const { file, named } = await configFile(cli)
  return (await import('../config.js')).loadConfig(file, named || options.required)
}

export async function hasHostConfig(cli: Cli): Promise<boolean> {
  return existsSync((await configFile(cli)).file)
}
