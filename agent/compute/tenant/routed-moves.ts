// A port of a routed network that was given to another host stays where it was until BGP tells that the other one has it:
// announced at the new place before it is withdrawn at the old, and meanwhile the old one delivers. What it announces of such
// a port is worth less (leavingPref), so that a reflector hands on the other's word. Pure but for what was here.
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'
import { noBgpFacts } from '../../model/bgp-facts.js'
import type { BgpState } from '../../model/bgp-state.js'
import type { Port } from '../../model/port.js'
import { createRoutedPorts, isRouted } from '../../model/routed.js'
import type { Self } from '../../model/self.js'
import type { Snapshot } from '../../model/snapshot.js'
import { networkOf } from '../../model/tenant-plan.js'
import { canKnow, isFrom } from '../bgp/rib.js'

export interface Moves {
  /** With ports that are leaving as they were, here. */
  readonly snapshot: Snapshot
  /** Their addresses, as host prefixes; the same value as long as they are the same. */
  readonly leaving: readonly string[]
}

const nothing: readonly string[] = []

export function createMoves(): (snapshot: Snapshot, self: Self, state: BgpState | undefined) => Moves {
  const addresses = createRoutedPorts()
  /** As they were here, by name. */
  const left = new Map<string, Port>()
  let ports: Snapshot['ports'] = new Map()
  let leaving = nothing
  let last:
    | { readonly ports: Snapshot['ports']; readonly text: string; readonly kept: Snapshot['ports'] }
    | undefined

  /** Host prefixes of a port that is to stay for now; none: it goes. */
  function staying(name: string, snapshot: Snapshot, self: Self, state: BgpState | undefined): string[] {
    const port = snapshot.ports.get(name)
    const node = snapshot.nodes.get(port?.spec.node ?? '')
    const facts = self.bgp ?? noBgpFacts
    if (port?.spec.device === undefined || port.spec.adminState !== 'up' || state === undefined) return []
    if (node === undefined || node.metadata.name === self.node || !canKnow(node, state.topology, facts))
      return []
    if (snapshot.live.size > 0 && !snapshot.live.has(node.metadata.name)) return []
    const own = [...addresses.all.values()].filter(each => each.port === name).map(({ prefix }) => prefix)
    const told = own.every(prefix => facts.paths.get(prefix)?.some(path => !path.stale && isFrom(path, node)))
    return told ? [] : own
  }

  return (snapshot, self, state) => {
    if (ports !== snapshot.ports) {
      diffMaps(ports, snapshot.ports, (name, after, before) => {
        const found = before === undefined ? undefined : networkOf(before, snapshot.networks)
        const routed = found !== undefined && 'network' in found && isRouted(found.network)
        const here = before?.spec.node === self.node && before.spec.device !== undefined
        if (after === undefined || after.spec.node === self.node) left.delete(name)
        else if (here && routed) left.set(name, before)
      })
      ports = snapshot.ports
    }
    if (left.size === 0 && leaving === nothing) return { snapshot, leaving }
    addresses.update(snapshot)
    const now: string[] = []
    for (const name of left.keys()) {
      const own = staying(name, snapshot, self, state)
      if (own.length === 0) left.delete(name)
      now.push(...own)
    }
    if (now.sort().join() !== leaving.join()) leaving = now.length === 0 ? nothing : now
    if (left.size === 0) return { snapshot, leaving }
    const text = [...left.keys()].join()
    if (last?.ports !== snapshot.ports || last.text !== text) {
      const all =
        snapshot.ports instanceof PersistentMap ? snapshot.ports : PersistentMap.from(snapshot.ports)
      last = { ports: snapshot.ports, text, kept: all.withAll([...left]) }
    }
    return { snapshot: { ...snapshot, ports: last.kept }, leaving }
  }
}
