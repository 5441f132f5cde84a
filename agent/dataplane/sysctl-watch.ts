// Sysctls that are ours, watched: inotify tells of a hand that writes the file ("sysctl -w"), in milliseconds. It does not
// tell what the kernel changes by itself or what comes through another mount of proc (a container's), so the values are
// read again every half second. The files stay open: no look-up, no window (an open sysctl is that of the namespace it
// was opened in, whoever reads it), 3 us each. They pin neither link nor namespace; inotify needs them, to know the inode.
import { closeSync, type FSWatcher, openSync, readSync, watch } from 'node:fs'
import { startTicks } from '../../lib/alarm.js'
import { hasCode } from '../../lib/errors.js'
import { aborted } from '../../lib/lifetime.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { Sysctl, TableName } from '../model/desired.js'
import type { Reconciler } from './reconciler.js'
import { satisfies, sysctlPath } from './tables/sysctl.js'

/** Half of the second in which a foreign hand is undone. */
const pollMs = 500

const tables: readonly TableName[] = ['sysctl', 'link-sysctl']

interface Held {
  readonly fd: number
  readonly watcher: FSWatcher | undefined
  /** The last bytes that were as `own` wants them. */
  good: Buffer
  own: Sysctl | undefined
  /** Of the last look that asked for it. */
  round: number
}

export async function watchSysctls(
  netns: Netns,
  reconciler: Pick<Reconciler, 'known' | 'notice'>,
  signal: AbortSignal,
): Promise<void> {
  const held = new Map<string, Held>()
  const bytes = Buffer.alloc(64)
  let round = 0
  let soon = false

  const look = (): void => {
    soon = false
    round += 1
    for (const table of tables) {
      for (const own of reconciler.known(table) as Iterable<Sysctl>) {
        if (asWanted(own)) continue
        reconciler.notice(table, undefined)
        break
      }
    }
    for (const [name, file] of held) if (file.round !== round) drop(name, file)
  }

  // One write gives several notices.
  const lookSoon = (): void => {
    if (soon || signal.aborted) return
    soon = true
    setImmediate(look)
  }

  function open(name: string): Held | undefined {
    const path = sysctlPath(name)
    try {
      const { fd, watcher } = netns.run(() => ({ fd: openSync(path, 'r'), watcher: watched(path, lookSoon) }))
      const file: Held = { fd, watcher, good: Buffer.alloc(0), own: undefined, round }
      held.set(name, file)
      return file
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw error
    }
  }

  function drop(name: string, file: Held): void {
    held.delete(name)
    file.watcher?.close()
    closeSync(file.fd)
  }

  /** True as well when it is gone with its link: that has a notice of its own. */
  function asWanted(own: Sysctl): boolean {
    const file = held.get(own.name) ?? open(own.name)
    if (file === undefined) return true
    file.round = round
    let length: number
    try {
      length = readSync(file.fd, bytes, 0, bytes.length, 0)
    } catch (error) {
      drop(own.name, file)
      if (hasCode(error, 'ENOENT')) return true
      throw error
    }
    if (own === file.own && bytes.compare(file.good, 0, file.good.length, 0, length) === 0) return true
    const value = bytes.toString('latin1', 0, length).trim()
    if (!satisfies(own, { name: own.name, value })) return false
    file.own = own
    file.good = Buffer.from(bytes.subarray(0, length))
    return true
  }

  const stop = startTicks(pollMs, look)
  try {
    await aborted(signal)
  } finally {
    stop()
    for (const [name, file] of held) drop(name, file)
  }
}

/** undefined where there is no watch left (fs.inotify.max_user_watches): then only the poll looks. */
function watched(path: string, onChange: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(path, { persistent: false }, onChange)
    watcher.on('error', () => watcher.close())
    return watcher
  } catch {
    return undefined
  }
}
