// Router: routes between the networks of a tenant, on every host that has a port of one of them.
import { z } from 'zod'
import { issuesOf } from './issue.js'
import { routeSchema } from './network.js'
import { apiVersion, nameSchema, tenantMetadataSchema } from './object.js'

export const routerSpecSchema = z
  .strictObject({
    networks: z
      .array(nameSchema)
      .max(256)
      .default([])
      .describe('Networks of the same tenant; each is behind one router at most.'),
    routes: z
      .array(routeSchema)
      .max(256)
      .default([])
      .describe('Beside those to its networks; each by way of an address in one of them.'),
  })
  .superRefine((spec, context) => {
    const issue = issuesOf(context)
    const twice = (field: 'networks' | 'routes', values: readonly string[]): void =>
      values.forEach((value, i) => {
        if (values.indexOf(value) !== i) issue([field, i], 'is there twice', 'one entry is enough')
      })
    twice('networks', spec.networks)
    twice(
      'routes',
      spec.routes.map(({ destination }) => destination),
    )
    spec.routes.forEach(({ destination, nextHop }, i) => {
      if (destination.includes(':') === nextHop.includes(':')) return
      issue(['routes', i, 'nextHop'], `is of another family than ${destination}`)
    })
  })

export const routerSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Router'),
  metadata: tenantMetadataSchema,
  spec: routerSpecSchema,
})

export type Router = z.infer<typeof routerSchema>
