// Pod: a workload with addresses, as far as Services select it. Written by the lab, by `warren apply`, by CNI.
import { z } from 'zod'
import { portSchema } from './cluster.js'
import { apiVersion, nameSchema, namespacedMetadataSchema } from './object.js'
import { endpointAddressesSchema, portNameSchema, protocolSchema } from './service.js'

export const podSpecSchema = z.strictObject({
  nodeName: nameSchema.describe('The node that it runs on.'),
  addresses: endpointAddressesSchema,
  ports: z
    .array(
      z.strictObject({
        name: portNameSchema.optional().describe('What a Service may have as its targetPort.'),
        protocol: protocolSchema.default('TCP'),
        port: portSchema.describe('Port that it listens on.'),
      }),
    )
    .max(250)
    .default([])
    .describe('Ports with names, for targetPorts that are names.'),
  ready: z.boolean().default(true).describe('Answers; also while it terminates.'),
  terminating: z.boolean().default(false).describe('On its way out.'),
})

export const podSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Pod'),
  metadata: namespacedMetadataSchema,
  spec: podSpecSchema,
})

export type Pod = z.infer<typeof podSchema>
