// BGP as the Cluster wants it and a Node speaks it (RFC 4271, RFC 4456): schemas of both, and what is derived of them.
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { familyOf } from '../../lib/net/address.js'
import { labelsSchema } from './object.js'

/** RFC 6793: 4 octets; 0 is reserved (RFC 7607). */
export const asnSchema = z.int().min(1).max(4_294_967_295).describe('Autonomous system number (RFC 6793).')

/** TCP MD5 (RFC 2385): the kernel takes 80 bytes (TCP_MD5SIG_MAXKEYLEN, linux/tcp.h). */
export const bgpPasswordSchema = z
  .string()
  .min(1)
  .refine(text => Buffer.byteLength(text) <= 80, 'is longer than the 80 bytes that TCP MD5 takes')
  .describe('TCP MD5 password of the sessions (RFC 2385).')

export const bgpTopologySchema = z.enum(['mesh', 'reflectors', 'auto'])

export const clusterBgpSchema = z.strictObject({
  asn: asnSchema.default(64512).describe('Autonomous system of all nodes (RFC 6793).'),
  topology: bgpTopologySchema
    .default('auto')
    .describe('Who peers with whom; auto: a full mesh up to meshLimit nodes, reflectors above.'),
  meshLimit: z.int().min(1).max(1000).default(50).describe('Most nodes that auto joins in a full mesh.'),
  reflectors: z
    .strictObject({
      count: z.int().min(1).max(16).default(2).describe('How many nodes reflect, spread over zones.'),
      selector: labelsSchema
        .optional()
        .describe('All nodes with these labels reflect, in place of so many that are chosen.'),
    })
    .default({ count: 2 })
    .describe('Which nodes reflect (RFC 4456), with topology reflectors or auto.'),
  password: bgpPasswordSchema.optional(),
  holdTime: z
    .int()
    .min(3)
    .max(3600)
    .default(90)
    .describe('Seconds without a message after which a session is over (RFC 4271 §4.2).'),
  restartTime: z
    .int()
    .min(10)
    .max(4095)
    .default(120)
    .describe('Seconds that peers keep the routes of a gobgpd that restarts (RFC 4724 §3).'),
  longLivedTime: z
    .int()
    .min(0)
    .max(16_777_215)
    .default(0)
    .describe('Seconds beyond restartTime that peers keep them as a last resort (RFC 9494); 0: they do not.'),
  maxPrefixes: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(50_000)
    .describe('Prefixes of a family that one node may announce before its session is ended.'),
  announce: z
    .strictObject({
      clusterIPs: z.boolean().default(false).describe('Cluster IPs of Services.'),
      externalIPs: z.boolean().default(false).describe('externalIPs of Services.'),
      loadBalancerIPs: z.boolean().default(false).describe('loadBalancerIPs of Services.'),
    })
    .default({ clusterIPs: false, externalIPs: false, loadBalancerIPs: false })
    .describe('Service addresses that are announced beside the blocks of pods.'),
})

export type ClusterBgp = z.infer<typeof clusterBgpSchema>

const defaultBgp: ClusterBgp = clusterBgpSchema.parse({})

/** The Cluster's, or all defaults. */
export function bgpOf(cluster: { readonly spec: { readonly bgp?: ClusterBgp | undefined } }): ClusterBgp {
  return cluster.spec.bgp ?? defaultBgp
}

/** RFC 6286: any four octets but 0.0.0.0, written as an IPv4 address. */
const routerIdSchema = z
  .string()
  .refine(text => familyOf(text) === 'inet' && text !== '0.0.0.0', 'is not four octets as in 192.0.2.1')
  .meta({ title: 'four octets' })

export const nodeBgpSchema = z.strictObject({
  asn: asnSchema,
  routerId: routerIdSchema.describe('BGP identifier (RFC 6286), unique in the cluster.'),
})

/** BGP identifier of a node: its IPv4 underlay address, else 32 bits of a digest of its name. */
export function routerIdOf(node: string, addresses: readonly string[]): string {
  const ipv4 = addresses.find(address => familyOf(address) === 'inet')
  if (ipv4 !== undefined) return ipv4
  const digest = createHash('sha256').update(`router-id ${node}`).digest()
  // 240.0.0.0/4: no host has such an address, so that no derived one is another's.
  return [(digest[0] ?? 0) | 0xf0, digest[1], digest[2], digest[3]].join('.')
}
