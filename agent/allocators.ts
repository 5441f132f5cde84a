// The allocators that a host takes part in: those of its roles.
import { aborted, type Part } from '../lib/lifetime.js'
import type { Config } from './config.js'
import type { AllocatorOptions } from './record-alloc.js'
import { createServiceAllocator } from './service-alloc.js'
import { createTenantAllocator } from './tenant-alloc.js'

export interface Allocators {
  kick(): void
  readonly parts: Readonly<Record<'services' | 'tenants', Part>>
}

export function createAllocators(
  { node, roles }: Pick<Config, 'node' | 'roles'>,
  rest: Omit<AllocatorOptions, 'node'>,
): Allocators {
  const options = { ...rest, node }
  const services = createServiceAllocator(options)
  const tenants = createTenantAllocator(options)
  return {
    kick() {
      services.kick()
      tenants.kick()
    },
    parts: {
      services: signal => (roles.includes('cluster') ? services.run(signal) : aborted(signal)),
      tenants: signal => (roles.includes('fabric') ? tenants.run(signal) : aborted(signal)),
    },
  }
}
