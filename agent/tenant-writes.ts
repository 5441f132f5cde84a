// What goes along with the write of a Network or a Port: the records of all its values, given and allocated, in the transaction
// that writes it. So a port has its MAC and addresses as soon as it is there, and of two hosts that ask for one value at the
// same time one is told. What people write into files the agents claim (tenant-alloc.ts).
// Look: etcdctl get --prefix /warren/alloc/port-ip/
import { allocRecord } from './alloc.js'
import type { WriteCheck } from './model/cross-check.js'
import { allocPrefix } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import type { Network } from './model/network.js'
import { type Problem, refOf } from './model/object.js'
import type { Port } from './model/port.js'
import { clusterInForce } from './model/snapshot.js'
import { inTenant, tenantName } from './model/tenant.js'
import { createTenantAssignments } from './model/tenant-assignments.js'
import { isTaken, recordConflicts } from './model/tenant-taken.js'
import type { Companions, RecordBook } from './service-writes.js'

export interface TenantWrites {
  /** For the object's own transaction; or what is in the way. */
  companionsOf(
    object: Network | Port,
  ): { readonly parts: readonly Companions[] } | { readonly problems: readonly Problem[] }
}

/** `records` are those that the transactions find and write, too. */
export function tenantWrites(check: WriteCheck, records: RecordBook): TenantWrites {
  const networks = new Map<string, Network>()
  const ports = new Map<string, Port>()
  const clusters: ModelObject[] = []
  const take = (object: ModelObject): void => {
    if (object.kind === 'Network') networks.set(tenantName(object), object)
    if (object.kind === 'Port') ports.set(tenantName(object), object)
    if (object.kind === 'Cluster') clusters.push(object)
  }
  for (const object of [...check.standing, ...check.objects]) take(object)
  for (const { object } of check.handWritten) take(object)
  const inForce = new Map(
    clusters.flatMap(object => (object.kind === 'Cluster' ? [[object.metadata.name, object]] : [])),
  )
  const cluster = clusterInForce([...inForce.values()])
  // Values of a port are those of its network: what is in others has no say.
  const touched = new Set(
    check.objects.flatMap(object =>
      object.kind === 'Port' ? [inTenant(object.metadata.tenant, object.spec.network)] : [],
    ),
  )
  for (const [name, { metadata, spec }] of ports)
    if (!touched.has(inTenant(metadata.tenant, spec.network))) ports.delete(name)
  const model = { networks, ports, clusters: new Map(cluster === undefined ? [] : [['default', cluster]]) }
  const assignments = createTenantAssignments()
  return {
    companionsOf(object) {
      const allocations = records.allocations()
      assignments.update({ ...model, allocations })
      const plan = assignments.plan(refOf(object))
      const problems = [
        ...plan.problems.filter(problem => problem.level === 'error' && !isTaken(problem)),
        ...recordConflicts(object, assignments, allocations).values(),
      ]
      if (problems.length > 0) return { problems }
      const date = new Date()
      const keys = plan.claims.map(({ key }) => allocPrefix + key)
      return {
        parts: [
          {
            compare: keys.map(key => ({ key, absent: true })),
            puts: keys.map(key => ({ key, value: allocRecord(refOf(object), date) })),
          },
        ],
      }
    },
  }
}
