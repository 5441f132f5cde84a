// Many links deleted at once: one by one the kernel waits for its readers after each (20 ms and more, while nobody else can
// change a link), so they are put into a group of their own first, and the group is deleted; `ip link delete group N`.
import { encodeGroupDelete, encodeLinkDelete, encodeLinkGroup } from './codec/link.js'
import { MessageWriter } from './codec/message.js'
import type { NetlinkFailure } from './failure.js'
import type { Link, RtnlOp } from './types.js'

/** Fewer are deleted one by one. */
const fewest = 8
/** Links of one group: some 50 ms in which the event loop stands still, and so does rtnetlink in all namespaces. */
const most = 128

export type LinkDelete = RtnlOp & { readonly object: Link }
type Send = (messages: readonly Buffer[]) => Promise<readonly (NetlinkFailure | undefined)[]>

/** The end of the run of deletions from `from` on; `from` when there are too few. */
export function deleteRun(ops: readonly RtnlOp[], from: number): number {
  let to = from
  while (ops[to]?.verb === 'delete' && ops[to]?.object.kind === 'link') to += 1
  return to - from < fewest ? from : to
}

/** A result per op: one that is not there is ENODEV, as when deleted alone. */
export async function deleteLinks(
  ops: readonly LinkDelete[],
  send: Send,
): Promise<readonly (NetlinkFailure | undefined)[]> {
  const results: (NetlinkFailure | undefined)[] = []
  for (let from = 0; from < ops.length; from += most)
    results.push(...(await deleteGroup(ops.slice(from, from + most), send)))
  return results
}

async function deleteGroup(
  ops: readonly LinkDelete[],
  send: Send,
): Promise<readonly (NetlinkFailure | undefined)[]> {
  const out = new MessageWriter(ops.length * 64)
  // Nobody else's, so that nothing of theirs goes along.
  const group = 1 + Math.floor(Math.random() * 0x7fff_fffe)
  const results = [...(await send(ops.map(op => encodeLinkGroup(out, op.object.name, group))))]
  if (results.every(failure => failure !== undefined)) return results
  const [refused] = await send([encodeGroupDelete(out, group)])
  if (refused === undefined) return results
  // One of them cannot be deleted (it is no virtual device): each by itself, and that one stays as it was.
  for (const [i, op] of ops.entries()) {
    if (results[i] !== undefined) continue
    const [failure] = await send([encodeLinkDelete(out, op)])
    if (failure !== undefined) await send([encodeLinkGroup(out, op.object.name, 0)])
    results[i] = failure
  }
  return results
}
