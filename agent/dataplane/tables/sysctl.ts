// Sysctls. Host-wide ones are ours from the moment their old value stands in <stateDir>/sysctl.json (written before
// the sysctl is), and are given back when no longer wanted; those on our own links go with the links. `sysctl NAME`.
import { fstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { codeOf, hasCode, WarrenError } from '../../../lib/errors.js'
import type { Netns } from '../../../lib/netns/netns.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import type { Sysctl } from '../../model/desired.js'

/** Names are dotted; a slash stands for a dot inside a link's name, as in sysctl(8). */
export function sysctlPath(name: string): string {
  return `/proc/sys/${name.replace(/[./]/g, c => (c === '.' ? '/' : '.'))}`
}

export interface SysctlIo {
  /** undefined when there is no such sysctl. */
  read(name: string): string | undefined
  write(name: string, value: string): void
  /** Many reads and writes in one visit. */
  together<T>(f: () => T): T
  /** Links that have sysctls of their own, and "all" and "default". */
  links(): readonly string[]
}

/** /proc/sys follows the reading thread's namespace: every access runs in its window. */
export function sysctlIo(netns: Netns): SysctlIo {
  return {
    read(name) {
      try {
        return netns.run(() => readFileSync(sysctlPath(name), 'utf8').trim())
      } catch (error) {
        if (hasCode(error, 'ENOENT')) return undefined
        throw error
      }
    },
    write: (name, value) => netns.run(() => writeFileSync(sysctlPath(name), value)),
    together: f => netns.run(f),
    links: () => netns.run(() => readdirSync('/proc/sys/net/ipv4/conf')),
  }
}

function set(io: SysctlIo, { name, value }: Sysctl): OpResult {
  try {
    io.write(name, value)
    return undefined
  } catch (error) {
    const hint = hasCode(error, 'EROFS', 'EACCES', 'EPERM')
      ? 'warrend needs CAP_NET_ADMIN and a writable /proc/sys'
      : 'see sysctl(8)'
    return new WarrenError(`Cannot set sysctl "${name}=${value}": ${codeOf(error)}`, {
      code: codeOf(error),
      hint,
      cause: error,
    })
  }
}

export function satisfies(desired: Sysctl, observed: Sysctl): boolean {
  return desired.value === observed.value || (desired.accepts?.includes(observed.value) ?? false)
}

const format = (op: TableOp<Sysctl>): string =>
  op.verb === 'remove'
    ? `# sysctl ${op.observed.name}: give the old value back`
    : `sysctl -w ${op.desired.name}=${op.desired.value}`

/**
 * Writing these drags others along (ip_forward sets every link's forwarding and all.accept_redirects, see
 * devinet_sysctl_forward): their values are recorded with it and given back after it.
 */
const companions: Readonly<Record<string, readonly string[]>> = {
  'net.ipv4.ip_forward': ['net.ipv4.conf.all.accept_redirects', 'net.ipv4.conf.default.forwarding'],
  'net.ipv6.conf.all.forwarding': ['net.ipv6.conf.default.forwarding'],
}

interface Recorded {
  readonly old: string
  readonly companions: Readonly<Record<string, string>>
}

/** What we changed on this host and what it was before; the file survives us. */
export interface SysctlRecord {
  read(): Readonly<Record<string, Recorded>>
  write(record: Readonly<Record<string, Recorded>>): void
}

/** Whose sysctls a record speaks of: this boot, this network namespace. Elsewhere the kernel has values of its own. */
function sysctlPlace(netns: Netns): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  return `boot ${boot} netns ${fstatSync(netns.fd).ino}`
}

interface RecordFile {
  readonly place: string
  readonly sysctls: Readonly<Record<string, Recorded>>
}

/** A record of another place is void: after a reboot, and for a cleanup that runs in the wrong namespace. */
export function sysctlRecord(path: string, netns: Netns): SysctlRecord {
  let known: string | undefined
  const place = (): string => {
    known ??= sysctlPlace(netns)
    return known
  }
  return {
    read() {
      try {
        const file = JSON.parse(readFileSync(path, 'utf8')) as Partial<RecordFile>
        return file.place === place() ? (file.sysctls ?? {}) : {}
      } catch (error) {
        if (hasCode(error, 'ENOENT') || error instanceof SyntaxError) return {}
        throw error
      }
    },
    write(sysctls) {
      if (Object.keys(sysctls).length === 0) {
        rmSync(path, { force: true })
        return
      }
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(`${path}.new`, `${JSON.stringify({ place: place(), sysctls }, null, 2)}\n`, {
        mode: 0o600,
      })
      renameSync(`${path}.new`, path)
    },
  }
}

export function hostSysctlTable(io: SysctlIo, record: SysctlRecord): Table<Sysctl> {
  const dragged = (name: string): string[] => {
    const family = name.startsWith('net.ipv6') ? 'ipv6' : 'ipv4'
    const own = companions[name]
    if (own === undefined) return []
    return [...own, ...io.links().map(link => `net.${family}.conf.${link.replaceAll('.', '/')}.forwarding`)]
  }
  const restore = (name: string, recorded: Recorded): OpResult => {
    if (io.read(name) === undefined) return undefined // its link is gone
    const failed = set(io, { name, value: recorded.old })
    if (failed !== undefined) return failed
    for (const [other, value] of Object.entries(recorded.companions)) {
      const now = io.read(other)
      if (now !== undefined && now !== value) set(io, { name: other, value })
    }
    return undefined
  }
  return {
    name: 'sysctl',
    key: sysctl => sysctl.name,
    equal: satisfies,
    observe: async () => {
      const found: Sysctl[] = []
      for (const name of Object.keys(record.read())) found.push({ name, value: io.read(name) ?? '' })
      return found
    },
    async apply(ops) {
      const recorded: Record<string, Recorded> = { ...record.read() }
      const giveBack = (name: string): OpResult => {
        const entry = recorded[name]
        const failed = entry === undefined ? undefined : restore(name, entry)
        if (failed !== undefined) return failed
        delete recorded[name]
        record.write(recorded)
        return undefined
      }
      const take = (desired: Sysctl): OpResult => {
        const { name } = desired
        const now = io.read(name)
        if (now === undefined) {
          return new WarrenError(`Cannot set sysctl "${name}": the kernel has none of that name`, {
            code: 'ENOENT',
          })
        }
        if (recorded[name] === undefined) {
          const others = dragged(name).flatMap(other => {
            const value = io.read(other)
            return value === undefined ? [] : [[other, value] as const]
          })
          recorded[name] = { old: now, companions: Object.fromEntries(others) }
          record.write(recorded)
        }
        return satisfies(desired, { name, value: now }) ? undefined : set(io, desired)
      }
      const results: OpResult[] = ops.map(op => (op.verb === 'remove' ? undefined : take(op.desired)))
      // Given back in the other order: accept_ra back at 1 while forwarding is still on would cost the default route.
      for (const [i, op] of [...ops.entries()].reverse())
        if (op.verb === 'remove') results[i] = giveBack(op.observed.name)
      return results
    },
    format,
  }
}

/** On links that we made: nothing to give back. `wanted` is what compute asks for now. */
export function linkSysctlTable(io: SysctlIo, wanted: () => Iterable<Sysctl>): Table<Sysctl> {
  return {
    name: 'link-sysctl',
    key: sysctl => sysctl.name,
    equal: satisfies,
    observe: async () =>
      io.together(() =>
        [...wanted()].flatMap(({ name }) => {
          const value = io.read(name)
          return value === undefined ? [] : [{ name, value }]
        }),
      ),
    // An op to remove only says that compute no longer asks: the value dies with the link.
    apply: async ops =>
      io.together(() => ops.map(op => (op.verb === 'remove' ? undefined : set(io, op.desired)))),
    format: op => (op.verb === 'remove' ? `# sysctl ${op.observed.name}: goes with its link` : format(op)),
  }
}
