// What the proxy's thread knows of one listener: whose turn it is, who is let in, what happened.
import { addressBytes } from '../net/address.js'
import type { ClientList, Clients, ClientTables } from './clients.js'
import type { Origins, RawEndpoint } from './origin.js'
import { type AffinityOptions, Rotation, same } from './rotation.js'
import { type Endpoint, sockaddr } from './sockaddr.js'
import { counter, type Limits, type ListenerSpec } from './types.js'

export interface Target extends Endpoint {
  readonly sockaddr: Buffer
}

function compile(endpoints: readonly Endpoint[]): readonly Target[] {
  return endpoints.map(endpoint => ({ ...endpoint, sockaddr: sockaddr(endpoint) }))
}

const nameOf = ({ affinityName, key }: ListenerSpec): string => affinityName ?? key

export class ListenerState {
  spec: ListenerSpec
  /** The local port. */
  readonly port: number
  readonly inet6: boolean
  readonly limits: Limits
  readonly counters: Float64Array
  readonly #origins: Origins
  readonly #tables: ClientTables
  #clients: { readonly name: string; readonly table: Clients }
  readonly #targets: Rotation<Target>
  #outside: Rotation<Target> | undefined
  #address: Uint8Array | undefined

  constructor(
    { spec, port, counters }: { spec: ListenerSpec; port: number; counters: Float64Array },
    origins: Origins,
    limits: Limits,
    tables: ClientTables,
  ) {
    this.spec = spec
    this.port = port
    this.inet6 = spec.family === 'inet6'
    this.counters = counters
    this.limits = limits
    this.#origins = origins
    this.#tables = tables
    this.#clients = this.#table(spec)
    this.#targets = new Rotation<Target>([], this.#affinity(spec, 'all'))
    this.update(spec)
  }

  update(spec: ListenerSpec): void {
    this.spec = spec
    const { dialled } = spec
    if (this.#clients.name !== nameOf(spec)) {
      this.release()
      this.#clients = this.#table(spec)
    }
    this.#address = dialled?.address === undefined ? undefined : addressBytes(dialled.address)
    this.#targets.update(compile(spec.targets), this.#affinity(spec, spec.here ? 'here' : 'all'))
    if (spec.outside === undefined) this.#outside = undefined
    else {
      const affinity = this.#affinity(spec, 'here')
      this.#outside ??= new Rotation<Target>([], affinity)
      this.#outside.update(compile(spec.outside), affinity)
    }
  }

  #table(spec: ListenerSpec): { readonly name: string; readonly table: Clients } {
    const name = nameOf(spec)
    return { name, table: this.#tables.take(name) }
  }

  #affinity({ affinityMs }: ListenerSpec, list: ClientList): AffinityOptions {
    return { affinityMs, clients: this.#clients.table, list }
  }

  /** Nobody is let in any more. */
  release(): void {
    this.#tables.release(this.#clients.name)
  }

  /** Is it still there for anybody, if only for those who are with it? */
  has(target: Endpoint): boolean {
    return (
      this.#targets.has(target) ||
      this.#outside?.has(target) === true ||
      this.spec.lingering?.some(each => same(each, target)) === true
    )
  }

  /** The list that a client is served from. */
  rotationFor(client: Uint8Array): Rotation<Target> {
    if (this.#outside === undefined || this.#origins.isInside(client)) return this.#targets
    return this.#outside
  }

  admitsConnection(fd: number): boolean {
    return this.spec.dialled === undefined || this.#fits(this.#origins.ofConnection(fd, this.inet6))
  }

  admitsDatagram(local: RawEndpoint, client: RawEndpoint): boolean {
    return this.spec.dialled === undefined || this.#fits(this.#origins.ofDatagram(local, client))
  }

  #fits(dialled: RawEndpoint | undefined): boolean {
    if (dialled === undefined || dialled.port !== this.spec.dialled?.port) return false
    return this.#address === undefined || Buffer.compare(this.#address, dialled.address) === 0
  }

  count(what: keyof typeof counter, by = 1): void {
    this.counters[counter[what]] = (this.counters[counter[what]] as number) + by
  }
}
