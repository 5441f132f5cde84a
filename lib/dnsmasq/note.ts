// What is noted of a dnsmasq when it has started (DIRECTORY/ID/running): enough to know it again, and to know whether it
// still is where it was started and with the texts that stand beside the note.
import { createHash } from 'node:crypto'
import type { ProcessFacts } from './processes.js'
import type { DnsmasqTexts } from './types.js'

export interface Place {
  /** "net:[4026532281]": the namespace, whatever its name is now. */
  readonly inode: string
  readonly ifindex: number
}

export interface Note extends Place {
  readonly pid: number
  /** Of the process, see ProcessFacts. */
  readonly start: string
  /** Name of the namespace. */
  readonly netns: string
  readonly interface: string
  readonly digest: string
}

export function digestOf({ conf, hosts, names }: DnsmasqTexts): string {
  return createHash('sha256')
    .update(JSON.stringify([conf, hosts, names]))
    .digest('hex')
}

export function formatNote(note: Note): string {
  return `${JSON.stringify(note)}\n`
}

/** undefined for anything that is not a whole note: then the process is started again. */
export function parseNote(text: string): Note | undefined {
  try {
    const { pid, start, netns, interface: name, inode, ifindex, digest } = JSON.parse(text) as Partial<Note>
    if (typeof pid !== 'number' || typeof ifindex !== 'number') return undefined
    if (typeof start !== 'string' || typeof netns !== 'string' || typeof name !== 'string') return undefined
    if (typeof inode !== 'string' || typeof digest !== 'string') return undefined
    return { pid, start, netns, interface: name, inode, ifindex, digest }
  } catch {
    return undefined
  }
}

/** Why a server has to be started again; undefined: it does what the texts beside its note say. */
export function troubleOf(
  note: Note | undefined,
  texts: DnsmasqTexts,
  processes: readonly ProcessFacts[],
  placeNow: (note: Note) => Place | undefined,
): string | undefined {
  const main = processes.find(({ pid, start }) => pid === note?.pid && start === note.start)
  if (note === undefined || main === undefined) return 'it is not running'
  if (processes.some(({ pid, parent }) => pid !== main.pid && parent !== main.pid))
    return 'there is another one'
  if (note.digest !== digestOf(texts)) return 'its files have been changed'
  const place = placeNow(note)
  if (place?.inode !== note.inode) return `namespace "${note.netns}" is another one`
  if (place.ifindex !== note.ifindex) return `interface "${note.interface}" is another one`
  return undefined
}
