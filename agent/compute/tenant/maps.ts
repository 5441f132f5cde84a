// The groups of tenants' objects by table: a group that says the same is the same value.
import type { NftElement } from '../../../lib/nftables/types.js'
import { PersistentMap } from '../../../lib/persistent/map.js'
import type { DesiredState } from '../../model/desired.js'
import type { InSpace } from '../../model/fabric.js'
import type { TenantObjects } from './devices.js'

/** The fields of DesiredState that are made here. */
export type TenantState = Pick<
  DesiredState,
  | 'netns'
  | 'fabric-sysctl'
  | 'fabric-filter'
  | 'fabric-element'
  | 'fabric-link'
  | 'fabric-address'
  | 'fabric-neighbor'
  | 'fabric-fdb'
  | 'fabric-route'
  | 'guest'
  | 'dhcp'
> & { readonly fabricSets: NonNullable<DesiredState['fabricSets']> }

export type Maps = { -readonly [K in Exclude<keyof TenantState, 'fabricSets'>]: TenantState[K] }
type Group<K extends keyof Maps> = Maps[K] extends ReadonlyMap<string, infer V> ? V : never

function emptyMaps(): Maps {
  const none = <V>(): PersistentMap<V> => PersistentMap.empty()
  return {
    netns: none(),
    'fabric-sysctl': none(),
    'fabric-filter': none(),
    'fabric-element': none(),
    'fabric-link': none(),
    'fabric-address': none(),
    'fabric-neighbor': none(),
    'fabric-fdb': none(),
    'fabric-route': none(),
    guest: none(),
    dhcp: none(),
  }
}

export class TenantMaps {
  readonly #all = emptyMaps()

  get all(): Readonly<Maps> {
    return this.#all
  }

  get elements(): PersistentMap<readonly InSpace<NftElement>[]> {
    return this.#all['fabric-element'] as PersistentMap<readonly InSpace<NftElement>[]>
  }

  setElements(elements: PersistentMap<readonly InSpace<NftElement>[]>): void {
    this.#all['fabric-element'] = elements
  }

  put<K extends keyof Maps>(name: K, owner: string, group: Group<K> | readonly []): void {
    const map = this.#all[name] as unknown as PersistentMap<readonly unknown[]>
    const value = group as readonly unknown[]
    const known = map.get(owner)
    if (known !== undefined && JSON.stringify(known) === JSON.stringify(value)) return
    this.#all[name] = map.with(owner, value.length === 0 ? undefined : value) as unknown as Maps[K]
  }

  objects(owner: string, objects: TenantObjects | undefined): void {
    this.put('fabric-link', owner, objects?.link ?? [])
    this.put('fabric-sysctl', owner, objects?.sysctl ?? [])
    this.put('fabric-address', owner, objects?.address ?? [])
    this.put('fabric-neighbor', owner, objects?.neighbor ?? [])
    this.put('fabric-fdb', owner, objects?.fdb ?? [])
    this.put('fabric-route', owner, objects?.route ?? [])
  }
}
