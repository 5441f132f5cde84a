// The filter table of iptables-legacy as the kernel holds it, without running a program: getsockopt(2) IPT_SO_GET_INFO
// and IPT_SO_GET_ENTRIES, struct ipt_entry and ip6t_entry of linux/netfilter_ipv4/ip_tables.h. `iptables-legacy-save`.
// Asking makes the table in a namespace that has none: ask only where ip_tables_names shows it.

import { createHash } from 'node:crypto'
import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { hasCode } from '../errors.js'
import { close, getsockoptBytes, socket } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'
import type { IptablesFamily } from './types.js'

interface Layout {
  readonly domain: number
  readonly level: number
  /** Offsets in an entry; `comefrom` is the kernel's own scratch space. */
  readonly next: number
  readonly comefrom: number
  readonly counters: number
}

const layouts: Readonly<Record<IptablesFamily, Layout>> = {
  inet: { domain: 2, level: 0, next: 90, comefrom: 92, counters: 96 },
  inet6: { domain: 10, level: 41, next: 142, comefrom: 144, counters: 152 },
}
const SOCK_RAW = 3
const IPPROTO_RAW = 255
const GET_INFO = 64
const GET_ENTRIES = 65
const infoLength = 84
const entriesAt = 76
const sizeAt = 80
const headerLength = 40
/** Somebody's change between the two calls. */
const tries = 3

const names = { inet: 'ip_tables_names', inet6: 'ip6_tables_names' } as const
/** There are five tables, with short names. */
const text = Buffer.alloc(256)

/** The families that have a filter table of iptables-legacy in `netns`. Asked twice a second, so cheap: no string, no exception. */
export function legacyFamilies(netns: Netns): readonly IptablesFamily[] {
  return netns.run(() => families.filter(family => tablesOf(family).includes('filter')))
}

/** "filter", "nat"... of iptables-legacy that the kernel has in `netns`. */
export function legacyTables(netns: Netns, family: IptablesFamily): readonly string[] {
  return netns.run(() => tablesOf(family))
}

const families = ['inet', 'inet6'] as const
const none: readonly string[] = []

function tablesOf(family: IptablesFamily): readonly string[] {
  const path = `/proc/thread-self/net/${names[family]}`
  if (!existsSync(path)) return none // the module is not loaded
  const fd = openSync(path, 'r')
  try {
    let length = 0
    for (let more = 1; more > 0; length += more) more = readSync(fd, text, length, text.length - length, null)
    return length > 0 ? text.toString('latin1', 0, length).split('\n') : none
  } finally {
    closeSync(fd)
  }
}

function openSocket(netns: Netns, domain: number): number | undefined {
  try {
    return netns.run(() => socket(domain, SOCK_RAW, IPPROTO_RAW))
  } catch (error) {
    if (hasCode(error, 'EPERM', 'EAFNOSUPPORT')) return undefined // without CAP_NET_RAW iptables cannot run either
    throw error
  }
}

/** struct ipt_get_entries with all rules; undefined when the kernel does not tell. */
function readEntries(netns: Netns, family: IptablesFamily, name: string): Buffer | undefined {
  const { domain, level } = layouts[family]
  const fd = openSocket(netns, domain)
  if (fd === undefined) return undefined
  try {
    for (let attempt = 1; attempt <= tries; attempt += 1) {
      const info = Buffer.alloc(infoLength)
      info.write(name)
      if (getsockoptBytes(fd, level, GET_INFO, info) !== infoLength) return undefined
      const size = info.readUInt32LE(sizeAt)
      const table = Buffer.alloc(headerLength + size)
      table.write(name)
      table.writeUInt32LE(size, 32)
      if (getsockoptBytes(fd, level, GET_ENTRIES, table) !== undefined) return table
    }
    return undefined
  } finally {
    close(fd)
  }
}

/** A digest of all rules and policies, counters left out; undefined when the kernel does not tell. */
export function legacyDigest(netns: Netns, family: IptablesFamily): string | undefined {
  const { next, comefrom, counters } = layouts[family]
  const table = readEntries(netns, family, 'filter')
  if (table === undefined) return undefined
  for (let at = headerLength; at + counters + 16 <= table.length; ) {
    const length = table.readUInt16LE(at + next)
    if (length === 0) return undefined
    table.fill(0, at + comefrom, at + comefrom + 4)
    table.fill(0, at + counters, at + counters + 16)
    at += length
  }
  return createHash('sha1').update(table).digest('base64')
}

/** Is there a chain whose name begins so? Ask only for tables that `legacyTables` shows. */
export function legacyHasChain(netns: Netns, family: IptablesFamily, table: string, prefix: string): boolean {
  // A chain of a user begins with an entry whose target is ERROR and carries the name. What cannot be read may be there.
  return readEntries(netns, family, table)?.includes(prefix, headerLength, 'latin1') ?? true
}

/** How many entries a table has; undefined when the kernel does not tell. A fresh one: a policy for each built-in chain, and the end. */
export function legacyEntries(netns: Netns, family: IptablesFamily, table: string): number | undefined {
  const shape = legacyShape(netns, family, table)
  return shape === undefined ? undefined : Buffer.from(shape, 'base64').readUInt32LE(entriesAt - 32)
}

/**
 * Size, number of entries and where the built-in chains begin (struct ipt_getinfo), in microseconds at any size. Undefined
 * when the kernel does not tell. Ask only for tables that `legacyTables` shows: asking makes them.
 */
export function legacyShape(netns: Netns, family: IptablesFamily, table: string): string | undefined {
  const fd = openSocket(netns, layouts[family].domain)
  if (fd === undefined) return undefined
  try {
    const info = Buffer.alloc(infoLength)
    info.write(table)
    if (getsockoptBytes(fd, layouts[family].level, GET_INFO, info) !== infoLength) return undefined
    return info.toString('base64', 32)
  } finally {
    close(fd)
  }
}
