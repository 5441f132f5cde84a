// Node: a host as its own agent publishes it (or as people write it, where nothing is allocated).
import { z } from 'zod'
import { familyOf, isLinkLocal, isUnicast } from '../../lib/net/address.js'
import { isUnicastMac } from '../../lib/net/mac.js'
import { nodeBgpSchema } from './bgp.js'
import { prefixSchema } from './cluster.js'
import { apiVersion, metadataSchema } from './object.js'

const underlayAddress = z
  .string()
  .refine(text => familyOf(text) !== undefined && isUnicast(text), 'is not a unicast address')
  .meta({ title: 'address' })

export const nodeSpecSchema = z.strictObject({
  addresses: z
    .array(underlayAddress)
    .min(1)
    .max(2)
    .describe('Underlay addresses, one of a family: where the other nodes reach this one.'),
  linkLocal: underlayAddress
    .refine(text => familyOf(text) === undefined || isLinkLocal(text), 'is not a link-local address')
    .optional()
    .describe(
      'fe80::/10 address of the underlay interface: next hop of IPv6 pods over an IPv4 underlay (host-gw).',
    ),
  podCIDRs: z.array(prefixSchema).max(2).default([]).describe('The blocks that this node leased.'),
  vtepMAC: z
    .string()
    .refine(isUnicastMac, 'is not the MAC address of a device, in lower case')
    .meta({ title: 'MAC' })
    .optional()
    .describe('MAC of its VXLAN device.'),
  mtu: z.int().min(576).max(65535).optional().describe('MTU of its underlay interface, bytes.'),
  bgp: nodeBgpSchema.optional().describe('How it speaks BGP; absent: it does not.'),
  roles: z
    .array(z.enum(['cluster', 'fabric']))
    .default(['cluster'])
    .describe('What it does: the container overlay, tenant networks.'),
})

export const nodeSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Node'),
  metadata: metadataSchema,
  spec: nodeSpecSchema,
})

export type Node = z.infer<typeof nodeSchema>
