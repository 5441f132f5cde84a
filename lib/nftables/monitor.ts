// What `nft monitor` shows, reduced to: which tables one transaction touched, and whose hand it was. The kernel sends a
// notice per object, then one NEWGEN with the generation, thread id and name of the writer; a transaction that changed
// nothing or failed sends nothing. Group NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).

import { openNetlinkEvents } from '../netlink/events.js'
import { keepQuiet } from '../netlink/quiet.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import type { Netns } from '../netns/netns.js'
import { nftMessage, payloadOf, prologue } from './message.js'
import type { NftEvent, NftTableName } from './types.js'
import { attributes, familyName, textOf, u32Of } from './wire.js'

const group = 7
const nfTables = 10
/** Notices of one transaction may come as one datagram; NEWGEN comes by itself. */
const elements = [nftMessage.newElement, nftMessage.delElement].map(type => (nfTables << 8) | type)
const generationAttribute = { id: 1, pid: 2, name: 3 } as const

export interface NftMonitor {
  close(): void
}

export interface NftMonitorOptions {
  /** Port ids whose transactions are our own echoes (`Nft.portIds`; looked at with every event). */
  readonly own?: ReadonlySet<number>
  /**
   * Port ids of whose elements nobody needs to know, as they are when it begins: where the kernel takes a filter, events of
   * their transactions may name no tables.
   */
  readonly untold?: ReadonlySet<number>
}

/** Gathers notices up to the NEWGEN that closes them. */
export class NftEventReader {
  private readonly own: ReadonlySet<number>
  private tables = new Map<string, NftTableName>()
  private lastFamily = -1
  private lastName = Buffer.alloc(0)
  private generation: number | undefined

  constructor(own: ReadonlySet<number>) {
    this.own = own
  }

  /** A message with its header at `start`; returns the events that it completes. */
  read(data: Buffer, start: number, end: number): NftEvent[] {
    const type = data.readUInt16LE(start + 4)
    if (type >> 8 !== nfTables || end - start < prologue) return []
    if ((type & 0xff) === nftMessage.newGeneration)
      return this.finish(payloadOf(data, start, end), data.readUInt32LE(start + 12))
    this.touch(data, start, end)
    return []
  }

  /** The table's name is the first attribute of every notice. Ten thousand elements in a row name it ten thousand times. */
  private touch(data: Buffer, start: number, end: number): void {
    const at = start + prologue
    if (at + 4 > end) return
    const value = data.subarray(at + 4, Math.min(end, at + data.readUInt16LE(at)))
    const number = data[start + 16] ?? 0
    if (number === this.lastFamily && value.equals(this.lastName)) return
    this.lastFamily = number
    this.lastName = Buffer.from(value)
    const family = familyName(number)
    if (family === undefined) return
    const name = textOf(value)
    this.tables.set(`${family} ${name}`, { family, name })
  }

  private finish(payload: Buffer, portId: number): NftEvent[] {
    const parts = attributes(payload)
    const generation = u32Of(parts.get(generationAttribute.id))
    // The numbers follow each other: a gap is a lost NEWGEN, whose tables we may have seen only in part.
    const gap = this.generation !== undefined && generation !== ((this.generation + 1) >>> 0 || 1)
    this.generation = generation
    const tables = [...this.tables.values()]
    this.forget()
    const event: NftEvent = {
      event: 'generation',
      generation,
      tables,
      portId,
      pid: u32Of(parts.get(generationAttribute.pid)),
      comm: textOf(parts.get(generationAttribute.name)),
      own: this.own.has(portId),
    }
    return gap ? [{ event: 'lost' }, event] : [event]
  }

  private forget(): void {
    this.tables.clear()
    this.lastFamily = -1
  }

  /** After a loss: what is gathered belongs to nobody knows what. */
  reset(): void {
    this.forget()
    this.generation = undefined
  }
}

/**
 * Calls `onEvent` once per transaction of anybody inside `netns` until it is closed. Elements that packets add or that
 * time out do not count. Errors: EPERM, EPROTONOSUPPORT.
 */
export function monitorNft(
  netns: Netns,
  onEvent: (event: NftEvent) => void,
  options: NftMonitorOptions = {},
): NftMonitor {
  const reader = new NftEventReader(options.own ?? new Set())
  return openNetlinkEvents(netns, NETLINK_NETFILTER, [group], {
    onMessage: (data, start, end) => {
      for (const event of reader.read(data, start, end)) onEvent(event)
    },
    onLost: () => {
      reader.reset()
      onEvent({ event: 'lost' })
    },
    onOpen: fd => void keepQuiet(fd, elements, [...(options.untold ?? [])]),
  })
}
