// Looks twice a second whether processes that are not our children still live: one poll(2) for all of them.
import { startTicks } from '../alarm.js'
import { aborted } from '../lifetime.js'
import { closePidfd, endedPidfds, openPidfd } from './pidfd.js'
import { type ProcessFacts, readProcess } from './processes.js'

const pollMs = 500

/**
 * Until the signal aborts. `live`: which should live, by id; read at every look. `onEnd` takes an id out of it.
 * `onLook` is called after each look.
 */
export async function watchProcesses(
  live: ReadonlyMap<string, ProcessFacts>,
  signal: AbortSignal,
  onEnd: (id: string, pid: number) => void,
  onLook: () => void,
): Promise<void> {
  const held = new Map<string, { readonly pid: number; readonly fd: number }>()
  const drop = (id: string): void => {
    const found = held.get(id)
    if (found !== undefined) closePidfd(found.fd)
    held.delete(id)
  }
  const end = (id: string, pid: number): void => {
    drop(id)
    onEnd(id, pid)
  }
  const stop = startTicks(pollMs, () => {
    for (const [id, { pid }] of held) if (live.get(id)?.pid !== pid) drop(id)
    for (const [id, { pid, start }] of live) {
      if (held.has(id)) continue
      const fd = openPidfd(pid)
      if (fd !== undefined) held.set(id, { pid, fd })
      if (fd === undefined || readProcess(pid)?.start !== start) end(id, pid)
    }
    const all = [...held]
    const ended = endedPidfds(all.map(([, { fd }]) => fd))
    all.forEach(([id, { pid }], i) => {
      if (ended[i] === true) end(id, pid)
    })
    onLook()
  })
  try {
    await aborted(signal)
  } finally {
    stop()
    for (const id of [...held.keys()]) drop(id)
  }
}
