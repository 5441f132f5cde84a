// Ports of routed networks as endpoints of Services: addresses that are unique, and that pods of every host reach. A Service
// whose selector matches a Port's labels, in the namespace with the name of the Port's tenant, leads there as to a Pod.
import { diffMaps, PersistentMap } from '../../lib/persistent/map.js'
import { apiVersion } from './object.js'
import type { Pod } from './pod.js'
import { createRoutedPorts } from './routed.js'
import type { Snapshot } from './snapshot.js'

type Model = Pick<Snapshot, 'networks' | 'ports' | 'allocations'>

const ports = new WeakSet<Pod>()

/** Is it a Port, in truth? */
export const isPort = (pod: Pod): boolean => ports.has(pod)

/** By names that no Pod has; the same value as long as nothing changed. */
export function createRoutedPods(): (snapshot: Model) => PersistentMap<Pod> {
  const addresses = createRoutedPorts()
  const byPort = new Map<string, Set<string>>()
  const portOf = new Map<string, string>()
  let known: Snapshot['ports'] = new Map()
  let pods: PersistentMap<Pod> = PersistentMap.empty()

  function podOf(name: string): Pod | undefined {
    const port = known.get(name)
    const own = [...(byPort.get(name) ?? [])].sort()
    const first = (six: boolean): string[] => own.filter(text => text.includes(':') === six).slice(0, 1)
    const { labels, tenant, name: short } = port?.metadata ?? {}
    const nodeName = port?.spec.node
    if (port === undefined || nodeName === undefined || tenant === undefined || short === undefined)
      return undefined
    if (own.length === 0 || labels === undefined || Object.keys(labels).length === 0) return undefined
    const ready = port.spec.device !== undefined && port.spec.adminState === 'up'
    return {
      apiVersion,
      kind: 'Pod',
      metadata: { name: short, namespace: tenant, labels },
      spec: { nodeName, addresses: [...first(false), ...first(true)], ports: [], ready, terminating: false },
    }
  }

  return snapshot => {
    const touched = new Set<string>()
    for (const address of addresses.update(snapshot)) {
      const before = portOf.get(address)
      const now = addresses.all.get(address)?.port
      if (before !== undefined) {
        byPort.get(before)?.delete(address)
        touched.add(before)
      }
      if (now === undefined) portOf.delete(address)
      else {
        portOf.set(address, now)
        const own = byPort.get(now) ?? new Set()
        byPort.set(now, own.add(address))
        touched.add(now)
      }
    }
    diffMaps(known, snapshot.ports, name => {
      if (byPort.has(name)) touched.add(name)
    })
    known = snapshot.ports
    for (const name of touched) {
      if (byPort.get(name)?.size === 0) byPort.delete(name)
      const pod = podOf(name)
      const key = `port/${name}`
      if (JSON.stringify(pods.get(key)) === JSON.stringify(pod)) continue
      if (pod !== undefined) ports.add(pod)
      pods = pods.with(key, pod)
    }
    return pods
  }
}
