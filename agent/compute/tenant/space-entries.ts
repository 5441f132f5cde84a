// What our own namespaces have as a whole, whatever networks and ports are in them: rules, sysctls, sets of elements, and in
// those of gateways the addresses that no tenant reaches from there. Pure.
import type { FabricRouter } from '../../model/fabric.js'
import { bridgeElementSets, bridgeTable } from './bridge-rules.js'
import { fabricSysctls, routerSysctls } from './devices.js'
import type { GroupSet } from './fabric-marks.js'
import type { FabricView } from './fabric-view.js'
import type { TenantMaps, TenantState } from './maps.js'
import { namedGroup } from './member-entries.js'
import { routedSpaceName } from './routed-devices.js'
import { routedTable } from './routed-rules.js'
import { hostElements, routerArpTable, routerElementSets, routerTable } from './router-rules.js'
import { stateElementSets, stateTable } from './state-rules.js'

const base = 'fabric/base'

export function fabricSpace(prefix: string): string {
  return `${prefix}-fabric`
}

export class SpaceEntries {
  readonly #maps: TenantMaps
  readonly #prefix: string
  readonly #fabric: string
  #sets: TenantState['fabricSets'] = new Map()
  #hosts: readonly string[] = []

  constructor(maps: TenantMaps, prefix: string) {
    this.#maps = maps
    this.#prefix = prefix
    this.#fabric = fabricSpace(prefix)
  }

  /** Of each namespace the sets that are ours; another map when anything of it changed. */
  get sets(): TenantState['fabricSets'] {
    return this.#sets
  }

  /** The namespace of bridges and ports, as long as a network is here. `sets`: those of groups that ports here have. */
  fabric(view: FabricView, groupSets: readonly GroupSet[]): void {
    const some = view.networks.size > 0
    const named = [...view.members.keys()].filter(ref => !view.groups.has(ref))
    const rules = { sets: groupSets, groups: [...view.groups.values(), ...named.map(namedGroup)] }
    this.#maps.put(
      'fabric-filter',
      base,
      some ? [bridgeTable(), stateTable(rules)].map(object => ({ space: this.#fabric, object })) : [],
    )
    this.#maps.put('fabric-sysctl', base, some ? fabricSysctls(this.#fabric) : [])
    this.#maps.put('netns', base, some ? [{ name: this.#fabric }] : [])
    const sets = new Map(this.#sets)
    if (some) sets.set(this.#fabric, [...bridgeElementSets, ...stateElementSets(rules)])
    else sets.delete(this.#fabric)
    this.#sets = sets
  }

  /** The namespaces of gateways. `hosts`: the same array as long as they are the same. */
  gateways(view: FabricView, spaces: ReadonlySet<string>, hosts: readonly string[]): void {
    const moved = this.#hosts !== hosts
    this.#hosts = hosts
    const known = [...this.#sets.keys()].filter(name => name !== this.#fabric)
    if (known.length !== spaces.size || !known.every(name => spaces.has(name))) {
      const routers = new Set([...view.routers.values()].map(({ netns }: FabricRouter) => netns))
      const sets = new Map(this.#sets)
      for (const space of new Set([...known, ...spaces])) {
        this.#gateway(space, spaces.has(space), routers.has(space))
        if (spaces.has(space)) sets.set(space, routerElementSets)
        else sets.delete(space)
      }
      this.#sets = sets
    } else if (!moved) return
    for (const space of spaces) this.#guard(space)
  }

  #gateway(space: string, wanted: boolean, router: boolean): void {
    const owner = `space/${space}`
    const routed = space === routedSpaceName(this.#prefix)
    this.#maps.put('netns', owner, wanted ? [{ name: space }] : [])
    this.#maps.put(
      'fabric-filter',
      owner,
      wanted
        ? [routed ? routedTable() : routerTable(), routerArpTable()].map(object => ({ space, object }))
        : [],
    )
    this.#maps.put('fabric-sysctl', owner, wanted ? routerSysctls(space, routed || router) : [])
    if (!wanted) this.#maps.put('fabric-element', owner, [])
  }

  #guard(space: string): void {
    const elements = hostElements(this.#hosts).map(object => ({ space, object }))
    this.#maps.put('fabric-element', `space/${space}`, elements)
  }
}
