// One op as the message that says it.
import type { RtnlOp } from '../types.js'
import { encodeAddress } from './address.js'
import { encodeLinkDelete } from './link.js'
import type { MessageWriter } from './message.js'
import { encodeFdb, encodeNeighbor } from './neighbor.js'
import { encodeRoute } from './route.js'
import { encodeRule } from './rule.js'
import type { DeviceNames } from './text.js'

/** The message of an op; of a link that is not deleted, linkChanges() and encodeLinkCreate() know. */
export function encodeOp(out: MessageWriter, op: RtnlOp, names: DeviceNames): Buffer {
  const { verb, object } = op
  switch (object.kind) {
    case 'address':
      return encodeAddress(out, verb, object, names)
    case 'route':
      return encodeRoute(out, verb, object, names)
    case 'neighbor':
      return encodeNeighbor(out, verb, object, names)
    case 'fdb':
      return encodeFdb(out, verb, object, names)
    case 'rule':
      return encodeRule(out, verb, object)
    case 'link':
      return encodeLinkDelete(out, { ...op, object })
  }
}
