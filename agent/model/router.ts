// Router: routes between the networks of a tenant, on every host that has a port of one of them.
import { z } from 'zod'
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
    const twice = (field: 'networks' | 'routes', values: readonly string[]): void =>
      values.forEach((value, i) => {
        if (values.indexOf(value) === i) return
        const params = { hint: 'one entry is enough' }
        context.addIssue({ code: 'custom', path: [field, i], message: 'is there twice', params })
      })
    twice('networks', spec.networks)
    twice(
      'routes',
      spec.routes.map(({ destination }) => destination),
    )
    spec.routes.forEach(({ destination, nextHop }, i) => {
      if (destination.includes(':') === nextHop.includes(':')) return
      const message = `is of another family than ${destination}`
      context.addIssue({ code: 'custom', path: ['routes', i, 'nextHop'], message })
    })
  })

export const routerSchema = z.strictObject({
  apiVersion: z.literal(apiVersion),
  kind: z.literal('Router'),
  metadata: tenantMetadataSchema,
  spec: routerSpecSchema,
})

export type Router = z.infer<typeof routerSchema>
