// When to look into a file store: inotify(7) on the log directory, and a slow poll for what it cannot tell (a directory
// deleted and made again, moved together with its parent, a full inotify queue).
import { type FSWatcher, watch } from 'node:fs'
import { createAlarm } from '../alarm.js'
import type { Clock } from '../clock.js'

export interface Notices {
  stop(): void
}

export interface NoticeOptions {
  readonly path: string
  readonly clock: Clock
  /** Between two looks without a notice: where nothing can be watched, and where it is. */
  readonly pollMs: number
  readonly watchedPollMs: number
  /** A name turned up, undefined when the kernel does not say which. */
  readonly onName: (name: string | undefined) => void
  readonly onPoll: () => Promise<void>
}

export function notices(options: NoticeOptions): Notices {
  const stopped = new AbortController()
  const alarm = createAlarm(options.clock)
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
      await alarm.wait(watching === undefined ? options.pollMs : options.watchedPollMs, stopped.signal)
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
