// Labels of connections, by which clients stick to endpoints: one for all entry points of a Service's port. The last bit
// tells of a cluster IP with internalTrafficPolicy Local, the one before it is for keys
// (agent/compute/services/raw-rules.ts).
import { createHash } from 'node:crypto'
import { isInsideLocal, type ServiceEntry } from '../../model/service-entry.js'
import { type Id, labelCodec } from './service-codec.js'

const last = labelCodec.size - 1
/** Of entries: a digest takes its time. */
const known = new WeakMap<ServiceEntry, Id>()

export function labelOf(entry: ServiceEntry): Id {
  let label = known.get(entry)
  if (label === undefined) {
    const { service, portName, protocol } = entry
    const bytes = createHash('sha256').update(`${service} ${portName} ${protocol}`).digest()
    bytes[last] = ((bytes[last] ?? 0) & 0xfc) | Number(isInsideLocal(entry))
    label = labelCodec.read(bytes, 0)
    known.set(entry, label)
  }
  return label
}
