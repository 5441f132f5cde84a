// What the proxy's thread knows of one listener: whose turn it is, who is let in, what happened.
import { addressBytes } from '../net/address.js'
import type { Origins, RawEndpoint } from './origin.js'
import { Rotation, same } from './rotation.js'
import { type Endpoint, sockaddr } from './sockaddr.js'
import { counter, type Limits, type ListenerSpec } from './types.js'

export interface Target extends Endpoint {
  readonly sockaddr: Buffer
}

function compile(endpoints: readonly Endpoint[]): readonly Target[] {
  return endpoints.map(endpoint => ({ ...endpoint, sockaddr: sockaddr(endpoint) }))
}

export class ListenerState {
  spec: ListenerSpec
  /** The local port. */
  readonly port: number
  readonly inet6: boolean
  readonly limits: Limits
  readonly counters: Float64Array
  readonly #origins: Origins
  readonly #targets: Rotation<Target>
  #outside: Rotation<Target> | undefined
  #address: Uint8Array | undefined

  constructor(
    { spec, port, counters }: { spec: ListenerSpec; port: number; counters: Float64Array },
    origins: Origins,
    limits: Limits,
  ) {
    this.spec = spec
    this.port = port
    this.inet6 = spec.family === 'inet6'
    this.counters = counters
    this.limits = limits
    this.#origins = origins
    this.#targets = this.#rotation([])
    this.update(spec)
  }

  update(spec: ListenerSpec): void {
    this.spec = spec
    const { dialled, affinityMs } = spec
    this.#address = dialled?.address === undefined ? undefined : addressBytes(dialled.address)
    this.#targets.update(compile(spec.targets), affinityMs)
    if (spec.outside === undefined) this.#outside = undefined
    else {
      this.#outside ??= this.#rotation([])
      this.#outside.update(compile(spec.outside), affinityMs)
    }
  }

  #rotation(targets: readonly Target[]): Rotation<Target> {
    return new Rotation(targets, { affinityMs: this.spec.affinityMs, clients: this.limits.clients })
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
