// The directories and files around a dnsmasq, and who may read them.
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { dirname } from 'node:path'
import { hasCode, WarrenError } from '../errors.js'

export interface Account {
  readonly user: string
  readonly group: string
  readonly gid: number
}

/** The user that Debian's and Ubuntu's package makes, else "nobody". Errors: DNSMASQ when there is neither. */
export function dnsmasqAccount(
  passwd = readFileSync('/etc/passwd', 'utf8'),
  groups = readFileSync('/etc/group', 'utf8'),
): Account {
  const rows = (text: string): string[][] => text.split('\n').map(line => line.split(':'))
  for (const user of ['dnsmasq', 'nobody']) {
    const gid = rows(passwd).find(([name]) => name === user)?.[3]
    const group = gid === undefined ? undefined : rows(groups).find(([, , id]) => id === gid)?.[0]
    if (gid !== undefined && group !== undefined) return { user, group, gid: Number(gid) }
  }
  throw new WarrenError('Cannot run dnsmasq: neither user "dnsmasq" nor "nobody" is in /etc/passwd', {
    code: 'DNSMASQ',
    hint: 'apt install dnsmasq-base',
  })
}

const search = 0o011

/** Makes `directory`/`id`, and lets others pass through to it (not list it): `directory`'s parent is made so if need be. */
export function prepareDirectory(directory: string, id: string): void {
  const parent = dirname(directory)
  mkdirSync(`${directory}/${id}`, { recursive: true, mode: 0o711 })
  for (const path of [`${directory}/${id}`, directory, parent]) {
    const { mode } = statSync(path)
    if ((mode & search) !== search) chmodSync(path, (mode & 0o7777) | search)
  }
  for (let path = dirname(parent); path !== '/'; path = dirname(path)) {
    if ((statSync(path).mode & 1) === 0)
      throw new WarrenError(
        `Cannot keep files of dnsmasq in "${directory}": "${path}" is closed to other users`,
        {
          code: 'DNSMASQ',
          hint: `chmod o+x ${path}, or set stateDir in warrend.yaml to another directory`,
        },
      )
  }
}

/** Names below `directory`; none when it is not there. */
export function directoriesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).flatMap(entry =>
      entry.isDirectory() ? [entry.name] : [],
    )
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** Empty when it is not there. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return ''
    throw error
  }
}

/** The last lines of a log of dnsmasq, without time, name and pid. */
export function lastLines(text: string, count: number): readonly string[] {
  const lines = text.split('\n').filter(line => line !== '')
  return lines.slice(-count).map(line => line.replace(/^.*? dnsmasq[a-z-]*\[\d+\]: /, ''))
}

/** Begins it anew when it is longer than that. dnsmasq appends, so it goes on at the start. */
export function shorten(path: string, mostBytes: number): void {
  try {
    if (statSync(path).size > mostBytes) truncateSync(path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}
