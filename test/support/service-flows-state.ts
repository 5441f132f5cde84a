// What the suites of Services over time share: who asks a Service, and changes of its endpoints.
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import type { Family } from '../../lib/netlink/types.js'
import { type Asker, type KeptFlow, type Load, newFlows, oneFlow, tell } from './service-flows-load.js'
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

/** conntrack's ids on A of flows with these UDP source ports: another flow has another id. */
export async function flowIds(world: ServiceWorld, ports: readonly number[]): Promise<number[]> {
  const conntrack = openConntrack(world.hosts.A.netns)
  try {
    const lists = await Promise.all(
      families.map(family => conntrack.list({ family, protocol: 'udp', dport: servicePort })),
    )
    const found = lists.flat().filter(({ original }) => ports.includes(original.sport))
    return found.map(({ id }) => id).sort((a, b) => a - b)
  } finally {
    conntrack.close()
  }
}

/** Flows that did not always have the same answer. */
export function wanderers(load: Load): string[] {
  const ends = new Map<string, Set<string>>()
  for (const { who, answer } of load.seen) ends.set(who, (ends.get(who) ?? new Set()).add(tell(answer)))
  return [...ends].flatMap(([who, answers]) =>
    answers.size === 1 ? [] : `${who}: ${[...answers].join(', ')}`,
  )
}
