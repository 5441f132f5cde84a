// Members of the groups that rules on this host name, as elements: one group per address, so that one member more costs one;
// prefixes of allowed pairs may overlap, and stand together.
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement } from '../../../lib/nftables/types.js'
import { diffMaps, type PersistentMap } from '../../../lib/persistent/map.js'
import type { FabricGroup, InSpace } from '../../model/fabric.js'
import type { FabricView } from './fabric-view.js'
import { type GroupMembers, groupName } from './groups.js'
import { isHostPrefix } from './port-identities.js'
import { memberElements, memberSets } from './state-rules.js'

type Elements = PersistentMap<readonly InSpace<NftElement>[]>

const families = ['inet', 'inet6'] as const

/** A group that rules name, whose own rules are of no matter here. */
export function namedGroup(ref: string): FabricGroup {
  return { ref, name: groupName(ref), rules: [] }
}

export class MemberEntries {
  readonly #space: string
  #members: ReadonlyMap<string, GroupMembers> = new Map()

  constructor(space: string) {
    this.#space = space
  }

  /** The elements with those of the members that changed; all others are the same groups. */
  update(elements: Elements, view: Pick<FabricView, 'members'>): Elements {
    let map = elements
    diffMaps(this.#members, view.members, (ref, after, before) => {
      map = this.#group(map, namedGroup(ref), after, before)
    })
    this.#members = view.members
    return map
  }

  #group(
    elements: Elements,
    group: FabricGroup,
    after: GroupMembers | undefined,
    before: GroupMembers | undefined,
  ): Elements {
    let map = elements
    const sets = memberSets(group)
    const inSpace = (object: NftElement): InSpace<NftElement> => ({ space: this.#space, object })
    for (const family of families) {
      let prefixes = false
      diffMaps(before?.[family] ?? new Map(), after?.[family] ?? new Map(), (text, now) => {
        if (!isHostPrefix(text)) {
          prefixes = true
          return
        }
        const set = family === 'inet' ? sets.hosts4 : sets.hosts6
        map = map.with(
          `member/${group.ref}/${text}`,
          now === undefined ? undefined : [inSpace(nftElement(set, [text.split('/')[0] ?? text]))],
        )
      })
      if (!prefixes) continue
      const all = [...(after?.[family].keys() ?? [])].filter(text => !isHostPrefix(text))
      map = map.with(
        `member/${group.ref}/prefixes ${family}`,
        all.length === 0 ? undefined : memberElements(group, all).map(inSpace),
      )
    }
    return map
  }
}
