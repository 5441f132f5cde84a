// BGPPeer: a router outside of the cluster that nodes peer with (ToR), or that reflects for them.
import { z } from 'zod'
import { familyOf, isUnicast } from '../../lib/net/address.js'
import { asnSchema, bgpPasswordSchema } from './bgp.js'
import { prefixSchema } from './cluster.js'
import { issuesOf } from './issue.js'
import { apiVersion, labelsSchema, metadataSchema } from './object.js'

const prefixes = z.array(prefixSchema).max(1000).default([])

export const bgpPeerSpecSchema = z
  .strictObject({
    address: z
      .string()
      .refine(text => familyOf(text) !== undefined && isUnicast(text), 'is not a unicast address')
      .meta({ title: 'address' })
      .describe('Of the router, as the nodes reach it.'),
    asn: asnSchema.describe('Its autonomous system (RFC 6793).'),
    password: bgpPasswordSchema.optional(),
    nodes: labelsSchema
      .optional()
      .describe('Nodes with these labels peer with it; default: all. {} is all, too.'),
    reflector: z
      .boolean()
      .default(false)
      .describe("It reflects for these nodes (RFC 4456), in place of reflectors of the cluster's own."),
    import: prefixes.describe(
      'Prefixes that are accepted of it beyond the guard; each holds its more specific ones.',
    ),
    maxPrefixes: z
      .int()
      .min(1)
      .max(1_000_000)
      .optional()
      .describe("Of a family; one more ends the session. Default: 1000, of a reflector the Cluster's."),
    multihop: z
      .int()
      .min(2)
      .max(255)
      .optional()
      .describe('TTL of our packets to a router of another AS that is so many hops away; default: 1.'),
    ttlSecurity: z
      .boolean()
      .default(false)
      .describe('Only packets that crossed no router are taken of it (RFC 5082).'),
    holdTime: z.int().min(3).max(3600).optional().describe("Seconds; default: the Cluster's."),
  })
  .superRefine((spec, context) => {
    const issue = issuesOf(context)
    if (spec.ttlSecurity && spec.multihop !== undefined)
      issue(['ttlSecurity'], 'does not go with multihop', 'one of the two')
    spec.import.forEach((text, i) => {
      if (text.endsWith('/0'))
        issue(
          ['import', i],
          'is the default route, which would take everything',
          'name the prefixes that are reached by way of it',
        )
    })
  })

export const bgpPeerSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('BGPPeer'),
  metadata: metadataSchema,
  spec: bgpPeerSpecSchema,
})

export type BGPPeer = z.infer<typeof bgpPeerSchema>
