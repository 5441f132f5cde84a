// The tenants' part of Control: how ports fare, and what is told of networks and ports.
import type { ObjectWithOrigin } from './api/control.js'
import { createTenantInspector, type TenantInspector } from './api/tenant-view.js'
import type { ControlParts } from './control-parts.js'
import { type PortFacts, portStatus } from './port-status.js'

export interface TenantControl extends TenantInspector {
  /** Ports of this host with their status. */
  withStatus(found: readonly ObjectWithOrigin[]): readonly ObjectWithOrigin[]
}

type Parts = Pick<ControlParts, 'config' | 'store' | 'desired' | 'reconciler' | 'counters' | 'drops'>

export function createTenantControl(parts: Parts): TenantControl {
  const { config, store, desired, reconciler, counters, drops } = parts
  const facts = (): PortFacts => {
    const now = desired()
    return {
      node: config.node,
      fabric: config.roles.includes('fabric'),
      desired: now,
      failureOf: (table, object) => reconciler.failureOf(table, object),
      stands: (table, object) => reconciler.stands(table, object),
      complete: table => now !== undefined && reconciler.complete(table, now),
    }
  }
  const inspector = createTenantInspector({
    node: config.node,
    snapshot: () => store.snapshot(),
    fabric: () => desired()?.fabric,
    problems: () => desired()?.problems ?? store.snapshot().problems,
    portStatus: port => portStatus(port, facts()),
    counters,
    drops,
    dhcpFailure: network => {
      for (const server of desired()?.dhcp.get(`network/${network}`) ?? []) {
        const trouble = reconciler.failureOf('dhcp', server)
        if (trouble !== undefined) return trouble
      }
      return undefined
    },
  })
  return {
    ...inspector,
    withStatus(found) {
      const now = facts()
      return found.map(each => {
        const own = each.object.kind === 'Port' ? portStatus(each.object, now) : undefined
        return own === undefined ? each : { ...each, portStatus: own }
      })
    },
  }
}
