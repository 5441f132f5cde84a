// Many links at once: all are made in one message each, then each gets its changes in turn, the first of all before the
// second of any. A link's own messages still wait for each other: what one refuses ends that link's.
import { encodeLinkCreate, linkChanges } from './codec/link.js'
import { MessageWriter } from './codec/message.js'
import type { DeviceNames } from './codec/text.js'
import type { NetlinkFailure } from './failure.js'
import type { Link, RtnlOp } from './types.js'

type LinkOp = RtnlOp & { readonly object: Link }

function isWrite(op: RtnlOp | undefined): op is LinkOp {
  return op?.object.kind === 'link' && op.verb !== 'delete'
}

/** Names that come to be here, or mean another link, by the op; a peer in another namespace has no name here. */
function namesOf({ object, rename }: LinkOp): readonly string[] {
  const made = object.info.kind === 'veth' ? object.info.peer : undefined
  const peer = made?.netnsFd === undefined ? made : undefined
  return [object.name, ...(rename === undefined ? [] : [rename]), ...(peer === undefined ? [] : [peer.name])]
}

/** Names of others that have to be there first. */
function needsOf({ object }: LinkOp): readonly string[] {
  const { master, info } = object
  return [
    ...(master === undefined || master === '' ? [] : [master]),
    ...(info.kind === 'macvlan' ? [info.link] : []),
  ]
}

/** The end of the run of link writes from `from` on that stand on none of each other; `from` when there is none. */
export function linkRun(ops: readonly RtnlOp[], from: number): number {
  const named = new Set<string>()
  let to = from
  for (let op = ops[to]; isWrite(op); op = ops[to]) {
    const own = namesOf(op)
    if ([...own, ...needsOf(op)].some(name => named.has(name))) break
    for (const name of own) named.add(name)
    to += 1
  }
  return to
}

export interface LinkRunIo {
  readonly names: DeviceNames
  /** Runs a synchronous part inside the namespace: many names are looked up in it. */
  inside<T>(f: () => T): T
  send(messages: readonly Buffer[]): Promise<readonly (NetlinkFailure | undefined)[]>
  /** The kernel refused a message of the op. */
  failed(i: number, failure: NetlinkFailure): void
  /** It could not even be said. */
  unsaid(i: number, error: unknown): void
}

/** Writes `ops[from..to)`, a run of link writes as linkRun() found it. */
export async function applyLinkRun(
  ops: readonly RtnlOp[],
  from: number,
  to: number,
  io: LinkRunIo,
): Promise<void> {
  const { names } = io
  const out = new MessageWriter((to - from) * 256)
  /** Made by us, or by an earlier one that `replace` takes over; what is not in here is over. */
  const created = new Map<number, boolean>()
  const births: number[] = []
  const messages: Buffer[] = []
  io.inside(() => {
    for (let i = from; i < to; i += 1) {
      const op = ops[i] as LinkOp
      const { object } = op
      try {
        // Before anything is made.
        if (object.master !== undefined && object.master !== '') names.indexOf(object.master)
        if (op.verb === 'set') created.set(i, false)
        else {
          messages.push(encodeLinkCreate(out, object, names))
          births.push(i)
        }
      } catch (error) {
        io.unsaid(i, error)
      }
    }
  })
  const made = await io.send(messages)
  births.forEach((i, k) => {
    const failure = made[k]
    if (failure === undefined) created.set(i, true)
    else if (ops[i]?.verb === 'replace' && failure.code === 'EEXIST') created.set(i, false)
    else io.failed(i, failure)
  })
  const changes = new Map<number, readonly Buffer[]>()
  io.inside(() => {
    for (const [i, isNew] of [...created].sort(([a], [b]) => a - b)) {
      const { object, rename } = ops[i] as LinkOp
      try {
        changes.set(i, linkChanges(out, object, names, isNew, rename))
      } catch (error) {
        io.unsaid(i, error)
      }
    }
  })
  for (let turn = 0; changes.size > 0; turn += 1) {
    for (const [i, all] of changes) if (turn >= all.length) changes.delete(i)
    const said = [...changes]
    const answers = await io.send(said.map(([, all]) => all[turn] as Buffer))
    said.forEach(([i], k) => {
      const failure = answers[k]
      if (failure === undefined) return
      changes.delete(i)
      io.failed(i, failure)
    })
  }
}
