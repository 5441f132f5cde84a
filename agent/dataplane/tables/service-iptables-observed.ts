// What observe() of the iptables mode found, in the form of the model: made when somebody looks at it.
import type { IptablesFamily, IptablesVariant } from '../../../lib/iptables/types.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { ServiceFamilyBase } from '../../model/service-base.js'
import type { ServiceEntry, ServiceProtocol, ServiceTarget } from '../../model/service-entry.js'
import type { TableState } from './service-iptables-state.js'

/** Rules of ours that nobody can want: in the variant that the host does not use, or put into our chains by another hand. */
export interface ServiceIptablesStray {
  readonly kind: 'stray'
  readonly variant: IptablesVariant
  readonly family: IptablesFamily
}

const none: readonly never[] = []

const isExternal = (chain: string): boolean => chain.startsWith('X')

/** An entry point by its rules. Nothing of it is known of the Service, or which endpoints are local. */
export class ObservedEntry implements ServiceEntry {
  readonly service = ''
  readonly portName = ''
  readonly kind: ServiceEntry['kind']
  readonly family: Family
  readonly address: string
  readonly protocol: ServiceProtocol
  readonly port: number
  readonly #key: string
  /** Chains with their members, as they were found: never changed, only replaced. */
  readonly #nat: readonly (readonly [string, ReadonlyMap<string, string> | undefined])[]
  readonly #filter: readonly (ReadonlyMap<string, string> | undefined)[]

  constructor(key: string, family: Family, nat: TableState, filter: TableState) {
    const words = key.split(' ')
    const [port = '0', protocol = 'tcp'] = words.reverse()
    const natChains = nat.owned.get(key) ?? none
    const filterChains = filter.owned.get(key) ?? none
    const external = natChains.some(isExternal) || filterChains.some(isExternal)
    this.kind = key.startsWith('nodeport') ? 'nodeport' : external ? 'external' : 'cluster'
    this.family = family
    this.address = this.kind === 'nodeport' ? '' : (words[2] ?? '')
    this.protocol = protocol as ServiceProtocol
    this.port = Number(port)
    this.#key = key
    this.#nat = natChains.map(chain => [chain, nat.members.get(chain)])
    this.#filter = filterChains.map(chain => filter.members.get(chain))
  }

  /** Its rules in table nat: of each chain, joined by line breaks. */
  get #rules(): readonly (readonly [string, string])[] {
    return this.#nat.map(([chain, members]) => [chain, members?.get(this.#key) ?? ''])
  }

  #targets(chains: RegExp): readonly ServiceTarget[] {
    const found = new Map<string, ServiceTarget>()
    for (const [chain, text] of this.#rules) {
      if (!chains.test(chain)) continue
      for (const [, to = ''] of text.matchAll(/--to-destination (\S+)/g)) {
        const at = to.lastIndexOf(':')
        const address = to.slice(0, at).replace(/[[\]]/g, '')
        found.set(to, { address, port: Number(to.slice(at + 1)), local: false })
      }
    }
    return [...found.values()]
  }

  get targets(): readonly ServiceTarget[] {
    return this.#targets(/^(?:C|X|N|E[a-z2-7]{10})(?:-|$)/)
  }

  get outside(): readonly ServiceTarget[] | undefined {
    const restricted = this.#nat.some(([chain]) => /^(?:XO|NO)-/.test(chain))
    return restricted ? this.#targets(/^(?:XO|NO|O[a-z2-7]{10})(?:-|$)/) : undefined
  }

  get empty(): ServiceEntry['empty'] {
    const drops = this.#filter.some(members => / -j DROP$/m.test(members?.get(this.#key) ?? ''))
    return drops ? 'drop' : 'refuse'
  }

  get affinitySeconds(): number {
    for (const [, text] of this.#rules) {
      const seconds = / --update --seconds (\d+) /.exec(text)?.[1]
      if (seconds !== undefined) return Number(seconds)
    }
    return 0
  }

  get sourceRanges(): readonly string[] | undefined {
    for (const [, text] of this.#rules)
      if (/ -j ACCEPT$/m.test(text) && / -g \S+[EO][a-z2-7]{10}$/m.test(text))
        return [...text.matchAll(/^-s (\S+) /gm)].map(([, range = '']) => range)
    return undefined
  }
}

/** That a base is there; what it says is compared by its rules. */
export function observedBase(family: Family): ServiceFamilyBase {
  return { kind: 'base', family, serviceCidrs: none, localPods: none, nodePortAddresses: undefined }
}
