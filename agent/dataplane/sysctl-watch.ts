// Nobody is told of a written sysctl, so those that are ours are read again every half second: some ten files, 0.1 ms.
import { aborted } from '../../lib/lifetime.js'
import type { Sysctl, TableName } from '../model/desired.js'
import type { Reconciler } from './reconciler.js'
import { type SysctlIo, satisfies } from './tables/sysctl.js'

/** Half of the second in which a foreign hand is undone. */
const pollMs = 500

const tables: readonly TableName[] = ['sysctl', 'link-sysctl']

export async function watchSysctls(io: SysctlIo, reconciler: Reconciler, signal: AbortSignal): Promise<void> {
  const look = (): void => {
    for (const table of tables) {
      for (const own of reconciler.known(table) as Iterable<Sysctl>) {
        const value = io.read(own.name)
        // Gone with its link: that has a notice of its own.
        if (value === undefined || satisfies(own, { name: own.name, value })) continue
        reconciler.notice(table, undefined)
        break
      }
    }
  }
  const timer = setInterval(look, pollMs)
  await aborted(signal)
  clearInterval(timer)
}
