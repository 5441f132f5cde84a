// warrend.yaml read again while warrend runs (SIGHUP, `systemctl reload warrend`). Some fields take effect at once; a change
// of any other one is said, and takes effect with the next start, which costs no packet.
import { isDeepStrictEqual } from 'node:util'
import { describeError } from '../lib/errors.js'
import type { Log } from '../lib/log.js'
import type { Config } from './config.js'
import type { Problem } from './model/object.js'

/** Read anew at each look of the agent; of `log`, the level is. */
export const liveFields = ['underlay', 'proxyMode', 'labels', 'log'] as const

export interface ConfigReloads {
  /** Told when a reload begins, and when all that takes effect has. */
  readonly onReload: Set<(phase: 'begin' | 'end') => void>
  /** For the status line of the service manager. */
  notes(): readonly string[]
  problems(): readonly Problem[]
}

export interface LiveConfig extends ConfigReloads {
  /** Its live fields change under the reader. */
  readonly config: Config
  reload(log: Log): void
}

/** `load` reads the file. Errors of `load` leave everything as it was, and are said. */
export function liveConfig(first: Config, load: () => Config): LiveConfig {
  let current = first
  let refused: string | undefined
  let waiting: readonly string[] = []
  const config = { ...first }
  for (const field of liveFields)
    Object.defineProperty(config, field, { enumerable: true, get: () => current[field] })
  Object.freeze(config)
  const onReload = new Set<(phase: 'begin' | 'end') => void>()
  const isLive = (field: string): boolean => (liveFields as readonly string[]).includes(field)

  function apply(next: Config): void {
    current = next
    const names = new Set([...Object.keys(first), ...Object.keys(next)]) as Set<keyof Config>
    waiting = [...names].filter(name => !isLive(name) && !isDeepStrictEqual(first[name], next[name]))
    if (next.log.format !== first.log.format) waiting = [...waiting, 'log.format']
  }

  return {
    config,
    onReload,
    reload(log) {
      for (const tell of onReload) tell('begin')
      try {
        apply(load())
        refused = undefined
        log.info('configuration read again', {
          restartFor: waiting.length === 0 ? undefined : waiting.join(', '),
        })
      } catch (error) {
        refused = describeError(error)
        log.error(`configuration not taken, the old one stays: ${refused}`)
      }
      for (const tell of onReload) tell('end')
    },
    notes: () => [
      ...(refused === undefined ? [] : [`warrend.yaml refused: ${refused.split('\n')[0]}`]),
      ...(waiting.length === 0 ? [] : [`needs a restart for ${waiting.join(', ')}`]),
    ],
    problems: () => [
      ...(refused === undefined
        ? []
        : [
            {
              level: 'error' as const,
              about: 'warrend.yaml',
              code: 'CONFIG',
              message: `The configuration that was read again is not taken: ${refused}`,
              hint: 'mend the file, then: systemctl reload warrend',
            },
          ]),
      ...(waiting.length === 0
        ? []
        : [
            {
              level: 'warning' as const,
              about: 'warrend.yaml',
              code: 'RESTART_NEEDED',
              message: `Changed since warrend started, and not in force: ${waiting.join(', ')}`,
              hint: 'systemctl restart warrend (nothing stops forwarding meanwhile)',
            },
          ]),
    ],
  }
}
