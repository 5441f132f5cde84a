// Endpoints: where a Service without a selector leads, written by hand or by somebody else's controller; the fields of
// Kubernetes' discovery/v1 EndpointSlice. Several may name one Service.
import { z } from 'zod'
import { portSchema } from './cluster.js'
import { apiVersion, nameSchema, namespacedMetadataSchema } from './object.js'
import { endpointAddressesSchema, portNameSchema, protocolSchema } from './service.js'

export const endpointSchema = z.strictObject({
  addresses: endpointAddressesSchema,
  nodeName: nameSchema.optional().describe('The node that it runs on, for the policies Local.'),
  zone: z.string().max(63).optional().describe('Kept and shown; it steers nothing.'),
  ready: z.boolean().default(true).describe('Gets new connections.'),
  serving: z.boolean().optional().describe('Answers, even while it terminates; default: ready.'),
  terminating: z
    .boolean()
    .default(false)
    .describe('On its way out: used only while no endpoint is ready, and if it is serving.'),
})

export const endpointsSpecSchema = z.strictObject({
  service: nameSchema.describe('Service of the same namespace.'),
  endpoints: z.array(endpointSchema).max(10_000).default([]).describe('Where connections go.'),
  ports: z
    .array(
      z.strictObject({
        name: portNameSchema.optional().describe("The Service's port of that name."),
        protocol: protocolSchema.default('TCP'),
        port: portSchema.describe('Port that the endpoints listen on.'),
      }),
    )
    .max(250)
    .default([])
    .describe("Ports of the endpoints, as the Service names them; none: the Service's targetPorts."),
})

export const endpointsSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Endpoints'),
  metadata: namespacedMetadataSchema,
  spec: endpointsSpecSchema,
})

export type Endpoints = z.infer<typeof endpointsSchema>
export type Endpoint = z.infer<typeof endpointSchema>
