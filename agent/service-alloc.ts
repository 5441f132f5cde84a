// Cluster IPs and nodePorts of Services: records alloc/service-ipv4/10.0.0.5 -> {"owner":"service/default/web"}, claimed by
// whichever agent is first. Look: etcdctl get --prefix /warren/alloc/service-
import { createServiceAssignments } from './model/service-assignments.js'
import { keysText } from './model/service-plan.js'
import { type Allocator, type AllocatorOptions, createRecordAllocator } from './record-alloc.js'

const prefix = 'service/'
const nameOf = (ref: string): string => ref.slice(prefix.length)

export function createServiceAllocator(options: AllocatorOptions): Allocator {
  const assignments = createServiceAssignments()
  return createRecordAllocator(
    options,
    {
      role: 'cluster',
      update(snapshot) {
        const refs: string[] = []
        const add = (name: string): void => void refs.push(prefix + name)
        assignments.update(snapshot, add, add)
        return refs
      },
      plan: (ref, taken) => assignments.plan(nameOf(ref), taken),
      recordsOf: ref => assignments.records.recordsOf(nameOf(ref)),
      exists: (ref, { services }) => services.has(nameOf(ref)),
    },
    keysText,
  )
}
