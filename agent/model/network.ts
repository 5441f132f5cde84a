// Network: one layer 2 of a tenant, with the subnets on it. Its subnets are fields of it, as far as Neutron's subnet has them:
// cidr, gateway_ip, allocation_pools, enable_dhcp, dns_nameservers, host_routes.
import { z } from 'zod'
import { addressBits, addressToNumber, familyOf } from '../../lib/net/address.js'
import { containsAddress, isNetworkPrefix, lastAddress, overlaps, parsePrefix } from '../../lib/net/prefix.js'
import { ofNobody, prefixSchema, vniSchema } from './cluster.js'
import { issuesOf } from './issue.js'
import { apiVersion, nameSchema, tenantMetadataSchema } from './object.js'
import { hostAddressSchema } from './service.js'

const gatewaySchema = z
  .string()
  .superRefine((text, context) => {
    if (text === 'none') return
    for (const { message } of hostAddressSchema.safeParse(text).error?.issues ?? [])
      issuesOf(context)([], message, 'an address of the subnet, or none')
  })
  .meta({ title: 'address or none' })

/** A route that instances, or a router, are told of. */
export const routeSchema = z.strictObject({
  destination: prefixSchema.describe('Where to.'),
  nextHop: hostAddressSchema.describe('By way of whom.'),
})

export const subnetSchema = z
  .strictObject({
    name: nameSchema.optional().describe('What fixedIPs of a Port may name it by, beside its CIDR.'),
    cidr: prefixSchema.describe('Its addresses.'),
    gateway: gatewaySchema
      .optional()
      .describe(
        'Address of the router on every host; default: the first address of the CIDR; none: no gateway.',
      ),
    pools: z
      .array(
        z.strictObject({
          start: hostAddressSchema.describe('First address.'),
          end: hostAddressSchema.describe('Last address.'),
        }),
      )
      .max(32)
      .optional()
      .describe('What is allocated to ports that ask for no address; default: all but the gateway.'),
    dhcp: z.boolean().default(true).describe('Answer DHCP, and advertise the router of an IPv6 subnet.'),
    dnsServers: z
      .array(hostAddressSchema)
      .max(8)
      .default([])
      .describe('Default: the gateway, where there is one.'),
    hostRoutes: z.array(routeSchema).max(64).default([]).describe('Told by DHCP.'),
  })
  .superRefine((subnet, context) => {
    const issue = issuesOf(context)
    if (!isNetworkPrefix(subnet.cidr)) return
    const cidr = parsePrefix(subnet.cidr)
    const taken = ofNobody.find(prefix => overlaps(prefix, cidr))
    if (taken !== undefined)
      issue(
        ['cidr'],
        `overlaps ${taken.text}, where no port can have an address`,
        'take 10.0.1.0/24, fd00:1::/64',
      )
    if (cidr.length > addressBits[cidr.family] - 2)
      issue(['cidr'], 'has no room for a gateway and a port', `/${addressBits[cidr.family] - 2} or shorter`)
    const of = (path: (string | number)[], address: string): boolean => {
      if (familyOf(address) === undefined) return false
      if (!containsAddress(cidr, address)) {
        issue(path, `is outside ${cidr.text}`)
        return false
      }
      const value = addressToNumber(address)
      const reserved =
        value === cidr.base
          ? 'network'
          : cidr.family === 'inet' && value === lastAddress(cidr)
            ? 'broadcast'
            : undefined
      if (reserved !== undefined) issue(path, `is the ${reserved} address of ${cidr.text}`)
      return reserved === undefined
    }
    const { gateway } = subnet
    if (gateway !== undefined && gateway !== 'none') of(['gateway'], gateway)
    const gatewayValue =
      gateway === 'none' ? undefined : gateway === undefined ? cidr.base + 1n : numberOf(gateway)
    const ranges: { first: bigint; last: bigint }[] = []
    subnet.pools?.forEach(({ start, end }, i) => {
      const fits = [of(['pools', i, 'start'], start), of(['pools', i, 'end'], end)]
      if (fits.includes(false)) return
      const range = { first: addressToNumber(start), last: addressToNumber(end) }
      if (range.first > range.last) issue(['pools', i], 'ends before it starts', 'swap start and end')
      if (gatewayValue !== undefined && gatewayValue >= range.first && gatewayValue <= range.last)
        issue(
          ['pools', i],
          gateway === undefined
            ? 'holds the first address of the CIDR, which is the gateway where none is given'
            : `holds the gateway ${gateway}`,
          'leave the gateway out of the pools, or write gateway: none',
        )
      if (ranges.some(other => range.first <= other.last && other.first <= range.last))
        issue(['pools', i], 'overlaps another pool', 'one pool for each range')
      ranges.push(range)
    })
    const family = (path: (string | number)[], address: string): void => {
      const own = address.includes(':') ? 'inet6' : 'inet'
      if (own !== cidr.family) issue(path, `is of another family than ${cidr.text}`)
    }
    for (const [i, address] of subnet.dnsServers.entries()) family(['dnsServers', i], address)
    subnet.hostRoutes.forEach(({ destination, nextHop }, i) => {
      family(['hostRoutes', i, 'destination'], destination)
      family(['hostRoutes', i, 'nextHop'], nextHop)
    })
  })

const numberOf = (text: string): bigint | undefined =>
  familyOf(text) === undefined ? undefined : addressToNumber(text)

export const networkSpecSchema = z
  .strictObject({
    type: z
      .enum(['vxlan', 'routed'])
      .default('vxlan')
      .describe(
        'vxlan: one VNI; routed: no encapsulation, each address announced by its host, unique over all such networks.',
      ),
    vni: vniSchema.optional().describe("Out of the Cluster's vniRange; allocated if absent."),
    mtu: z
      .int()
      .min(576)
      .max(65535)
      .optional()
      .describe(
        'MTU of its ports, bytes; default: the smallest underlay of all hosts less the encapsulation.',
      ),
    subnets: z.array(subnetSchema).max(16).default([]).describe('Its subnets; none: layer 2 only.'),
    shared: z
      .boolean()
      .default(false)
      .describe('Ports of other tenants may be on it, as "network: tenant/name".'),
  })
  .superRefine((spec, context) => {
    const issue = issuesOf(context)
    if (spec.type === 'routed' && spec.vni !== undefined)
      issue(['vni'], 'is for networks of type vxlan: a routed one has no encapsulation', 'leave vni out')
    if (spec.type === 'routed')
      spec.subnets.forEach(({ gateway }, i) => {
        if (gateway !== 'none') return
        issue(
          ['subnets', i, 'gateway'],
          'cannot be none in a network of type routed: nobody but the gateway is on its links',
          'leave it out: the first address of the CIDR',
        )
      })
    const names = new Set<string>()
    spec.subnets.forEach(({ name, cidr }, i) => {
      if (name !== undefined && names.has(name))
        issue(
          ['subnets', i, 'name'],
          'is the name of another subnet',
          'names of subnets are unique in a Network',
        )
      names.add(name ?? '')
      if (!isNetworkPrefix(cidr)) return
      const prefix = parsePrefix(cidr)
      const other = spec.subnets
        .slice(0, i)
        .find(each => isNetworkPrefix(each.cidr) && overlaps(parsePrefix(each.cidr), prefix))
      if (other !== undefined)
        issue(
          ['subnets', i, 'cidr'],
          `overlaps subnet ${other.cidr}`,
          'subnets of one Network share no address',
        )
      if (prefix.family === 'inet6' && spec.mtu !== undefined && spec.mtu < 1280)
        issue(
          ['subnets', i, 'cidr'],
          `needs an MTU of 1280 or more, and mtu is ${spec.mtu}`,
          'RFC 8200 §5: a larger mtu',
        )
    })
  })

export const networkSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Network'),
  metadata: tenantMetadataSchema,
  spec: networkSpecSchema,
})

export type Network = z.infer<typeof networkSchema>
