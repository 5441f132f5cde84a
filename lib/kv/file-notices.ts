// When to look into a file store: inotify(7) on the log directory, and a slow poll for what it cannot tell (a directory
// deleted and made again, a full inotify queue, a network file system).
import { type FSWatcher, watch } from 'node:fs'
import type { Clock } from '../clock.js'

export interface Notices {
  stop(): void
}

export interface NoticeOptions {
  readonly path: string
  readonly clock: Clock
  readonly pollMs: number
  /** A name turned up, undefined when the kernel does not say which. */
  readonly onName: (name: string | undefined) => void
  readonly onPoll: () => Promise<void>
}

export function notices(options: NoticeOptions): Notices {
  const stopped = new AbortController()
  let watching: FSWatcher | undefined

  const stopWatching = (): void => {
    watching?.close()
    watching = undefined
  }
  const startWatching = (): void => {
    if (watching !== undefined) return
    try {
      watching = watch(options.path, { persistent: false }, (_event, name) => {
        // The directory itself went: inotify's watch is on an inode that nobody will write to any more.
        if (name === null || !/^\d+$/.test(name)) stopWatching()
        options.onName(name ?? undefined)
      })
      watching.on('error', stopWatching)
    } catch {
      watching = undefined // not there yet, or no watch left (fs.inotify.max_user_watches): the poll looks
    }
  }
  const poll = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await options.clock.sleep(options.pollMs, stopped.signal).catch(() => undefined)
      if (stopped.signal.aborted) return
      startWatching()
      await options.onPoll()
    }
  }

  startWatching()
  void poll()
  return {
    stop: () => {
      stopped.abort()
      stopWatching()
    },
  }
}
