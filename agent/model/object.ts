// What every object of the model has in common: the envelope of its YAML document, its reference, its problems.
import { z } from 'zod'

export const apiVersion = 'warren/v1'

/** RFC 1123 label, as Kubernetes wants names. */
export const nameSchema = z
  .string()
  .regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/, 'must be lower-case letters, digits, "-" and "."')
  .meta({ title: 'name' })

export const labelsSchema = z.record(z.string(), z.string()).meta({ title: 'map of string' })

const ownName = nameSchema.describe('Unique among its kind, in its tenant or namespace where it has one.')

export const metadataSchema = z.strictObject({
  name: ownName,
  tenant: nameSchema.optional().describe('Of no meaning for kinds that all tenants share.'),
  namespace: nameSchema.optional().describe('Of no meaning for kinds without namespaces.'),
  labels: labelsSchema.optional().describe('Free labels; selectors match on them.'),
})

export const defaultNamespace = 'default'

/** Of the kinds that are unique in a namespace only. */
export const namespacedMetadataSchema = z.strictObject({
  name: ownName,
  namespace: nameSchema.default(defaultNamespace).describe('Names are unique in it.'),
  labels: labelsSchema.optional().describe('Free labels; selectors match on them.'),
})

/** Of the fabric's kinds, which a tenant owns. */
export const tenantMetadataSchema = z.strictObject({
  name: ownName,
  tenant: nameSchema.describe('The Tenant that it belongs to.'),
  labels: labelsSchema.optional().describe('Free labels; selectors match on them.'),
})

export interface Metadata {
  readonly name: string
  readonly tenant?: string | undefined
  readonly namespace?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
}

/** `kind/name` or `kind/scope/name`, as it stands in messages, events and `warren delete`. */
export function refOf(object: { readonly kind: string; readonly metadata: Metadata }): string {
  const scope = object.metadata.tenant ?? object.metadata.namespace
  const kind = object.kind.toLowerCase()
  return scope === undefined ? `${kind}/${object.metadata.name}` : `${kind}/${scope}/${object.metadata.name}`
}

/** `name` or `scope/name`, by which a snapshot has the objects of a kind. */
export const nameOfRef = (ref: string): string => ref.slice(ref.indexOf('/') + 1)

/** Something an operator should know or mend; level error keeps the part it concerns degraded. */
export interface Problem {
  readonly level: 'warning' | 'error'
  /** What it is about: "node/h3", "file cluster.yaml:12", "link/wrn-ovl". */
  readonly about: string
  readonly code: string
  readonly message: string
  readonly hint?: string | undefined
}
