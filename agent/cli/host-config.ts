// The configuration file of this host, for the commands that work without a daemon.
import { existsSync } from 'node:fs'
import type { Config } from '../config.js'
import { defaultConfigFile } from '../model/paths.js'
import type { Cli } from './command.js'

/** --config, else WARREN_CONFIG, else the default file; `named` when one was asked for. */
export function configFile(cli: Cli): { readonly file: string; readonly named: boolean } {
  const asked = cli.configFlag() ?? cli.io.env['WARREN_CONFIG']
  if (asked !== undefined && asked !== '') return { file: asked, named: true }
  return { file: defaultConfigFile, named: false }
}

/** `required: false`: all defaults where nobody named a file and the default one is not there. Errors: CONFIG. */
export async function hostConfig(cli: Cli, options: { readonly required: boolean }): Promise<Config> {
  const { file, named } = configFile(cli)
  return (await import('../config.js')).loadConfig(file, named || options.required)
}

export function hasHostConfig(cli: Cli): boolean {
  return existsSync(configFile(cli).file)
}
