// The Services of a cluster laid over its overlay: entry points, and the tables that hold them.
import type { NftElement, NftTableSpec } from '../../../lib/nftables/types.js'
import { PersistentMap } from '../../../lib/persistent/map.js'
import type { BridgePorts, DesiredState } from '../../model/desired.js'
import type { Self } from '../../model/self.js'
import { familyBases, type ServiceFamilyBase } from '../../model/service-base.js'
import type { ServiceEntry } from '../../model/service-entry.js'
import { clusterOf, type Snapshot } from '../../model/snapshot.js'
import { natKeeperTable, serviceTable } from './ruleset.js'
import { createServices, type Services, servesServices } from './services.js'
import { baseElements } from './sets.js'

export type ServiceRole = (overlay: DesiredState, snapshot: Snapshot, self: Self) => DesiredState

const owner = 'services/base'

interface Tables {
  /** Whose tables they are, and all of that as text. */
  readonly base: Services['base']
  readonly affinity: Services['affinity']
  readonly names: Self['names']
  readonly text: string
  readonly keepers: readonly NftTableSpec[]
  readonly filter: readonly NftTableSpec[]
  readonly bases: readonly ServiceFamilyBase[]
  readonly element: readonly NftElement[]
}

function tablesOf(
  { base, affinity }: Services,
  self: Self,
): Omit<Tables, 'base' | 'affinity' | 'names' | 'text'> {
  const options = { nodePortAddresses: base.nodePortAddresses !== undefined }
  return {
    keepers: base.families.map(family => natKeeperTable(family, self.names)),
    filter: base.families.flatMap(family => [
      natKeeperTable(family, self.names),
      serviceTable(family, options, self.names, affinity[family]),
    ]),
    bases: familyBases(base),
    element: base.families.flatMap(family => baseElements(family, base, self.names)),
  }
}

function withBases(
  entries: Services['entries'],
  bases: readonly ServiceFamilyBase[],
): DesiredState['service-iptables'] {
  const all: PersistentMap<readonly (ServiceEntry | ServiceFamilyBase)[]> = entries
  return all.set(owner, bases)
}

/** Tables laid over an overlay: the same values until one of the two changes, so that nobody compares them. */
interface Laid {
  readonly overlay: DesiredState
  readonly tables: Tables
  readonly filter: DesiredState['filter']
  readonly keepers: DesiredState['filter']
  readonly element: DesiredState['element']
}

export function createServiceRole(): ServiceRole {
  const servicesOf = createServices()
  let tables: Tables | undefined
  let ports: ReadonlyMap<string, readonly [BridgePorts]> = new Map()
  let laid: Laid | undefined
  return (overlay, snapshot, self) => {
    const cluster = clusterOf(snapshot)
    if (cluster === undefined || overlay.hold !== undefined || !servesServices(cluster)) return overlay
    const mode = self.proxyMode ?? cluster.spec.proxyMode
    const services = servicesOf(snapshot, self, cluster)
    const { base, affinity } = services
    if (tables?.base !== base || tables.affinity !== affinity || tables.names !== self.names) {
      const text = JSON.stringify([base, affinity, self.names])
      const of = { base, affinity, names: self.names, text }
      tables = tables?.text === text ? { ...tables, ...of } : { ...of, ...tablesOf(services, self) }
    }
    const element =
      overlay.element instanceof PersistentMap ? overlay.element : PersistentMap.from(overlay.element)
    // Where the bridge itself translates, a pod that reaches itself leaves by the port that it came in by.
    const translates = mode !== 'userspace' && self.ownBridge && self.host.bridgeNetfilter
    const bridge = self.names.podBridge
    if (ports.get(owner)?.[0].bridge !== bridge) ports = new Map([[owner, [{ bridge, hairpin: true }]]])
    if (laid?.overlay !== overlay || laid.tables !== tables)
      laid = {
        overlay,
        tables,
        filter: new Map([...overlay.filter, [owner, tables.filter]]),
        keepers: new Map([...overlay.filter, [owner, tables.keepers]]),
        element: element.set(owner, tables.element),
      }
    const rules =
      mode === 'iptables'
        ? {
            filter: laid.keepers,
            'service-iptables': withBases(services.entries, tables.bases),
          }
        : {
            filter: laid.filter,
            element: laid.element,
            proxy: mode === 'userspace' ? services.entries : overlay.proxy,
            service: services.entries,
          }
    return {
      ...overlay,
      ...rules,
      port: translates ? ports : overlay.port,
      health: services.health,
      serviceBase: services.base,
      serviceEntries: services.entries,
      problems:
        services.problems.length === 0 ? overlay.problems : [...overlay.problems, ...services.problems],
    }
  }
}
