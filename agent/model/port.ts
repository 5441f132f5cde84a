// Port: one plug on a Network, with its MAC, addresses and groups; a VM's tap or a container's veth on the host that has it.
import { z } from 'zod'
import { familyOf } from '../../lib/net/address.js'
import { isUnicastMac } from '../../lib/net/mac.js'
import { prefixSchema } from './cluster.js'
import { issuesOf } from './issue.js'
import { apiVersion, nameSchema, tenantMetadataSchema } from './object.js'
import { hostAddressSchema } from './service.js'

const macSchema = z
  .string()
  .refine(isUnicastMac, 'is not the MAC address of a device, in lower case')
  .meta({ title: 'MAC' })

/** A name that Linux takes for a link (dev_valid_name in net/core/dev.c), and makes no other of (dev_alloc_name: %). */
const linkNameSchema = z
  .string()
  .min(1)
  .max(15)
  .regex(/^(?!\.{1,2}$)[^\s/:%\p{Cc}]+$/u, 'is no name of a link')
  .meta({ title: 'link name' })

/** What a tap would meet in the fabric namespace: bridges, VXLAN devices, routers' links and veth ports. */
const ownLinks = /^((br|vx|r)\d+|p[0-9a-f]{10}|lo)$/

const netnsSchema = z
  .string()
  .max(255)
  .regex(
    /^(?:(?!\.{1,2}$)[A-Za-z0-9._-]+|(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._:@-]+)+)$/,
    'is neither a name below /run/netns nor an absolute path',
  )
  .meta({ title: 'name or path' })

export const deviceSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('veth').describe("A veth whose one end is in a container's namespace."),
    netns: netnsSchema.describe('Name below /run/netns, or a path.'),
    name: linkNameSchema.default('eth0').describe('Of the link in there.'),
  }),
  z.strictObject({
    kind: z
      .literal('tap')
      .describe("A VM's tap: one of that name is moved into the fabric, else one is made."),
    name: linkNameSchema
      .refine(name => !ownLinks.test(name), 'is a name of our own links in the fabric')
      .describe('Of the tap.'),
  }),
])

const networkNameSchema = z
  .string()
  .refine(
    text => text.split('/').length <= 2 && text.split('/').every(part => nameSchema.safeParse(part).success),
    'is neither a name nor of the form tenant/name',
  )
  .meta({ title: 'name or tenant/name' })

const fixedIPSchema = z.union([
  hostAddressSchema,
  z.strictObject({
    subnet: z.string().min(1).describe('Name or CIDR.'),
    address: hostAddressSchema.optional().describe('Allocated if absent.'),
  }),
])

const pairAddressSchema = z
  .string()
  .superRefine((text, context) => {
    if (familyOf(text) !== undefined) return
    for (const { message } of prefixSchema.safeParse(text).error?.issues ?? [])
      issuesOf(context)([], message, 'an address or a prefix')
  })
  .meta({ title: 'address or prefix' })

export const portSpecSchema = z
  .strictObject({
    network: networkNameSchema.describe('A Network of its tenant, or tenant/name of a shared one.'),
    node: nameSchema.optional().describe('The host that has it; absent: none yet.'),
    fixedIPs: z
      .array(fixedIPSchema)
      .max(16)
      .optional()
      .describe('Default: one of each family, from the first subnet with a free address; []: none.'),
    mac: macSchema.optional().describe('Unique in its Network; allocated if absent.'),
    device: deviceSchema.optional().describe('What "warren port attach" writes.'),
    securityGroups: z
      .array(nameSchema)
      .max(32)
      .optional()
      .describe('Default: "default" of the tenant; []: nothing in, nothing out.'),
    portSecurity: z.boolean().default(true).describe('false: neither anti-spoofing nor groups.'),
    adminState: z
      .enum(['up', 'down'])
      .default('up')
      .describe('down: its link is down, whatever the guest wants.'),
    allowedAddressPairs: z
      .array(
        z.strictObject({
          ip: pairAddressSchema.describe('What it may send from.'),
          mac: macSchema.optional().describe("Default: the port's."),
        }),
      )
      .max(64)
      .default([])
      .describe('What it may send as besides its own; counts in remote groups too.'),
    hostName: z
      .string()
      .regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/i, 'is no host name')
      .optional()
      .describe('For DHCP; default: of the name.'),
  })
  .superRefine((spec, context) => {
    const issue = issuesOf(context)
    if (!spec.portSecurity)
      for (const field of ['securityGroups', 'allowedAddressPairs'] as const)
        if ((spec[field]?.length ?? 0) > 0)
          issue([field], 'does not go with portSecurity: false', 'leave it out, or portSecurity: true')
    const addresses = new Set<string>()
    spec.fixedIPs?.forEach((each, i) => {
      const address = typeof each === 'string' ? each : (each.address ?? `any of ${each.subnet}`)
      if (addresses.has(address)) issue(['fixedIPs', i], 'is there twice', 'one entry is enough')
      addresses.add(address)
    })
    spec.securityGroups?.forEach((name, i, all) => {
      if (all.indexOf(name) !== i) issue(['securityGroups', i], 'is there twice', 'one entry is enough')
    })
  })

export const portSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Port'),
  metadata: tenantMetadataSchema,
  spec: portSpecSchema,
})

export type Port = z.infer<typeof portSchema>
