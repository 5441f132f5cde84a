// Which iptables programs the host has. Both variants can be installed side by side; where only the plain name exists
// (`iptables`), its version line tells which variant it is: "iptables v1.8.9 (nf_tables)". man 8 xtables-nft.

import { accessSync, constants, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { exec } from '../exec.js'
import type { IptablesFamily, IptablesVariant } from './types.js'

export interface Programs {
  readonly save: string
  readonly restore: string
}

const stems: Readonly<Record<IptablesFamily, string>> = { inet: 'iptables', inet6: 'ip6tables' }

function installed(program: string): boolean {
  const directories = new Set([...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'])
  return [...directories].some(directory => {
    try {
      accessSync(join(directory, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** The programs of one variant and family, or a sentence that says what is missing. */
export async function findPrograms(
  variant: IptablesVariant,
  family: IptablesFamily,
): Promise<Programs | string> {
  const stem = stems[family]
  const named = `${stem}-${variant}`
  if (installed(`${named}-restore`) && installed(`${named}-save`))
    return { save: `${named}-save`, restore: `${named}-restore` }
  if (installed(`${stem}-restore`) && installed(`${stem}-save`)) {
    const { stdout } = await exec([`${stem}-restore`, '--version'])
    // iptables before 1.8 knows one variant and does not say which.
    if (stdout.includes('(nf_tables)') === (variant === 'nft'))
      return { save: `${stem}-save`, restore: `${stem}-restore` }
  }
  return `"${named}-restore" is not installed (package iptables)`
}

/** Who holds the lock of iptables-legacy, by /proc/locks; undefined when nobody does or it cannot be seen. */
export function lockHolder(
  path = process.env['XTABLES_LOCKFILE'] ?? '/run/xtables.lock',
): string | undefined {
  try {
    const { ino } = statSync(path)
    for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
      const [, kind, , , pid = '', file = ''] = line.split(/\s+/)
      if (kind !== 'FLOCK' || file.split(':')[2] !== String(ino)) continue
      // The lock belongs to an open file: /proc/locks may name a process that has left it to its child.
      const holder = existsProcess(pid) ? pid : openedBy(path)
      if (holder !== undefined)
        return `${readFileSync(`/proc/${holder}/comm`, 'utf8').trim()} (pid ${holder})`
    }
  } catch {
    // Only for the message's sake.
  }
  return undefined
}

function existsProcess(pid: string): boolean {
  try {
    return statSync(`/proc/${pid}`).isDirectory()
  } catch {
    return false
  }
}

function openedBy(path: string): string | undefined {
  for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name) && name !== String(process.pid))) {
    try {
      const files = readdirSync(`/proc/${pid}/fd`)
      if (files.some(fd => readlinkSync(`/proc/${pid}/fd/${fd}`) === path)) return pid
    } catch {
      // Gone meanwhile, or not ours to see.
    }
  }
  return undefined
}
