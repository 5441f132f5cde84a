// What a check of `warren doctor` is: it looks, writes nothing, and says what it found in findings with a status, a code that
// stays, what is wrong and what to type. `warren doctor -o json` shows them as they are; docs/reference/doctor.md has each.

import { hasCode } from '../../lib/errors.js'
import type { Address, Link } from '../../lib/netlink/types.js'
import type { Config } from '../config.js'
import type { Kernel } from '../dataplane/boundary.js'
import type { Names } from '../model/marks.js'
import type { Underlay } from '../model/self.js'
import type { Daemon, Peer } from './daemon-facts.js'

/** `unknown`: it cannot be told from here, and the message says why. */
export type FindingStatus = 'ok' | 'warn' | 'bad' | 'unknown'

export interface Finding {
  readonly status: FindingStatus
  /** Stable, upper case: RP_FILTER_STRICT. Of `ok`: OK. */
  readonly code: string
  /** What it is about: a link, a peer, a table. Absent: the host. */
  readonly about?: string
  readonly message: string
  /** What to do, a line for a shell where there is one. */
  readonly fix?: string
}

export interface DoctorContext {
  readonly config: Config
  readonly names: Names
  /** Of the namespace that is looked at; only what reads is called. */
  readonly kernel: Pick<Kernel, 'netns' | 'rtnl' | 'nft' | 'iptables' | 'conntrack'>
  /** Undefined: warrend does not answer. */
  readonly daemon: Daemon | undefined
  /** Why not. */
  readonly daemonError?: string
  readonly peers: readonly Peer[]
  /** Aborts when the check's time is over. */
  readonly signal: AbortSignal
  /** Before /etc, /run and /usr: '' but in tests. */
  readonly root: string
  /** "net.ipv4.ip_forward"; undefined: the kernel does not have it. Link names with dots: as parts. */
  sysctl(name: string | readonly string[]): string | undefined
  /** A file below /proc/net of the namespace; undefined: not there. */
  procNet(name: string): string | undefined
  links(): Promise<readonly Link[]>
  addresses(): Promise<readonly Address[]>
  /** Where the other nodes are; undefined: it is not found. */
  underlay(): Promise<Underlay | undefined>
}

export interface Check {
  /** Stable, kebab-case. */
  readonly id: string
  readonly title: string
  /** Milliseconds; default 1500. */
  readonly deadline?: number
  /** Asks other hosts: nothing to do where no peers are known. */
  readonly needsDaemon?: boolean
  run(context: DoctorContext): Promise<readonly Finding[]>
}

export function ok(message: string, about?: string): Finding {
  return { status: 'ok', code: 'OK', message, ...(about === undefined ? {} : { about }) }
}

function finding(status: FindingStatus) {
  return (
    code: string,
    message: string,
    detail: { readonly fix?: string; readonly about?: string } = {},
  ): Finding => ({
    status,
    code,
    message,
    ...detail,
  })
}

export const warn = finding('warn')
export const bad = finding('bad')
export const unknown = finding('unknown')

export const noUnderlay = unknown('NO_UNDERLAY', 'the interface to the other nodes is not known', {
  fix: 'set underlay: {interface: ...} in warrend.yaml',
})

/** What was found wrong, or that all is well. */
export function orOk(findings: readonly Finding[], message: string): readonly Finding[] {
  return findings.length > 0 ? findings : [ok(message)]
}

/** What `look` finds, or that it needs more rights. `what`: "ARP", of a raw socket (packet(7), raw(7)). */
export async function bySending(
  what: 'ARP' | 'ICMP',
  look: () => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  try {
    return await look()
  } catch (error) {
    if (!hasCode(error, 'EPERM', 'EACCES')) throw error
    const fix = 'sudo warren doctor'
    return [unknown('NO_CAPABILITY', `CAP_NET_RAW is needed to send ${what}`, { fix })]
  }
}

/** "h1, h2, h3 and 47 more". */
export function someNames(names: readonly string[], most = 3): string {
  const shown = names.slice(0, most).join(', ')
  return names.length > most ? `${shown} and ${names.length - most} more` : shown
}
