// Links in our own namespaces, all of them ours: bridges, VXLAN devices whose sockets stay in the host namespace, veths to
// routers and containers, taps of VMs; `ip -n wrn-fabric -d link show`.
import { asError, hasCode, WarrenError } from '../../../lib/errors.js'
import { formatOp } from '../../../lib/netlink/format.js'
import type { Link, LinkInfo, Rtnl } from '../../../lib/netlink/types.js'
import type { Netns } from '../../../lib/netns/netns.js'
import { createTap } from '../../../lib/netns/tap.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import type { FabricLink } from '../../model/desired.js'
import { aliasPrefix } from '../../model/marks.js'
import type { PluggedEnd } from '../links-first.js'
import type { Space, Spaces } from '../spaces.js'
import { changes, equalLink, sameKind } from './fabric-link-changes.js'
import { LinkDraft } from './fabric-link-draft.js'
import { openContainer, ownNamespace, peerInfo, peerRefused } from './fabric-link-peer.js'

export interface FabricLinkOptions {
  /** The host's namespace. */
  readonly host: { readonly netns: Netns; readonly rtnl: Rtnl }
  readonly spaces: Spaces
  /** Called with an end that was just made in a container, before its link goes up, where many are made. Never rejected. */
  readonly plugged?: (end: PluggedEnd) => Promise<void>
}

/**
 * So many ports go up when their containers are set up. Of fewer each container gets its address last: what is sent as soon as
 * there is one is not lost, which by ARP would cost a second.
 */
const manyLinks = 64

/** On the alias of a tap that somebody else made: it goes back under its name. */
const borrowed = 'borrowed'

function isBorrowed({ alias }: Link): boolean {
  return alias === `${aliasPrefix}${borrowed}`
}

function plain({ peer: _peer, tap: _tap, moves: _moves, port: _port, ...link }: FabricLink): Link {
  return link
}

const rank: Readonly<Record<string, number>> = { bridge: 0, vxlan: 1 }

/** A bridge before its ports, those of one bridge together; of what goes, the ports before it. */
function inOrder(ops: readonly TableOp<FabricLink>[]): (readonly [number, TableOp<FabricLink>])[] {
  const place = (op: TableOp<FabricLink>): number =>
    op.verb === 'remove' ? -(rank[op.observed.info.kind] ?? 2) : (rank[op.desired.info.kind] ?? 2)
  const bridge = (op: TableOp<FabricLink>): string => (op.verb === 'remove' ? '' : (op.desired.master ?? ''))
  const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
  return [...ops.entries()].sort(([, a], [, b]) => place(a) - place(b) || compare(bridge(a), bridge(b)))
}

class FabricLinks implements Table<FabricLink> {
  readonly name = 'fabric-link'
  readonly key = ({ name }: FabricLink): string => name
  readonly equal = equalLink
  readonly #options: FabricLinkOptions
  readonly #space: Space | undefined

  constructor(options: FabricLinkOptions, space: Space | undefined) {
    this.#options = options
    this.#space = space
  }

  async observe(signal: AbortSignal): Promise<readonly FabricLink[]> {
    if (this.#space === undefined) return []
    const links = await this.#space.rtnl.list('link', {}, signal)
    const found: FabricLink[] = []
    for (const link of links) {
      if (link.loopback === true) continue
      // A VM's own tap, where we have one of that name that we made: that one takes its place.
      const replaced =
        link.info.kind === 'tun' && !isBorrowed(link) && (await this.#hostTap(link.name, signal))
      found.push(replaced ? { ...link, info: { kind: 'other', name: "tun, not the VM's" } } : link)
    }
    return found
  }

  async #hostTap(name: string, signal: AbortSignal): Promise<boolean> {
    const { host } = this.#options
    if (host.netns.linkIndex(name) === undefined) return false
    const [there] = await host.rtnl.list('link', { dev: name }, signal).catch(() => [])
    return there?.info.kind === 'tun'
  }

  async apply(ops: readonly TableOp<FabricLink>[], signal: AbortSignal): Promise<readonly OpResult[]> {
    const results: OpResult[] = new Array(ops.length).fill(undefined)
    const space = this.#space
    if (space === undefined) return results
    const draft = new LinkDraft({
      space,
      host: this.#options.host.rtnl,
      signal,
      plugged: ops.length < manyLinks ? undefined : this.#options.plugged,
      failed(i, error) {
        const op = ops[i]
        if (op?.verb === 'remove' && hasCode(error, 'ENODEV')) return
        results[i] ??= op?.verb === 'remove' || op === undefined ? error : peerRefused(op.desired, error)
      },
    })
    try {
      for (const [i, op] of inOrder(ops)) {
        try {
          if (op.verb === 'remove') await this.#unmake(space, i, op.observed, draft)
          else if (op.verb === 'add') await this.#make(space, i, op.desired, draft)
          else if (sameKind(op.desired, op.observed))
            draft.say(i, { verb: 'set', object: changes(op.desired, op.observed) })
          else {
            draft.say(i, { verb: 'delete', object: plain(op.observed) })
            await draft.flush()
            await this.#make(space, i, op.desired, draft)
          }
        } catch (error) {
          results[i] = asError(error)
        }
      }
    } finally {
      await draft.close()
    }
    return results
  }

  async #make(space: Space, i: number, link: FabricLink, draft: LinkDraft): Promise<void> {
    const bare = plain(link)
    const port = link.port === undefined ? {} : { port: link.port }
    if (link.info.kind === 'vxlan') {
      const { address: _address, mtu: _mtu, ...rest } = bare
      await draft.born(false)
      draft.bear(i, born(bare, space.netns.fd), {
        ...draft.without(rest),
        ...port,
        info: { kind: 'other', name: 'vxlan' },
      })
    } else if (link.info.kind === 'veth' && link.peer === undefined) {
      // It came with its other end.
      if (link.moves) await this.#fetch(space, link.name, draft)
      const there = (await draft.links()).get(link.name)
      if (there === undefined)
        throw new WarrenError(`Cannot set up link "${link.name}": its other end is not there yet`, {
          code: 'ENODEV',
        })
      draft.say(i, { verb: 'set', object: changes(link, there) })
    } else if (link.tap !== undefined) {
      await draft.flush()
      await this.#takeTap(space, link, draft.signal)
      draft.say(i, { verb: 'set', object: { ...bare, ...port, info: { kind: 'other', name: 'tun' } } })
    } else {
      const { peer } = link
      // Nothing that is plugged into a bridge has IPv6 here (its sysctl says so, too).
      await draft.born(peer === undefined)
      const whole = { ...draft.without(bare), ...port }
      if (peer === undefined) draft.say(i, { verb: 'add', object: whole })
      else if (peer.space !== undefined) {
        const info = peerInfo(peer, ownNamespace(link, peer.space, this.#options.spaces))
        draft.say(i, { verb: 'add', object: { ...whole, info } })
      } else {
        await draft.room()
        const netns = openContainer(link, peer)
        draft.plug(
          i,
          { ...whole, info: peerInfo(peer, netns) },
          { path: peer.path ?? '', dev: peer.name, netns },
        )
      }
    }
  }

  /** The other end of a host's veth moves here, where it has not yet. */
  async #fetch(space: Space, name: string, draft: LinkDraft): Promise<void> {
    if ((await draft.links()).has(name)) return
    const { host } = this.#options
    const info = { kind: 'other', name: 'veth' } as const
    const moved: Link = { kind: 'link', name, info, netnsFd: space.netns.fd }
    const [error] = await host.rtnl.apply([{ verb: 'set', object: moved }], draft.signal)
    if (error !== undefined) throw error
    draft.forget()
  }

  /** A tap of the host's namespace moves here; without one we make it. */
  async #takeTap(space: Space, { name }: FabricLink, signal: AbortSignal): Promise<void> {
    const { host } = this.#options
    const found = (await host.rtnl.list('link', { dev: name }, signal).catch(() => []))[0]
    if (found === undefined) {
      createTap(space.netns, name)
      return
    }
    if (found.info.kind !== 'tun')
      throw new WarrenError(`Cannot take "${name}" as a tap: it is a ${kindName(found.info)}`, {
        code: 'NOT_TAP',
        hint: 'give the port the name of a tap, or of nothing that is there',
      })
    const bare: Link = { kind: 'link', name, info: { kind: 'other', name: 'tun' } }
    const answers = await host.rtnl.apply(
      [
        { verb: 'set', object: { ...bare, alias: `${aliasPrefix}${borrowed}` } },
        { verb: 'set', object: { ...bare, netnsFd: space.netns.fd } },
      ],
      signal,
    )
    const error = answers.find(answer => answer !== undefined)
    if (error !== undefined) throw error
  }

  async #unmake(space: Space, i: number, link: FabricLink, draft: LinkDraft): Promise<void> {
    // What was written says nothing of where it came from: the kernel does.
    const there =
      link.info.kind === 'tun'
        ? (await space.rtnl.list('link', { dev: link.name }, draft.signal).catch(() => []))[0]
        : undefined
    if (there === undefined || !isBorrowed(there)) {
      draft.say(i, { verb: 'delete', object: plain(link) })
      return
    }
    const { host } = this.#options
    const bare: Link = { kind: 'link', name: link.name, info: { kind: 'other', name: 'tun' } }
    draft.say(i, { verb: 'set', object: { ...bare, up: false, master: '' } })
    draft.say(i, { verb: 'set', object: { ...bare, netnsFd: host.netns.fd } })
    await draft.flush()
    await host.rtnl.apply([{ verb: 'set', object: { ...bare, alias: '' } }], draft.signal)
  }

  format(op: TableOp<FabricLink>): string {
    if (op.verb === 'remove') return formatOp({ verb: 'delete', object: plain(op.observed) })
    const { desired } = op
    if (op.verb === 'change' && sameKind(desired, op.observed))
      return formatOp({ verb: 'set', object: changes(desired, op.observed) })
    const port = desired.port === undefined ? {} : { port: desired.port }
    if (desired.tap !== undefined || (desired.info.kind === 'veth' && desired.peer === undefined))
      return formatOp({
        verb: 'set',
        object: { ...plain(desired), ...port, info: { kind: 'other', name: '' } },
      })
    const { peer } = desired
    const line = formatOp({
      verb: 'add',
      object: {
        ...plain(desired),
        ...port,
        ...(peer === undefined
          ? {}
          : { info: { kind: 'veth', peer: { name: peer.name, address: peer.mac, mtu: peer.mtu } } }),
      },
    })
    return peer === undefined
      ? line
      : line.replace(` name ${peer.name}`, ` name ${peer.name} netns ${peer.space ?? peer.path}`)
  }
}

/** What a link is born with where it comes from; all else is said where it is. */
function born({ kind, name, info, address, mtu }: Link, netnsFd: number): Link {
  return {
    kind,
    name,
    info,
    netnsFd,
    ...(address === undefined ? {} : { address }),
    ...(mtu === undefined ? {} : { mtu }),
  }
}

function kindName(info: LinkInfo): string {
  return info.kind === 'other' ? info.name || 'hardware device' : info.kind
}

export function fabricLinkTable(options: FabricLinkOptions, space: Space | undefined): Table<FabricLink> {
  const table = new FabricLinks(options, space)
  return {
    name: table.name,
    key: table.key,
    equal: table.equal,
    observe: signal => table.observe(signal),
    apply: (ops, signal) => table.apply(ops, signal),
    format: op => table.format(op),
  }
}
