// What the suites of Services over time share: who asks a Service, and changes of its endpoints.
import type { Family } from '../../lib/netlink/types.js'
import { type Asker, type KeptFlow, newFlows, oneFlow } from './service-flows-load.js'
import { endpointsObject, type FlowService, nodePortOf, servicePort } from './service-flows-model.js'
import type { ServiceWorld, StationName } from './service-world.js'
import { families, type Protocol, type Question, type Station } from './service-world-sockets.js'

export interface Client {
  readonly station: Station
  readonly question: Question
}

/** Pods and a node by the cluster IP, ext by the nodePort of B: in both families. */
export function clientsOf(
  world: ServiceWorld,
  service: FlowService,
  protocol: Protocol,
  from: readonly StationName[] = ['ac', 'bc', 'A', 'ext'],
): Client[] {
  return from.flatMap(each =>
    families.map((family: Family): Client => {
      const outside = each === 'ext'
      return {
        station: world.station[each],
        question: {
          protocol,
          to: outside ? world.addressOf('B', family) : service.clusterIP[family],
          port: outside ? nodePortOf(service) : servicePort,
        },
      }
    }),
  )
}

export const fresh = (clients: readonly Client[]): Asker[] =>
  clients.map(({ station, question }) => newFlows(station, question))

export const kept = (clients: readonly Client[]): KeptFlow[] =>
  clients.map(({ station, question }) => oneFlow(station, question))

/** Replaces the endpoints of a Service, object by object; waits until both agents have them in force. */
export function setEndpoints(
  world: ServiceWorld,
  { name }: FlowService,
  ...texts: readonly string[]
): Promise<void> {
  return world.apply(texts.map((text, i) => endpointsObject(world, name, `${name}-${i}`, text)))
}
