// SecurityGroup: what ports of it may send and be sent, beside replies; rules only allow. As Neutron's, but that a group
// without egress rules lets all out, as each new group there does. A group "default", of every tenant, is there also when nobody
// wrote it: all out, in from the same group only.
import { z } from 'zod'
import { familyOf } from '../../lib/net/address.js'
import { prefixSchema } from './cluster.js'
import { issuesOf } from './issue.js'
import { apiVersion, nameSchema, tenantMetadataSchema } from './object.js'

const portNumber = z.int().min(1).max(65535)

export const ruleProtocols = ['tcp', 'udp', 'sctp', 'icmp', 'icmpv6'] as const

export const groupRuleSchema = z
  .strictObject({
    direction: z.enum(['ingress', 'egress']).describe('ingress: to the port; egress: from it.'),
    ethertype: z
      .enum(['IPv4', 'IPv6'])
      .optional()
      .describe('Default: the family of remoteCIDR or protocol, else both.'),
    protocol: z
      .union([z.enum(ruleProtocols), z.int().min(1).max(255)])
      .optional()
      .describe('Without: all protocols. icmp is that of IPv4, with ethertype: IPv6 that of IPv6.'),
    ports: z
      .union([
        portNumber,
        z.string().regex(/^[1-9]\d{0,4}(-[1-9]\d{0,4})?$/, 'is neither a port nor of the form FIRST-LAST'),
      ])
      .optional()
      .describe('Destination: 8080 or "8000-8999"; default: all.'),
    icmpType: z.int().min(0).max(255).optional().describe('Default: all types.'),
    icmpCode: z.int().min(0).max(255).optional().describe('With icmpType; default: all codes.'),
    remoteCIDR: prefixSchema
      .optional()
      .describe('The other end has an address in it; default: whoever it is.'),
    remoteGroup: nameSchema
      .optional()
      .describe('Ports with that group of the tenant, with their allowed pairs.'),
  })
  .superRefine((rule, context) => {
    const issue = issuesOf(context)
    const { protocol, ports } = rule
    if (ports !== undefined) {
      if (!([6, 17, 132, 'tcp', 'udp', 'sctp'] as unknown[]).includes(protocol))
        issue(['ports'], `does not go with ${protocol ?? 'any protocol'}`, 'write protocol: tcp, udp or sctp')
      const [first = 0, last = first] = String(ports).split('-').map(Number)
      if (last > 65535 || first > last) issue(['ports'], 'holds no port: they are 1 to 65535')
    }
    const icmp = ([1, 58, 'icmp', 'icmpv6'] as unknown[]).includes(protocol)
    for (const field of ['icmpType', 'icmpCode'] as const)
      if (rule[field] !== undefined && !icmp) issue([field], 'goes with protocol icmp or icmpv6 only')
    if (rule.icmpCode !== undefined && rule.icmpType === undefined)
      issue(['icmpCode'], 'does not go without icmpType', 'write icmpType')
    if (rule.remoteCIDR !== undefined && rule.remoteGroup !== undefined)
      issue(['remoteGroup'], 'does not go with remoteCIDR', 'write two rules')
    const address = rule.remoteCIDR?.split('/')[0] ?? ''
    const families = new Set<string | undefined>([rule.ethertype])
    if (familyOf(address) !== undefined) families.add(address.includes(':') ? 'IPv6' : 'IPv4')
    if (protocol === 'icmpv6' || protocol === 58) families.add('IPv6')
    if (protocol === 1) families.add('IPv4')
    families.delete(undefined)
    if (families.size > 1)
      issue(
        [rule.ethertype === undefined ? 'protocol' : 'ethertype'],
        'is of another family than the rest of the rule',
        'write two rules',
      )
  })

export const securityGroupSpecSchema = z.strictObject({
  rules: z
    .array(groupRuleSchema)
    .max(500)
    .default([])
    .describe(
      'What is let through beside replies. Without an ingress rule nothing comes in, without an egress rule all goes out.',
    ),
})

export const securityGroupSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('SecurityGroup'),
  metadata: tenantMetadataSchema,
  spec: securityGroupSpecSchema,
})

export type SecurityGroup = z.infer<typeof securityGroupSchema>
export type SecurityGroupRule = z.infer<typeof groupRuleSchema>

/** Of every tenant; a port without securityGroups is in it. */
export const defaultGroup = 'default'
