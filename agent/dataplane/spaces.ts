// Namespaces of our own (`ip netns list`): the fabric's, one per tenant router. Opened when first needed; a handle whose
// name leads to another namespace meanwhile is dropped, with all that was known of it.
import { fstatSync, readdirSync, statfsSync, statSync } from 'node:fs'
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import type { Conntrack } from '../../lib/conntrack/types.js'
import { hasCode } from '../../lib/errors.js'
import { type RtnlOnce, rtnlOnce, writeOnceAside } from '../../lib/netlink/once.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import type { Link, Rtnl, RtnlOp } from '../../lib/netlink/types.js'
import { createNetns, deleteNetns, ipNetns, type NetnsCommand } from '../../lib/netns/named.js'
import { type Netns, openNetns } from '../../lib/netns/netns.js'
import type { Nft } from '../../lib/nftables/client.js'
import { openNft } from '../../lib/nftables/nft.js'
import { aliasPrefix } from '../model/marks.js'

export interface Space {
  readonly name: string
  readonly netns: Netns
  readonly rtnl: Rtnl
  readonly nft: Nft
  readonly conntrack: Conntrack
  /** Is it the netlink port id of a socket of ours in there? */
  isOurs(portId: number): boolean
  /** Counts up: another namespace of the same name is another space. */
  readonly generation: number
}

export interface Spaces {
  /** Undefined when there is no such namespace now. */
  get(name: string): Space | undefined
  /** Names of ours that are there, in order. What get() gives is known from here on. */
  list(): Promise<readonly string[]>
  /** Would a namespace of that name be ours? */
  isOurs(name: string): boolean
  /** Those that are open: what was looked at in this process's life. */
  readonly open: Iterable<Space>
  /** Errors: EEXIST, also where it is another agent's. */
  create(name: string): Promise<void>
  /** What is open or runs inside keeps it alive, without a name. Errors: ENOENT. */
  remove(name: string): Promise<void>
  close(): void
}

const directory = '/run/netns'
/** NSFS_MAGIC of linux/magic.h: a name whose namespace is gone (a reboot, a crash in the middle) is an empty file. */
const nsfs = 0x6e736673

/** Sockets as they are needed: a router has no use for most of them. */
class OpenSpace implements Space {
  readonly name: string
  readonly netns: Netns
  readonly generation: number
  #rtnl: Rtnl | undefined
  #nft: Nft | undefined
  #conntrack: Conntrack | undefined

  constructor(name: string, netns: Netns, generation: number) {
    this.name = name
    this.netns = netns
    this.generation = generation
  }

  get rtnl(): Rtnl {
    this.#rtnl ??= openRtnl(this.netns)
    return this.#rtnl
  }

  get nft(): Nft {
    this.#nft ??= openNft(this.netns)
    return this.#nft
  }

  get conntrack(): Conntrack {
    this.#conntrack ??= openConntrack(this.netns)
    return this.#conntrack
  }

  isOurs(portId: number): boolean {
    return this.#rtnl?.portIds.has(portId) === true || this.#nft?.portIds.has(portId) === true
  }

  close(): void {
    for (const part of [this.#conntrack, this.#rtnl, this.#nft, this.netns]) part?.close()
  }
}

class HostSpaces implements Spaces {
  readonly #ours: RegExp
  /** Alias of `lo` in each: names are the machine's, but several hosts may live on it, in namespaces of their own. */
  readonly #mark: string
  /** By inode: made for this host? */
  readonly #mine = new Map<number, boolean>()
  readonly #spaces = new Map<string, OpenSpace>()
  readonly #command: NetnsCommand
  #generation = 0

  constructor(prefix: string, host: Netns, command: NetnsCommand) {
    this.#command = command
    this.#mark = `${aliasPrefix}namespace of net:[${fstatSync(host.fd).ino}]`
    this.#ours = new RegExp(`^${prefix}-(fabric|routed|r-[0-9a-f]{10}|s-[0-9]{1,8})$`)
  }

  get open(): Iterable<Space> {
    return this.#spaces.values()
  }

  get(name: string): Space | undefined {
    const known = this.#spaces.get(name)
    const inode = inodeOf(name)
    if (known !== undefined) {
      if (inode === fstatSync(known.netns.fd).ino) return known
      this.#drop(known)
    }
    if (inode === undefined || this.#mine.get(inode) !== true) return undefined
    try {
      const netns = openNetns({ path: `${directory}/${name}` })
      this.#generation += 1
      const space = new OpenSpace(name, netns, this.#generation)
      this.#spaces.set(name, space)
      return space
    } catch (error) {
      // It went between two looks.
      if (hasCode(error, 'ENOENT', 'EINVAL')) return undefined
      throw error
    }
  }

  isOurs(name: string): boolean {
    return this.#ours.test(name)
  }

  async list(): Promise<readonly string[]> {
    const found: string[] = []
    for (const name of readNames()) {
      const inode = this.isOurs(name) ? inodeOf(name) : undefined
      if (inode === undefined) continue
      let mine = this.#mine.get(inode)
      if (mine === undefined) {
        mine = await this.#isMarked(name)
        this.#mine.set(inode, mine)
      }
      if (mine) found.push(name)
    }
    return found.sort()
  }

  async #isMarked(name: string): Promise<boolean> {
    const links = await linksIn(name)
    return links.some(({ name: its, alias }) => its === 'lo' && alias === this.#mark)
  }

  async #isBare(name: string): Promise<boolean> {
    const links = await linksIn(name)
    return links.length === 1 && links[0]?.name === 'lo' && (links[0].alias ?? '') === ''
  }

  async create(name: string): Promise<void> {
    // An empty file of that name: a namespace that did not survive.
    if (inodeOf(name) === undefined && readNames().includes(name)) await deleteNetns(name, this.#command)
    // Left by an agent that was killed before it could mark it: nothing is in it but lo.
    const netns = await createNetns(name, this.#command).catch(async (error: unknown) => {
      if (hasCode(error, 'EEXIST') && (await this.#isBare(name)))
        return openNetns({ path: `${directory}/${name}` })
      throw error
    })
    const rtnl = openRtnl(netns)
    try {
      const lo = { kind: 'link', name: 'lo', info: { kind: 'other', name: '' }, alias: this.#mark } as const
      const [error] = await rtnl.apply([{ verb: 'set', object: lo }])
      if (error !== undefined) throw error
      this.#mine.set(fstatSync(netns.fd).ino, true)
    } finally {
      rtnl.close()
      netns.close()
    }
  }

  async remove(name: string): Promise<void> {
    const known = this.#spaces.get(name)
    if (known !== undefined) this.#drop(known)
    const inode = inodeOf(name)
    await deleteNetns(name, this.#command)
    if (inode !== undefined) this.#mine.delete(inode)
  }

  #drop(space: OpenSpace): void {
    this.#spaces.delete(space.name)
    space.close()
  }

  close(): void {
    for (const space of [...this.#spaces.values()]) this.#drop(space)
  }
}

/** None where there is no such namespace. */
async function linksIn(name: string): Promise<readonly Link[]> {
  try {
    const netns = openNetns({ path: `${directory}/${name}` })
    const rtnl = openRtnl(netns)
    try {
      return await rtnl.list('link')
    } finally {
      rtnl.close()
      netns.close()
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'EINVAL')) return []
    throw error
  }
}

function readNames(): readonly string[] {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

/** A namespace is mounted there (a name that is just being made is an empty file for a moment), or it is /proc/PID/ns/net. */
export function isNamespace(path: string): boolean {
  return inodeAt(path) !== undefined
}

function inodeOf(name: string): number | undefined {
  return inodeAt(`${directory}/${name}`)
}

/** Undefined: no namespace is mounted there. */
function inodeAt(path: string): number | undefined {
  try {
    return statfsSync(path).type === nsfs ? statSync(path).ino : undefined
  } catch {
    return undefined
  }
}

/** Ours by the alias of their `lo`, and by their names: "wrn-fabric", "wrn-routed", "wrn-r-" and ten hex digits (a router), "wrn-s-" and a VNI (DHCP); `prefix` is "wrn". */
export function openSpaces(prefix: string, host: Netns, command: NetnsCommand = ipNetns): Spaces {
  return new HostSpaces(prefix, host, command)
}

/**
 * Runs `f` with rtnetlink inside a namespace that is not ours, for this moment. Undefined: the namespace is not there, or has
 * no link of that name.
 */
export function inContainer<T>({ path, dev }: Device, f: (rtnl: RtnlOnce) => T): T | undefined {
  const netns = container(path)
  try {
    return netns === undefined ? undefined : rtnlOnce(netns, dev, f)
  } catch (error) {
    return notThere(error)
  } finally {
    netns?.close()
  }
}

/** As inContainer() with write(), while this thread goes on. */
export async function writeInContainer(
  { path, dev }: Device,
  ops: readonly RtnlOp[],
  ignored: readonly string[],
): Promise<true | undefined> {
  const netns = container(path)
  try {
    return netns === undefined ? undefined : await writeOnceAside(netns, dev, ops, ignored)
  } catch (error) {
    return notThere(error)
  } finally {
    netns?.close()
  }
}

interface Device {
  readonly path: string
  readonly dev: string
}

function container(path: string): Netns | undefined {
  try {
    return openNetns({ path })
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

/** A path to something else, or to a namespace that went. */
function notThere(error: unknown): undefined {
  if (!hasCode(error, 'EINVAL', 'ENODEV')) throw error
}
