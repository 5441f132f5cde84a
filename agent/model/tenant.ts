// Tenant: who owns networks, ports, routers and groups. Tenants may use the same addresses, and never meet.
import { z } from 'zod'
import { apiVersion, metadataSchema } from './object.js'

const quota = z.int().min(0).optional()

export const tenantSpecSchema = z.strictObject({
  quotas: z
    .strictObject({
      networks: quota.describe('Networks.'),
      ports: quota.describe('Ports.'),
      routers: quota.describe('Routers.'),
      securityGroups: quota.describe('SecurityGroups.'),
    })
    .default({})
    .describe('How many of each it may have; default: without limit.'),
})

export const tenantSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Tenant'),
  metadata: metadataSchema,
  spec: tenantSpecSchema.default({ quotas: {} }),
})

export type Tenant = z.infer<typeof tenantSchema>

/** `tenant/name`. */
export const tenantName = (object: {
  readonly metadata: { readonly tenant: string; readonly name: string }
}): string => `${object.metadata.tenant}/${object.metadata.name}`

/** `tenant/name` of what an object of that tenant names: "a" or "red/a". */
export const inTenant = (tenant: string, name: string): string =>
  name.includes('/') ? name : `${tenant}/${name}`
