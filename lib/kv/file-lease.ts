// Leases of a file store: <dir>/.warren/lease/<id> names its holder (a process) and carries the monotonic time of its
// last renewal. A lease is over when its file is gone, its holder is dead, or nobody renewed it for its time to live.
// Monotonic time, because a clock jump must not end every lease of the machine at once.
import * as fs from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../clock.js'
import { hasCode } from '../errors.js'
import { type Holder, isAlive, thisProcess } from './holder.js'

/** What a holder may be late between looking at the clock and writing its stamp; it gives up `ttl` after its last renewal by itself. */
const graceMs = 500
const stampWidth = 20

interface Head extends Holder {
  readonly ttl: number
}

export interface LeaseFiles {
  grant(id: string, ttl: number): void
  /** False: the lease is gone. */
  renew(id: string): boolean
  isOver(id: string): boolean
  remove(id: string): void
  list(): readonly string[]
}

export function leaseFiles(dir: string, now: () => number): LeaseFiles {
  const path = (id: string): string => join(dir, 'lease', id)
  const stamp = (): string => String(now()).padStart(stampWidth)

  return {
    grant: (id, ttl) => {
      const head: Head = { ...thisProcess(), ttl }
      const staged = join(dir, 'tmp', id)
      fs.writeFileSync(staged, `${stamp()}\n${JSON.stringify(head)}\n`, { mode: 0o640 })
      fs.renameSync(staged, path(id))
    },
    renew: id => {
      try {
        const fd = fs.openSync(path(id), 'r+') // in place: a rename would bring a removed lease back to life
        try {
          fs.writeSync(fd, stamp(), 0)
          return fs.fstatSync(fd).nlink > 0
        } finally {
          fs.closeSync(fd)
        }
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return false
        throw error
      }
    },
    isOver: id => {
      try {
        const text = fs.readFileSync(path(id), 'utf8')
        const head = JSON.parse(text.slice(stampWidth + 1)) as Head
        return !isAlive(head) || now() - Number(text.slice(0, stampWidth)) > head.ttl * 1000 + graceMs
      } catch (error) {
        if (hasCode(error, 'ENOENT') || error instanceof SyntaxError) return true
        throw error
      }
    },
    remove: id => fs.rmSync(path(id), { force: true }),
    list: () => {
      try {
        return fs.readdirSync(join(dir, 'lease'))
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return []
        throw error
      }
    },
  }
}

export interface Keeping {
  readonly clock: Clock
  /** Renew it until then. */
  readonly signal: AbortSignal
  /** The client is closed. */
  readonly closed: AbortSignal
  readonly lost: AbortController
}

/** Renews a lease every third of its time to live; `lost` aborts when it is over, by our own clock or by its file. */
export async function keepLease(files: LeaseFiles, id: string, ttl: number, keeping: Keeping): Promise<void> {
  const { clock, signal, lost } = keeping
  const end = AbortSignal.any([keeping.closed, lost.signal])
  let renewed = clock.now()
  while (!end.aborted) {
    await clock.sleep((ttl * 1000) / 3, end).catch(() => undefined)
    if (end.aborted) return
    const late = clock.now() - renewed > ttl * 1000
    try {
      if (late || (signal.aborted ? files.isOver(id) : !files.renew(id))) lost.abort()
      else if (!signal.aborted) renewed = clock.now()
    } catch {
      // not readable just now: the time to live decides
    }
  }
}
