// A namespace's rtnetlink: lists and writes links, addresses, routes, neighbours, FDB entries and rules. Reads and writes
// have a socket each, so that a long dump holds up no write. `ip monitor` shows the writes, `ss -f netlink` the sockets.
import { asError, codeOf, hasCode, WarrenError } from '../errors.js'
import type { Netns } from '../netns/netns.js'
import { decodeAddress, encodeAddressDump } from './codec/address.js'
import { decodeLink, encodeLinkGet } from './codec/link.js'
import { MessageWriter } from './codec/message.js'
import { decodeFdb, decodeNeighbor, encodeNeighborDump } from './codec/neighbor.js'
import { encodeOp } from './codec/op.js'
import { decodeRoute, encodeRouteDump } from './codec/route.js'
import { decodeRule, encodeRuleDump } from './codec/rule.js'
import { AF_BRIDGE, type DeviceNames, familyNumber } from './codec/text.js'
import { failureError, type NetlinkFailure } from './failure.js'
import { formatObject } from './format.js'
import { applyLinkRun, linkRun } from './link-batch.js'
import { deleteLinks, deleteRun, type LinkDelete } from './link-delete.js'
import { resolveNames } from './names.js'
import { NETLINK_ROUTE } from './raw.js'
import { type Decode, type NetlinkSocket, openNetlink } from './socket.js'
import type { Family, Link, ListFilter, ObjectOf, Rtnl, RtnlKind, RtnlObject, RtnlOp } from './types.js'

type Result = WarrenError | undefined

/** A link takes the kernel up to half a millisecond: several go to another thread, so many at a time that others get RTNL, too. */
const LINKS_AT_ONCE = 64
/** Fewer are not worth the way there and back. */
const FEW_LINKS = 8
/** Of everything else, which takes the kernel some microseconds each; it takes RTNL anew for each. */
const FEW = 200
const MANY_AT_ONCE = 1_600

const families: readonly Family[] = ['inet', 'inet6']

function actionOf(op: RtnlOp): string {
  return `${op.verb} ${op.object.kind} "${formatObject(op.object)}"`
}

/** What went wrong before anything was sent (no such device, no address): said about the op. */
function beforeSending(op: RtnlOp, error: unknown): WarrenError {
  const { code, message, hint } = asError(error)
  const cause = code === 'ENODEV' ? 'ENODEV' : `${code} (${message})`
  return new WarrenError(`Cannot ${actionOf(op)}: ${cause}`, {
    code,
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  })
}

class Rtnetlink implements Rtnl {
  private readonly netns: Netns
  private readonly reader: NetlinkSocket
  private readonly writer: NetlinkSocket

  constructor(netns: Netns) {
    this.netns = netns
    this.reader = openNetlink(netns, NETLINK_ROUTE)
    this.writer = openNetlink(netns, NETLINK_ROUTE)
  }

  get portIds(): ReadonlySet<number> {
    return this.writer.portIds
  }

  async list<K extends RtnlKind>(
    kind: K,
    filter: ListFilter = {},
    signal?: AbortSignal,
  ): Promise<readonly ObjectOf<K>[]> {
    const names = resolveNames(this.netns)
    // A device that is not there has nothing on it: no error.
    const index = filter.dev === undefined ? undefined : this.netns.linkIndex(filter.dev)
    if (filter.dev !== undefined && index === undefined && kind !== 'rule') return []
    const found: readonly RtnlObject[] = await this.listKind(kind, filter, names, index, signal)
    return found as readonly ObjectOf<K>[]
  }

  private async listKind(
    kind: RtnlKind,
    filter: ListFilter,
    names: DeviceNames,
    index: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<readonly RtnlObject[]> {
    const out = new MessageWriter(256)
    const wanted = filter.family === undefined ? families : [filter.family]
    const each = async (
      message: (family: Family) => Buffer,
      decode: Decode<RtnlObject>,
    ): Promise<RtnlObject[]> => {
      const lists: RtnlObject[][] = []
      for (const family of wanted) lists.push(await this.dump(message(family), decode, signal))
      return lists.length === 1 ? (lists[0] ?? []) : lists.flat()
    }
    switch (kind) {
      case 'link':
        return this.listLinks(out, filter, names, signal)
      case 'address':
        return each(
          family => encodeAddressDump(out, familyNumber(family), index),
          (data, start, end) => decodeAddress(data, start, end, names, filter, index),
        )
      case 'route':
        return each(
          family => encodeRouteDump(out, family, filter, index),
          (data, start, end) => decodeRoute(data, start, end, names, filter, index),
        )
      case 'neighbor':
        return each(
          family => encodeNeighborDump(out, familyNumber(family), index),
          (data, start, end) => decodeNeighbor(data, start, end, names, filter, index),
        )
      case 'fdb':
        return this.dump(
          encodeNeighborDump(out, AF_BRIDGE, index),
          (data, start, end) => decodeFdb(data, start, end, names, filter, index),
          signal,
        )
      case 'rule':
        return each(
          family => encodeRuleDump(out, family),
          (data, start, end) => decodeRule(data, start, end, filter),
        )
    }
  }

  private async listLinks(
    out: MessageWriter,
    filter: ListFilter,
    names: DeviceNames,
    signal: AbortSignal | undefined,
  ): Promise<readonly Link[]> {
    if (filter.dev === undefined)
      return this.dump(encodeLinkGet(out), (data, start, end) => decodeLink(data, start, end, names), signal)
    try {
      const answers = await this.reader.request(encodeLinkGet(out, filter.dev), signal)
      return answers.flatMap(data => decodeLink(data, 0, data.length, names) ?? [])
    } catch (error) {
      if (hasCode(error, 'ENODEV')) return []
      throw error
    }
  }

  /** A table (ENOENT) or an address family (EOPNOTSUPP, EAFNOSUPPORT) that the kernel does not have is empty. */
  private async dump<T>(message: Buffer, decode: Decode<T>, signal: AbortSignal | undefined): Promise<T[]> {
    try {
      return await this.reader.dump(message, decode, signal)
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'EOPNOTSUPP', 'EAFNOSUPPORT')) return []
      throw error
    }
  }

  async apply(ops: readonly RtnlOp[], signal?: AbortSignal): Promise<readonly Result[]> {
    const results: Result[] = new Array(ops.length).fill(undefined)
    let from = 0
    while (from < ops.length) {
      // Links in runs that do not stand on each other, as what follows may; everything else in bulk.
      let to = linkRun(ops, from)
      const deleted = deleteRun(ops, from)
      if (to > from) {
        await this.applyLinks(ops, from, to, results, signal)
      } else if (deleted > from) {
        to = deleted
        await this.deleteLinks(ops, from, to, results, signal)
      } else {
        const { kind } = (ops[from] as RtnlOp).object
        to += 1
        while (to < ops.length && ops[to]?.object.kind === kind && kind !== 'link') to += 1
        await this.applyBulk(ops, from, to, results, signal)
      }
      from = to
    }
    return results
  }

  private async applyBulk(
    ops: readonly RtnlOp[],
    from: number,
    to: number,
    results: Result[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const all: number[] = []
    for (let i = from; i < to; i += 1) all.push(i)
    const again = await this.send(ops, all, results, signal)
    // The device was made again between our look at its index and the write: one more look.
    if (again.length > 0) await this.send(ops, again, results, signal)
  }

  /** Returns what may succeed with fresh indexes. */
  private async send(
    ops: readonly RtnlOp[],
    indexes: readonly number[],
    results: Result[],
    signal: AbortSignal | undefined,
  ): Promise<number[]> {
    const names = resolveNames(this.netns)
    const out = new MessageWriter(indexes.length * 64)
    const messages: Buffer[] = []
    const sent: number[] = []
    // One window for all the names.
    this.netns.run(() => {
      for (const i of indexes) {
        const op = ops[i] as RtnlOp
        try {
          messages.push(encodeOp(out, op, names))
          sent.push(i)
          results[i] = undefined // of a first try
        } catch (error) {
          results[i] = beforeSending(op, error)
        }
      }
    })
    const aside = messages.length > FEW ? { aside: true, chunk: MANY_AT_ONCE } : {}
    const failures = await this.writer.batch(messages, signal === undefined ? aside : { ...aside, signal })
    const again: number[] = []
    for (let k = 0; k < sent.length; k += 1) {
      const failure = failures[k]
      if (failure === undefined) continue
      const i = sent[k] as number
      const op = ops[i] as RtnlOp
      results[i] = isReplacedRule(op, failure) ? undefined : failureError(actionOf(op), failure)
      if (failure.code === 'ENODEV' && op.object.kind !== 'link' && op.object.kind !== 'rule') again.push(i)
    }
    return again
  }

  private async deleteLinks(
    ops: readonly RtnlOp[],
    from: number,
    to: number,
    results: Result[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const options = signal === undefined ? {} : { signal }
    const gone = await deleteLinks(ops.slice(from, to) as LinkDelete[], messages =>
      this.writer.batch(messages, options),
    )
    gone.forEach((failure, k) => {
      const i = from + k
      results[i] = failure === undefined ? undefined : failureError(actionOf(ops[i] as RtnlOp), failure)
    })
  }

  private applyLinks(
    ops: readonly RtnlOp[],
    from: number,
    to: number,
    results: Result[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const options = { chunk: LINKS_AT_ONCE, ...(signal === undefined ? {} : { signal }) }
    return applyLinkRun(ops, from, to, {
      names: resolveNames(this.netns),
      inside: f => this.netns.run(f),
      send: messages => this.writer.batch(messages, { ...options, aside: messages.length > FEW_LINKS }),
      failed: (i, failure) => {
        results[i] = failureError(actionOf(ops[i] as RtnlOp), failure)
      },
      unsaid: (i, error) => {
        results[i] = beforeSending(ops[i] as RtnlOp, error)
      },
    })
  }

  close(): void {
    this.reader.close()
    this.writer.close()
  }
}

function isReplacedRule(op: RtnlOp, failure: NetlinkFailure | undefined): boolean {
  return failure?.code === 'EEXIST' && op.object.kind === 'rule' && op.verb === 'replace'
}

/** Opens rtnetlink inside `netns`, which must stay open as long. Errors: EPERM. */
export function openRtnl(netns: Netns): Rtnl {
  try {
    return new Rtnetlink(netns)
  } catch (error) {
    throw new WarrenError(`Cannot open rtnetlink in namespace "${netns.label}": ${codeOf(error)}`, {
      code: codeOf(error),
      cause: error,
    })
  }
}
