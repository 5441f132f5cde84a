// One dnsmasq per link, each a daemon of its own: it outlives this program and is found again by its command line and by
// what was noted at its start. Files, below DIRECTORY/ID/: conf, hosts, names (ours), leases, log, pid (dnsmasq's), running
// (our note: which process, where, with which texts). How it is started: launch.ts.
//
// It runs as the user "dnsmasq" (or "nobody") once its sockets are open, and reads hosts and names as that user: they and
// the directories down to them have to be open to it.
import { chmodSync, chownSync, fstatSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { codeOf, WarrenError } from '../errors.js'
import { openNetns } from '../netns/netns.js'
import type { FileName } from './config.js'
import {
  type Account,
  directoriesIn,
  dnsmasqAccount,
  lastLines,
  prepareDirectory,
  readText,
  shorten,
} from './files.js'
import { daemonLauncher, type Launcher } from './launch.js'
import { pruneLeases } from './leases.js'
import { digestOf, formatNote, type Note, type Place, parseNote, troubleOf } from './note.js'
import { confArg, findServers, type ProcessFacts, readProcess } from './processes.js'
import type { DnsmasqTexts } from './types.js'
import { watchProcesses } from './watch.js'

export interface DnsmasqServer {
  /** Digits: the name of its directory. */
  readonly id: string
  /** A name below /run/netns. */
  readonly netns: string
  readonly interface: string
  readonly texts: DnsmasqTexts
}

export interface FoundDnsmasq extends DnsmasqServer {
  /** undefined: there are only files. */
  readonly pid: number | undefined
  /** Why it has to be started again, whatever is wanted; undefined: it serves its texts where it was started. */
  readonly trouble: string | undefined
}

export interface GoneDnsmasq {
  readonly id: string
  readonly pid: number
  /** Its last lines, without time and name. */
  readonly log: readonly string[]
}

export interface Dnsmasqs {
  readonly directory: string
  /** All of ours, running or not. */
  list(): readonly FoundDnsmasq[]
  /** Starts it, or starts it again. Errors: DNSMASQ; ENOENT: no such namespace; ENODEV: no such interface in it. */
  start(server: DnsmasqServer): Promise<void>
  /** New hosts and names for one that runs with this conf; starts it again where an address has changed hands. */
  reload(server: DnsmasqServer): Promise<void>
  /** Ends it and removes its files. */
  stop(id: string): Promise<void>
  /** Tells of each that ends by itself, within half a second, until the signal aborts; keeps the logs short. */
  watch(signal: AbortSignal, onGone: (gone: GoneDnsmasq) => void): Promise<void>
  /** The command line, as it can be pasted. */
  format(server: Pick<DnsmasqServer, 'id' | 'netns'>): string
}

/** Clients can make a dnsmasq complain: bytes after which a log begins anew, looked at every minute. */
const log = { mostBytes: 256 * 1024, everyLooks: 120, lastLines: 3 }

const netnsPath = (name: string): string => `/run/netns/${name}`

/** Where that namespace and interface are now; undefined when one of them is not there. */
function placeOf({ netns: name, interface: dev }: Pick<Note, 'netns' | 'interface'>): Place | undefined {
  try {
    const netns = openNetns({ path: netnsPath(name) })
    try {
      const ifindex = netns.linkIndex(dev)
      return ifindex === undefined ? undefined : { inode: `net:[${statSync(netnsPath(name)).ino}]`, ifindex }
    } finally {
      netns.close()
    }
  } catch {
    return undefined
  }
}

/** What a failed start means, in the words of dnsmasq. */
function startFailure(error: unknown, server: DnsmasqServer, logPath: string): WarrenError {
  const { stderr = '', code } = (error instanceof WarrenError ? (error.cause ?? {}) : {}) as {
    readonly stderr?: string
    readonly code?: number
  }
  const what = `Cannot start dnsmasq on "${server.interface}" of namespace "${server.netns}"`
  if (code === 127 || /failed to execute dnsmasq/.test(stderr))
    return new WarrenError(`${what}: there is no dnsmasq here`, {
      code: 'DNSMASQ',
      hint: 'apt install dnsmasq-base',
      cause: error,
    })
  const lines = stderr.split('\n').map(line => line.replace(/^dnsmasq: /, '').trim())
  const reason = lines.find(line => line !== '') ?? (error instanceof Error ? error.message : codeOf(error))
  const hint = /in use/i.test(reason)
    ? `see what listens there: ip netns exec ${server.netns} ss -lnup`
    : `see ${logPath}`
  return new WarrenError(`${what}: ${reason}`, { code: 'DNSMASQ', hint, cause: error })
}

export function openDnsmasqs(
  directory: string,
  program = 'dnsmasq',
  launcher: Launcher = daemonLauncher,
): Dnsmasqs {
  /** Those that should be running, by id. */
  const live = new Map<string, ProcessFacts>()
  /** What was there at the last look, and what was started since; a look at all of /proc for each start would cost more than the start. */
  let known: Map<string, readonly ProcessFacts[]> | undefined
  let cached: Account | undefined
  const account = (): Account => {
    cached ??= dnsmasqAccount()
    return cached
  }
  const path = (id: string, name: FileName | 'running'): string => `${directory}/${id}/${name}`
  const read = (id: string, name: FileName | 'running'): string => readText(path(id, name))
  const argv = (id: string): readonly [string, ...string[]] => {
    const { user, group } = account()
    return [
      'setpriv',
      '--no-new-privs',
      program,
      confArg(directory, id),
      `--user=${user}`,
      `--group=${group}`,
    ]
  }

  /** Whole or not at all; readable by dnsmasq's group. */
  function write(id: string, name: FileName | 'running', text: string, mode: number): void {
    const fresh = `${path(id, name)}.new`
    writeFileSync(fresh, text, { mode })
    chmodSync(fresh, mode) // whatever the umask is
    if (launcher.givesFiles) chownSync(fresh, 0, account().gid)
    renameSync(fresh, path(id, name))
  }

  function writeLists({ id, texts }: DnsmasqServer): void {
    write(id, 'hosts', texts.hosts, 0o640)
    write(id, 'names', texts.names, 0o640)
  }

  function note({ id, netns, interface: dev, texts }: DnsmasqServer, facts: ProcessFacts, at: Place): void {
    const { pid, start } = facts
    const { inode, ifindex } = at
    const digest = digestOf(texts)
    write(id, 'running', formatNote({ pid, start, netns, interface: dev, inode, ifindex, digest }), 0o600)
    live.set(id, facts)
  }

  function look(id: string, processes: readonly ProcessFacts[]): FoundDnsmasq {
    const texts = { conf: read(id, 'conf'), hosts: read(id, 'hosts'), names: read(id, 'names') }
    const noted = parseNote(read(id, 'running'))
    const main = processes.find(({ pid, start: at }) => pid === noted?.pid && at === noted.start)
    const trouble =
      troubleOf(noted, texts, processes, placeOf) ??
      (main === undefined ? undefined : launcher.foreign(id, main))
    if (main === undefined) live.delete(id)
    else live.set(id, main)
    return {
      id,
      netns: noted?.netns ?? '',
      interface: noted?.interface ?? '',
      texts,
      pid: main?.pid,
      trouble,
    }
  }

  async function endAll(id: string, starting: boolean): Promise<void> {
    live.delete(id)
    known ??= new Map(findServers(directory))
    await launcher.end(id, known.get(id) ?? [], starting)
    known.delete(id)
  }

  async function start(server: DnsmasqServer): Promise<void> {
    const { id, texts, interface: dev } = server
    const what = `Cannot start dnsmasq on "${dev}" of namespace "${server.netns}"`
    prepareDirectory(directory, id)
    const before = read(id, 'hosts')
    rmSync(path(id, 'running'), { force: true })
    await endAll(id, true)
    const leases = pruneLeases(read(id, 'leases'), before, texts.hosts)
    if (leases.stale) write(id, 'leases', leases.text, 0o640)
    // dnsmasq makes it its own, but not its group: so we can shorten it without rights over others' files.
    if (!launcher.givesFiles) write(id, 'log', read(id, 'log'), 0o660)
    write(id, 'conf', texts.conf, 0o600)
    writeLists(server)
    const netns = openNetns({ path: netnsPath(server.netns) })
    try {
      const ifindex = netns.linkIndex(dev)
      if (ifindex === undefined) throw new WarrenError(`${what}: ENODEV`, { code: 'ENODEV' })
      // It answers when its sockets are open and its child is on its own.
      const how = { id, name: server.netns, netns, account: account(), argv: argv(id) }
      await launcher.start(how).catch((error: unknown) => {
        throw startFailure(error, server, path(id, 'log'))
      })
      const facts = readProcess(Number(read(id, 'pid')))
      if (facts === undefined || !facts.args.includes(confArg(directory, id)))
        throw new WarrenError(`${what}: it ended at once`, {
          code: 'DNSMASQ',
          hint: lastLines(read(id, 'log'), log.lastLines).join('; '),
        })
      known?.set(id, [facts])
      note(server, facts, { inode: `net:[${fstatSync(netns.fd).ino}]`, ifindex })
    } finally {
      netns.close()
    }
  }

  return {
    directory,
    start,
    list() {
      const processes = new Map(findServers(directory))
      known = processes
      const ids = new Set(
        [...directoriesIn(directory), ...processes.keys()].filter(id => /^[0-9]+$/.test(id)),
      )
      return [...ids].map(id => look(id, processes.get(id) ?? []))
    },
    async reload(server) {
      const { id, texts } = server
      const noted = parseNote(read(id, 'running'))
      const facts = noted === undefined ? undefined : readProcess(noted.pid)
      const { stale } = pruneLeases(read(id, 'leases'), read(id, 'hosts'), texts.hosts)
      if (stale || noted === undefined || facts?.start !== noted.start) return await start(server)
      writeLists(server)
      if (!(await launcher.reload(id, facts))) return await start(server)
      note(server, facts, noted)
    },
    async stop(id) {
      await endAll(id, false)
      rmSync(`${directory}/${id}`, { recursive: true, force: true })
    },
    async watch(signal, onGone) {
      let looks = 0
      const onEnd = (id: string, pid: number): void => {
        live.delete(id)
        onGone({ id, pid, log: lastLines(read(id, 'log'), log.lastLines) })
      }
      await watchProcesses(live, signal, onEnd, () => {
        looks += 1
        if (looks % log.everyLooks === 0)
          for (const id of live.keys()) shorten(path(id, 'log'), log.mostBytes)
      })
    },
    format: ({ id, netns }) => launcher.format(id, netns, argv(id)),
  }
}
