// Cluster: the pod network that all nodes share. One object, named "default".
import { z } from 'zod'
import { codeOf, WarrenError } from '../../lib/errors.js'
import { isNetworkPrefix, overlaps, parsePrefix } from '../../lib/net/prefix.js'
import { clusterBgpSchema } from './bgp.js'
import { issuesOf } from './issue.js'
import { apiVersion, metadataSchema } from './object.js'

/** A prefix in text without host bits; the hint is what was meant. */
export const prefixSchema = z
  .string()
  .superRefine((text, context) => {
    if (isNetworkPrefix(text)) return
    try {
      parsePrefix(text)
    } catch (error) {
      const message = codeOf(error) === 'HOSTBITS' ? 'has host bits set' : 'is not of the form address/length'
      const hint = error instanceof WarrenError ? error.hint : undefined
      issuesOf(context)([], message, hint)
    }
  })
  .meta({ title: 'prefix' })

/** Prefixes that hold addresses which no pod, no port and no Service can have: this host, loopback, link-local, multicast and what is beyond. */
export const ofNobody = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/127',
  '::ffff:0:0/96',
  'fe80::/10',
  'ff00::/8',
].map(text => parsePrefix(text))

export const portSchema = z.int().min(1).max(65535)

/** 24 bits (RFC 7348 §5); 0 is legal on the wire but no device takes it from us. */
export const vniSchema = z.int().min(1).max(16777215)

export const defaultVniRange = '1000-16000000'

const mtuSchema = z
  .int()
  .min(576)
  .max(65535)
  .optional()
  .describe(
    'MTU of the pods, bytes; default: of the egress device less the encapsulation, the smallest of all nodes.',
  )

export const backendSchema = z.discriminatedUnion('type', [
  z.strictObject({
    type: z
      .literal('vxlan')
      .describe('Each block by a VXLAN tunnel to its node; any network between them will do.'),
    vni: vniSchema.default(1).describe('VXLAN network identifier of the overlay.'),
    port: portSchema
      .default(4789)
      .describe('UDP port of the outer packets (IANA: 4789; old kernels and flannel: 8472).'),
    directRouting: z
      .boolean()
      .default(false)
      .describe('Route to peers on the same L2 without encapsulation.'),
    mtu: mtuSchema,
  }),
  z.strictObject({
    type: z.literal('host-gw').describe('Plain routes by way of the peers; all nodes on one L2.'),
    mtu: mtuSchema,
  }),
  z.strictObject({
    type: z.literal('bgp').describe('Plain routes as gobgpd learns them of the peers; see bgp.'),
    encapsulation: z
      .enum(['never', 'crossSubnet'])
      .default('never')
      .describe('crossSubnet: VXLAN to peers on another L2; never: the routers between must speak BGP.'),
    vni: vniSchema.default(1).describe('As of vxlan, for crossSubnet.'),
    port: portSchema.default(4789).describe('As of vxlan, for crossSubnet.'),
    mtu: mtuSchema,
  }),
])

export const proxyModeSchema = z.enum(['nftables', 'iptables', 'userspace'])

export const clusterSpecSchema = z
  .strictObject({
    podCIDRs: z
      .array(prefixSchema)
      .min(1)
      .max(2)
      .describe('Pod addresses of the cluster: one prefix, or one of each family.'),
    nodeSubnetLength: z
      .strictObject({
        ipv4: z.int().min(8).max(30).default(24).describe('Of the IPv4 block, bits.'),
        ipv6: z.int().min(16).max(126).default(64).describe('Of the IPv6 block, bits.'),
      })
      .default({ ipv4: 24, ipv6: 64 })
      .describe('Length of the block that each node leases out of podCIDRs.'),
    backend: backendSchema
      .default({ type: 'vxlan', vni: 1, port: 4789, directRouting: false })
      .describe('How packets go from node to node; may be changed while pods talk.'),
    serviceCIDRs: z
      .array(prefixSchema)
      .max(2)
      .default([])
      .describe('Cluster IPs of Services: one prefix, or one of each family, that nothing else uses.'),
    nodePortRange: z
      .string()
      .regex(/^\d{1,5}-\d{1,5}$/, 'is not of the form FIRST-LAST')
      .default('30000-32767')
      .describe('Ports that Services have on every node.'),
    nodePortAddresses: z
      .array(prefixSchema)
      .max(16)
      .default([])
      .describe('Node addresses that nodePorts answer on; default: all but loopback.'),
    vniRange: z
      .string()
      .regex(/^\d{1,8}-\d{1,8}$/, 'is not of the form FIRST-LAST')
      .optional()
      .describe(
        `VNIs of tenants' networks; default ${defaultVniRange} without the overlay's own, which is never among them.`,
      ),
    proxyMode: proxyModeSchema
      .default('nftables')
      .describe('How Services are made: nftables maps, iptables DNAT, or connections through warrend.'),
    masquerade: z.boolean().default(true).describe('Masquerade pod traffic that leaves podCIDRs.'),
    bgp: clusterBgpSchema.optional().describe('How nodes speak BGP, with backend bgp.'),
  })
  .superRefine((spec, context) => {
    const issue = issuesOf(context)
    const vniFault = vniRangeFault(spec.vniRange, spec.backend)
    if (vniFault !== undefined) issue(['vniRange'], vniFault, `such a range is ${defaultVniRange}`)
    const families = new Set<string>()
    spec.podCIDRs.forEach((text, i) => {
      const family = text.includes(':') ? 'ipv6' : 'ipv4'
      if (families.has(family))
        issue(['podCIDRs', i], `is a second ${family} prefix: one of each family at most`)
      families.add(family)
      if (!isNetworkPrefix(text)) return
      const taken = ofNobody.find(prefix => overlaps(prefix, parsePrefix(text)))
      if (taken !== undefined)
        issue(
          ['podCIDRs', i],
          `overlaps ${taken.text}, where no pod can have an address`,
          'take a private prefix: 10.244.0.0/16, fd00:244::/48',
        )
      if (family === 'ipv6' && spec.backend.mtu !== undefined && spec.backend.mtu < 1280)
        issue(['backend', 'mtu'], `is too small for IPv6 pods ("${text}"): they need 1280`)
      const length = Number(text.slice(text.lastIndexOf('/') + 1))
      const wanted = spec.nodeSubnetLength[family]
      if (wanted < length)
        issue(
          ['nodeSubnetLength', family],
          `does not fit into "${text}": a node's block of /${wanted} is larger`,
        )
    })
  })

function vniRangeFault(text: string | undefined, backend: Backend): string | undefined {
  const [first = 0, last = 0] = (text ?? '').split('-').map(Number)
  if (text === undefined || Number.isNaN(last)) return undefined
  if (first < 1 || last > 16777215 || first > last) return 'holds no VNI: they are 1 to 16777215'
  const tunnel = tunnelOf(backend)
  if (tunnel === undefined || tunnel.vni < first || tunnel.vni > last) return undefined
  return `holds VNI ${tunnel.vni} of the overlay, which no tenant can have`
}

export const clusterSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Cluster'),
  metadata: metadataSchema,
  spec: clusterSpecSchema,
})

/** What a backend that encapsulates sends by: a VNI and a UDP port. */
export interface Tunnel {
  readonly vni: number
  readonly port: number
}

/** Undefined of a backend that never encapsulates. */
export function tunnelOf(backend: Backend): Tunnel | undefined {
  if (backend.type === 'vxlan') return backend
  return backend.type === 'bgp' && backend.encapsulation === 'crossSubnet' ? backend : undefined
}

export type ProxyMode = z.infer<typeof proxyModeSchema>
export type Backend = z.infer<typeof backendSchema>
export type Cluster = z.infer<typeof clusterSchema>
