// Which dnsmasq processes are ours: those whose command line names a conf file below our directory. No process of ours is
// a child of this program (dnsmasq goes into a session of its own), so /proc tells, before and after a restart alike.
// `pgrep -af DIRECTORY` shows them.
import { readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { WarrenError } from '../errors.js'
import { closePidfd, endedPidfds, openPidfd, signalPidfd } from './pidfd.js'

export interface ProcessFacts {
  readonly pid: number
  readonly parent: number
  /** Ticks after boot (field 22 of proc_pid_stat(5)): with the pid, no other process. */
  readonly start: string
  readonly args: readonly string[]
}

const SIGHUP = 1
const SIGKILL = 9
const SIGTERM = 15
/** How long one that was asked to end may take, ms. dnsmasq needs two. */
const patienceMs = 1000

function commandLine(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
}

/** undefined when there is none, or only its zombie is left. */
export function readProcess(pid: number): ProcessFacts | undefined {
  try {
    const args = commandLine(pid).split('\0').slice(0, -1)
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined
    return { pid, parent: Number(fields[1]), start: fields[19] ?? '', args }
  } catch {
    return undefined
  }
}

/** How many pid namespaces it is in, from that of this /proc down; a link in ns/ of another account is not ours to read. */
function pidDepth(pid: number): number | undefined {
  try {
    const ids = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return ids?.trim().split(/\s+/).length
  } catch {
    return undefined
  }
}

export const confArg = (directory: string, id: string): string => `--conf-file=${directory}/${id}/conf`

/** A container's processes are seen in /proc too, and may call themselves anything: another pid namespace is not ours. */
function isServer({ pid, args }: ProcessFacts, conf: string): boolean {
  return (
    basename(args[0] ?? '') === 'dnsmasq' && args.includes(conf) && pidDepth(pid) === pidDepth(process.pid)
  )
}

/** Most processes of a host are none of ours: one read each. */
function mentions(pid: number, text: string): boolean {
  try {
    return commandLine(pid).includes(text)
  } catch {
    return false
  }
}

/** By id; those that dnsmasq itself forked (a child for each query by TCP) come with it. */
export function findServers(directory: string): ReadonlyMap<string, readonly ProcessFacts[]> {
  const found = new Map<string, ProcessFacts[]>()
  const prefix = `--conf-file=${directory}/`
  for (const name of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue
    const facts = mentions(Number(name), prefix) ? readProcess(Number(name)) : undefined
    if (facts === undefined) continue
    const id = facts.args.find(arg => arg.startsWith(prefix))?.slice(prefix.length, -'/conf'.length)
    if (id === undefined || !isServer(facts, confArg(directory, id))) continue
    const list = found.get(id)
    if (list === undefined) found.set(id, [facts])
    else list.push(facts)
  }
  return found
}

/** Runs `f` with a descriptor of the process, if it still is the one that was meant. */
async function held<T>(facts: ProcessFacts, f: (fd: number) => T | Promise<T>): Promise<T | undefined> {
  const fd = openPidfd(facts.pid)
  if (fd === undefined) return undefined
  try {
    // Read after the descriptor was opened: whoever has the number now is who gets the signal.
    return readProcess(facts.pid)?.start === facts.start ? await f(fd) : undefined
  } finally {
    closePidfd(fd)
  }
}

async function waitForEnd(fd: number, ms: number): Promise<boolean> {
  const until = performance.now() + ms
  for (;;) {
    if (endedPidfds([fd])[0] === true) return true
    if (performance.now() > until) return false
    await sleep(2)
  }
}

/** Ends it, in the end by SIGKILL; resolves when it is gone. Errors: DNSMASQ when it will not go. */
export async function endProcess(facts: ProcessFacts): Promise<void> {
  const gone = await held(facts, async fd => {
    signalPidfd(fd, SIGTERM)
    if (await waitForEnd(fd, patienceMs)) return true
    signalPidfd(fd, SIGKILL)
    return await waitForEnd(fd, patienceMs)
  })
  if (gone === false)
    throw new WarrenError(`Cannot end process "${facts.pid}" (${facts.args.join(' ')}): it is still there`, {
      code: 'DNSMASQ',
      hint: `see /proc/${facts.pid}/stack`,
    })
}

/** False when it is not there any more. */
export async function hangUp(facts: ProcessFacts): Promise<boolean> {
  return (await held(facts, fd => signalPidfd(fd, SIGHUP) === undefined)) ?? false
}
