// Service: a stable address in front of endpoints, field by field as Kubernetes has it (v1 Service), but that only the
// lists `clusterIPs` and `loadBalancerIPs` exist, not their singulars.
import { z } from 'zod'
import { canonicalAddress, familyOf, isLinkLocal, isUnicast } from '../../lib/net/address.js'
import { portSchema, prefixSchema } from './cluster.js'
import { issuesOf } from './issue.js'
import { apiVersion, labelsSchema, namespacedMetadataSchema } from './object.js'

export const protocolSchema = z.enum(['TCP', 'UDP', 'SCTP']).describe('Transport protocol.')

/** IANA service name, as Kubernetes wants names of ports (RFC 6335 §5.1). */
export const portNameSchema = z
  .string()
  .regex(
    /^(?=[^a-z]*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/,
    'must be lower-case letters, digits and "-", at least one letter',
  )
  .max(15)
  .meta({ title: 'port name' })

/** An address that packets may be sent to from anywhere in the cluster. */
export const hostAddressSchema = z
  .string()
  .superRefine((text, context) => {
    const message = addressFault(text)
    if (message !== undefined) issuesOf(context)([], message)
  })
  .meta({ title: 'address' })

function addressFault(text: string): string | undefined {
  const family = familyOf(text)
  if (family === undefined || !isUnicast(text)) return 'is not a unicast address'
  if (isLinkLocal(text)) return 'is a link-local address: no other host can reach it'
  // ::ffff:0:0/96: on the wire it would be IPv4.
  const mapped = family === 'inet6' && canonicalAddress(text).startsWith('::ffff:')
  return mapped ? 'is an IPv4 address written as IPv6: write the IPv4 address' : undefined
}

/** Of endpoints: one address, or one of each family. */
export const endpointAddressesSchema = z
  .array(hostAddressSchema)
  .min(1)
  .max(2)
  .superRefine(([first = '', second], context) => {
    if (second !== undefined && familyOf(first) === familyOf(second))
      issuesOf(context)(
        [1],
        'is of the same family as the first',
        'one address of each family; write another endpoint for it',
      )
  })
  .describe('One, or one of each family.')

export const servicePortSchema = z.strictObject({
  name: portNameSchema.optional().describe('Required when there are several ports.'),
  protocol: protocolSchema.default('TCP'),
  port: portSchema.describe('Port of the cluster IP.'),
  targetPort: z
    .union([portSchema, portNameSchema])
    .optional()
    .describe('Port of the endpoints, or the name of a port of the pods; default: port.'),
  nodePort: portSchema
    .optional()
    .describe('Port of every node (types NodePort and LoadBalancer); allocated if absent.'),
})

export const serviceSpecSchema = z
  .strictObject({
    type: z
      .enum(['ClusterIP', 'NodePort', 'LoadBalancer'])
      .default('ClusterIP')
      .describe('Each has what those before it have: a cluster IP, a port of every node, loadBalancerIPs.'),
    clusterIPs: z
      .array(z.union([z.literal('None'), hostAddressSchema]))
      .max(2)
      .optional()
      .describe('Out of serviceCIDRs, one of a family; allocated if absent; None: headless.'),
    ipFamilyPolicy: z
      .enum(['SingleStack', 'PreferDualStack', 'RequireDualStack'])
      .default('SingleStack')
      .describe('Of how many families cluster IPs are allocated.'),
    ipFamilies: z
      .array(z.enum(['IPv4', 'IPv6']))
      .min(1)
      .max(2)
      .optional()
      .describe(
        'Families of its cluster IPs; default: those of clusterIPs, else of the first of serviceCIDRs.',
      ),
    ports: z.array(servicePortSchema).max(250).default([]).describe('What it listens on.'),
    selector: labelsSchema
      .optional()
      .describe(
        'Pods of the namespace with these labels are the endpoints, and Ports of routed networks of the tenant of that name.',
      ),
    sessionAffinity: z
      .enum(['None', 'ClientIP'])
      .default('None')
      .describe('ClientIP: connections of one client go to the endpoint of its last one.'),
    sessionAffinityConfig: z
      .strictObject({
        clientIP: z
          .strictObject({
            timeoutSeconds: z
              .int()
              .min(1)
              .max(86_400)
              .default(10_800)
              .describe('Seconds after its last connection that a client is remembered.'),
          })
          .describe('For sessionAffinity: ClientIP.'),
      })
      .optional()
      .describe('How long affinity lasts.'),
    externalTrafficPolicy: z
      .enum(['Cluster', 'Local'])
      .default('Cluster')
      .describe(
        'Local: clients from outside get endpoints of the node that they came to, and keep their address.',
      ),
    internalTrafficPolicy: z
      .enum(['Cluster', 'Local'])
      .default('Cluster')
      .describe('Local: pods and nodes get endpoints of their own node.'),
    healthCheckNodePort: portSchema
      .optional()
      .describe(
        'HTTP 200 or 503 by the number of local endpoints (LoadBalancer with policy Local); allocated if absent.',
      ),
    externalIPs: z
      .array(hostAddressSchema)
      .max(64)
      .default([])
      .describe(
        'Further addresses that it answers on; that packets to them come to a node is your business, or BGP.',
      ),
    loadBalancerIPs: z
      .array(hostAddressSchema)
      .max(64)
      .default([])
      .describe('Addresses of a load balancer (type LoadBalancer); nobody allocates them.'),
    loadBalancerSourceRanges: z
      .array(prefixSchema)
      .max(512)
      .optional()
      .describe(
        'Who may use loadBalancerIPs; absent or empty: everybody. With prefixes of one family only, nobody of the other.',
      ),
  })
  .superRefine((spec, context) => {
    const issue = issuesOf(context)
    const names = new Set<string>()
    const entries = new Set<string>()
    const nodePorts = new Set<string>()
    const published = spec.type !== 'ClusterIP'
    spec.ports.forEach((port, i) => {
      const entry = `${port.protocol} ${port.port}`
      if (entries.has(entry))
        issue(['ports', i, 'port'], `is there twice with ${port.protocol}`, 'one entry is enough')
      entries.add(entry)
      if (spec.ports.length > 1 && port.name === undefined)
        issue(['ports', i, 'name'], 'is required when there are several ports', 'give every port a name')
      if (port.name !== undefined && names.has(port.name))
        issue(['ports', i, 'name'], 'is the name of another port', 'names of ports are unique in a Service')
      names.add(port.name ?? '')
      if (port.nodePort === undefined) return
      if (!published)
        issue(
          ['ports', i, 'nodePort'],
          'does not go with type ClusterIP',
          'write type: NodePort or LoadBalancer',
        )
      const nodePort = `${port.protocol} ${port.nodePort}`
      if (nodePorts.has(nodePort))
        issue(
          ['ports', i, 'nodePort'],
          `is there twice with ${port.protocol}`,
          'leave it out: one is allocated',
        )
      nodePorts.add(nodePort)
    })
    const ips = spec.clusterIPs ?? []
    if (ips.includes('None') && ips.length > 1)
      issue(['clusterIPs'], 'has None beside an address', 'a headless Service has no other')
    if (ips.includes('None') && published)
      issue(['clusterIPs'], `does not go with type ${spec.type}`, 'a headless Service is of type ClusterIP')
    const [oneFamily, otherFamily] = spec.ipFamilies ?? []
    if (oneFamily !== undefined && oneFamily === otherFamily)
      issue(['ipFamilies', 1], 'is there twice', 'one entry is enough')
    ips.forEach((ip, i) => {
      const family = spec.ipFamilies?.[i]
      if (family !== undefined && ip !== 'None' && (familyOf(ip) === 'inet6') !== (family === 'IPv6'))
        issue(['clusterIPs', i], `is not of ${family}, as ipFamilies wants it`, 'correct one of the two')
    })
    if (ips.length === 2 && familyOf(ips[0] ?? '') === familyOf(ips[1] ?? ''))
      issue(['clusterIPs', 1], 'is of the same family as the first', 'one cluster IP of each family')
    if (spec.type !== 'LoadBalancer')
      for (const field of ['loadBalancerIPs', 'loadBalancerSourceRanges'] as const)
        if ((spec[field]?.length ?? 0) > 0)
          issue([field], `does not go with type ${spec.type}`, 'write type: LoadBalancer, or use externalIPs')
    if (spec.sessionAffinityConfig !== undefined && spec.sessionAffinity !== 'ClientIP')
      issue(
        ['sessionAffinityConfig'],
        'does not go with sessionAffinity: None',
        'write sessionAffinity: ClientIP',
      )
    if (
      spec.healthCheckNodePort !== undefined &&
      !(spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local')
    )
      issue(
        ['healthCheckNodePort'],
        'goes with type: LoadBalancer and externalTrafficPolicy: Local only',
        'leave it out',
      )
  })

export const serviceSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Service'),
  metadata: namespacedMetadataSchema,
  spec: serviceSpecSchema,
})

export type Service = z.infer<typeof serviceSchema>
export type ServicePort = z.infer<typeof servicePortSchema>

export const headless = (service: Service): boolean => service.spec.clusterIPs?.includes('None') === true

/** `namespace/name`. */
export const serviceName = (object: {
  readonly metadata: { readonly namespace: string; readonly name: string }
}): string => `${object.metadata.namespace}/${object.metadata.name}`
