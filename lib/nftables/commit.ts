// Sends a batch (batch.ts) and finds out whom to blame when the kernel refuses it.

import { WarrenError } from '../errors.js'
import type { NetlinkFailure } from '../netlink/failure.js'
import type { NetlinkSocket } from '../netlink/socket.js'
import { type BatchPlace, type ElementBatch, elementAt } from './batch.js'
import { elementText } from './elements.js'
import { transaction } from './message.js'

/** Why nothing was written. */
export interface BatchRefusal {
  /** Whose elements; empty when the transaction as a whole was refused. */
  readonly owners: readonly number[]
  /** The very element, where the kernel named it. */
  readonly place: BatchPlace | undefined
  readonly code: string
  readonly error: WarrenError
}

/** More of them one by one would drown us in answers. */
const singleLimit = 4_000

function refusal(places: readonly BatchPlace[], { code, text }: NetlinkFailure): BatchRefusal {
  const why = text === undefined ? code : `${code} (${text})`
  const [place] = places
  if (place === undefined)
    return { owners: [], place, code, error: new WarrenError(`Cannot write elements: ${why}`, { code }) }
  const { message, index, stream } = place
  const { family, table, set } = stream.set
  const which = index < 0 ? '' : ` { ${elementText(elementAt(place))} }`
  const error = new WarrenError(`Cannot ${stream.verb} element "${family} ${table} ${set}${which}": ${why}`, {
    code,
  })
  if (index < 0) return { owners: message.owners, place: undefined, code, error }
  return { owners: message.owners.slice(index, index + 1), place, code, error }
}

/** One transaction, and when it is refused a second one, in which the suspects stand alone and are named. */
export async function commitBatch(
  socket: NetlinkSocket,
  batch: ElementBatch,
): Promise<readonly BatchRefusal[]> {
  const single = new Set<object>()
  for (;;) {
    const frames = batch.frames(single)
    if (frames.length === 0) return []
    const [begin, end] = transaction([])
    if (begin === undefined || end === undefined) return []
    const results = await socket.batch([begin, ...frames.map(({ frame }) => frame), end], {
      whole: { ackAt: frames.length },
    })
    const failed = frames.flatMap(({ places }, i) => {
      const failure = results[i + 1]
      return failure === undefined ? [] : [{ places, failure }]
    })
    const whole = results[0] ?? results[frames.length + 1]
    if (whole !== undefined) return [refusal([], whole)]
    if (failed.length === 0) return []
    const suspects = failed.flatMap(({ places }) => places).filter(({ index }) => index < 0)
    const count = suspects.reduce((sum, { message }) => sum + message.owners.length, 0)
    if (count === 0 || count > singleLimit || single.size > 0)
      return failed.map(({ places, failure }) => refusal(places, failure))
    for (const { message } of suspects) single.add(message)
  }
}
