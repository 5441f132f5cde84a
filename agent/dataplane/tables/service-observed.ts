// What observe() of the Services found, in the form of the model: made when somebody looks at it.
import type { Family } from '../../../lib/netlink/types.js'
import type { ServiceEntry, ServiceTarget } from '../../model/service-entry.js'
import { hole, type Id } from './service-codec.js'
import type { ServiceState, Space } from './service-elements.js'
import { type Footprint, flag } from './service-footprint.js'

/** What observe() found, as an entry: the parts that the kernel knows. */
export class ObservedEntry implements ServiceEntry {
  readonly service = ''
  readonly portName = ''
  readonly empty = 'refuse'
  readonly kind: ServiceEntry['kind']
  readonly family: Family
  readonly address: string
  readonly protocol: ServiceEntry['protocol']
  readonly port: number
  private readonly state: ServiceState
  readonly footprint: Footprint

  constructor(state: ServiceState, space: Space, id: Id, footprint: Footprint) {
    const { address, protocol, port } = space.codec.parts(id)
    this.kind = space.np ? 'nodeport' : footprint.flags & flag.externalIp ? 'external' : 'cluster'
    this.family = state.family
    this.address = address
    this.protocol = protocol
    this.port = port
    this.state = state
    this.footprint = footprint
  }

  private list(slots: readonly Id[]): ServiceTarget[] {
    const { target } = this.state.codec
    return slots.flatMap(slot => (slot === hole ? [] : [{ ...target.parts(slot), local: false }]))
  }

  get targets(): readonly ServiceTarget[] {
    return this.list(this.footprint.slots)
  }

  get outside(): readonly ServiceTarget[] | undefined {
    return this.footprint.outside === '' ? undefined : this.list(this.footprint.locals)
  }

  get affinitySeconds(): number {
    return Number(/\d+$/.exec(this.footprint.affinity)?.[0] ?? 0)
  }

  get sourceRanges(): readonly string[] | undefined {
    return this.footprint.flags & flag.restricted ? this.footprint.ranges : undefined
  }
}

/** Elements that fit no entry point, as one object that nobody wants. No entry point has port 0. */
export const strays = (family: Family): ServiceEntry => ({
  service: '',
  portName: '',
  kind: 'cluster',
  family,
  address: `stray ${family}`,
  protocol: 'tcp',
  port: 0,
  targets: [],
  empty: 'refuse',
  outside: undefined,
  affinitySeconds: 0,
  sourceRanges: undefined,
})
