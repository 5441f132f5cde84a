// nft as a compiler: the text of a table is loaded into an empty scratch namespace and read back as the kernel has it.
// So every quirk of this host's nft and kernel is in the image already, the real namespace sees raw messages only, and
// what is there can be compared with what the text means without any state of our own.

import { hasCode, WarrenError } from '../errors.js'
import { exec } from '../exec.js'
import { NETLINK_NETFILTER } from '../netlink/raw.js'
import { type NetlinkSocket, openNetlink } from '../netlink/socket.js'
import { childArgv } from '../netns/child.js'
import { anonymousNetns, type Netns } from '../netns/netns.js'
import { type Device, standIn } from './devices.js'
import { chainFlag, type TableImage } from './image.js'
import { runLibrary } from './library.js'
import { transaction } from './message.js'
import { readTable } from './observe.js'
import { TablePlan } from './plan.js'
import type { NftTableSpec } from './types.js'

/** `library`: libnftables in this process, 'binary' when it cannot be loaded or used; `binary`: always `nft -f -`. */
export type NftCompiler = 'library' | 'binary'

/** The line that the spec's text starts on in what nft reads. */
const firstLine = 2

function script({ family, name, text }: NftTableSpec): string {
  return `table ${family} ${name} {\n${text}\n}\n`
}

const errnos: readonly (readonly [RegExp, string])[] = [
  [/No such file or directory/, 'ENOENT'],
  [/File exists/, 'EEXIST'],
  [/Operation not supported|Not supported/, 'EOPNOTSUPP'],
  [/Device or resource busy/, 'EBUSY'],
  [/Invalid argument/, 'EINVAL'],
  [/Operation not permitted|must be root/, 'EPERM'],
  [/Numerical result out of range/, 'ERANGE'],
  [/Interface does not exist/, 'ENODEV'],
  [/Too many (levels of symbolic )?links/, 'ELOOP'],
  [/Cannot allocate memory/, 'ENOMEM'],
]

/** nft's complaint about the spec's text as an error that names the table and the offending line. */
export function nftError(spec: NftTableSpec, complaint: string): WarrenError {
  const match = /^\S*?:(\d+):(\d+)(?:-\d+)?:? Error: (.*)$/m.exec(complaint)
  const reason = (match?.[3] ?? complaint.trim().split('\n')[0] ?? '').trim()
  const code = errnos.find(([pattern]) => pattern.test(complaint))?.[1] ?? 'NFT'
  const number = match === null ? undefined : Number(match[1]) - firstLine
  const line = number === undefined ? undefined : spec.text.split('\n')[number]
  const where = line === undefined || number === undefined ? '' : `, line ${number + 1} "${line.trim()}"`
  // What Ubuntu 22.04's 1.0.2 says of a concatenation with @th,96,24.
  const old = /variable sized/.test(complaint) ? { hint: 'sets of raw payload need nft 1.0.3 or newer' } : {}
  return new WarrenError(`Cannot load table "${spec.family} ${spec.name}"${where}: ${reason}`, {
    code,
    ...old,
  })
}

async function runBinary(scratch: Netns, commands: string): Promise<string | undefined> {
  try {
    await exec(childArgv(scratch, ['nft', '-f', '-']), { input: commands })
    return undefined
  } catch (error) {
    if (!hasCode(error, 'EXIT')) throw error
    const cause = error instanceof Error ? error.cause : undefined
    const stderr =
      typeof cause === 'object' && cause !== null && 'stderr' in cause ? String(cause.stderr) : ''
    if (/failed to execute nft/.test(stderr))
      throw new WarrenError('Cannot run "nft": No such file or directory', {
        code: 'ENOENT',
        cause: error,
        hint: 'install the package nftables',
      })
    return stderr === '' ? describe(error) : stderr
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** What cannot be sent back to the kernel as it was read, or would hide from `current`. */
function check(spec: NftTableSpec, image: TableImage): void {
  const refuse = (what: string, hint: string): never => {
    throw new WarrenError(`Cannot load table "${spec.family} ${spec.name}": ${what}`, {
      code: 'EOPNOTSUPP',
      hint,
    })
  }
  if (image.flowtables.length > 0) refuse('it has a flowtable', 'flowtables are not supported')
  for (const chain of image.chains)
    if ((chain.flags & chainFlag.binding) !== 0) refuse('it has an anonymous chain', 'give the chain a name')
  for (const set of image.sets)
    if (!set.anonymous && set.entries.length > 0)
      refuse(`set "${set.name}" has elements in the text`, 'hand elements over as values')
}

/** Through the kernel like the text, so that the image has them as they will be listed. */
async function addRaw(spec: NftTableSpec, socket: NetlinkSocket): Promise<void> {
  const { raw = [] } = spec
  if (raw.length === 0) return
  const plan = new TablePlan(spec)
  raw.forEach((rule, i) => {
    plan.rule({ ...rule, userdata: undefined, sets: [], chains: [] }, i + 1, new Map())
  })
  const frames = transaction(plan.messages)
  const results = await socket.batch(frames, { whole: { ackAt: frames.length - 2 } })
  results.forEach((failure, i) => {
    if (failure === undefined) return
    const what = plan.messages[i - 1]?.label ?? 'raw rules'
    throw new WarrenError(`Cannot load table "${spec.family} ${spec.name}", ${what}: ${failure.code}`, {
      code: failure.code,
    })
  })
}

/** In an empty namespace of its own. Errors: as of compileTable, with what `run` complains about. */
async function compileBy(
  run: (scratch: Netns, commands: string) => Promise<string | undefined>,
  spec: NftTableSpec,
  devices: readonly Device[],
): Promise<TableImage> {
  const scratch = anonymousNetns()
  try {
    await standIn(devices, scratch)
    const complaint = await run(scratch, script(spec))
    if (complaint !== undefined) throw nftError(spec, complaint)
    const socket = openNetlink(scratch, NETLINK_NETFILTER)
    try {
      await addRaw(spec, socket)
      const { image } = await readTable(socket, spec.family, spec.name, true)
      if (image === undefined) throw nftError(spec, 'Error: nft took the text but made no table')
      check(spec, image)
      return image
    } finally {
      socket.close()
    }
  } finally {
    scratch.close()
  }
}

/** `devices` are those that the text may name, as they are in the real namespace. Errors: NFT or an errno's name, with the line; EOPNOTSUPP for anonymous chains, flowtables and elements in the text. */
export async function compileTable(
  spec: NftTableSpec,
  compiler: NftCompiler,
  devices: readonly Device[],
): Promise<TableImage> {
  if (compiler === 'binary') return compileBy(runBinary, spec, devices)
  let complaint: string | undefined
  let usable = true
  const byLibrary = async (scratch: Netns, commands: string): Promise<string | undefined> => {
    try {
      complaint = scratch.run(() => runLibrary(commands))
      return complaint
    } catch (error) {
      usable = !hasCode(error, 'ENOENT', 'EMFILE')
      throw error
    }
  }
  // Of a wrong text the library does not say where in a buffer; the program does. Or nothing is wrong with the text: the
  // library waits with select(2), which any signal to this process interrupts (SIGCHLD of a child that ends).
  const byProgram = (scratch: Netns, commands: string): Promise<string | undefined> =>
    runBinary(scratch, commands).catch((error: unknown) => {
      if (complaint === undefined) throw error
      return complaint
    })
  try {
    return await compileBy(byLibrary, spec, devices)
  } catch (error) {
    if (usable && complaint === undefined) throw error
    return compileBy(byProgram, spec, devices)
  }
}
