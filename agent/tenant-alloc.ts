// VNIs of Networks, MACs and addresses of Ports: records alloc/vni/1001 -> {"owner":"network/red/a"}, alloc/port-mac/red/a/0a:...
// and alloc/port-ip/red/a/10.0.1.11 -> {"owner":"port/red/web-1"}, claimed by whichever agent is first, those of a port in one
// transaction. Look: etcdctl get --prefix /warren/alloc/port-ip/
import { nameOfRef } from './model/object.js'
import { createTenantAssignments } from './model/tenant-assignments.js'
import { tenantValue } from './model/tenant-claims.js'
import { type Allocator, type AllocatorOptions, createRecordAllocator } from './record-alloc.js'

const keysText = (keys: Iterable<string>): string => [...keys].map(tenantValue).join(', ')

export function createTenantAllocator(options: AllocatorOptions): Allocator {
  const assignments = createTenantAssignments()
  return createRecordAllocator(
    options,
    {
      role: 'fabric',
      update: assignments.update,
      plan: ref => assignments.plan(ref),
      recordsOf: assignments.recordsOf,
      exists(ref, { networks, ports }) {
        const all = ref.startsWith('network/') ? networks : ports
        return all.has(nameOfRef(ref))
      },
    },
    keysText,
  )
}
