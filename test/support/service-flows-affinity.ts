// Session affinity with real packets: a client has one endpoint of a Service's port as long as that serves, whichever of its
// entry points it asks; and a first packet is never lost for it.
import type { Test } from 'tap'
import { destinationOf } from './service-flows.js'
import { startLoad, tell } from './service-flows-load.js'
import { type FlowService, flowService, objectsOf, refsOf } from './service-flows-model.js'
import { type Client, clientsOf, fresh, setEndpoints } from './service-flows-state.js'
import type { ServiceWorld, StationName } from './service-world.js'
import { families } from './service-world-sockets.js'

const sticking = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } }
/** Shorter than a second: a SYN that was lost is seen. */
const ms = 800

/** Asks `places` in turns, each of `from` with both protocols and families; `check` sees the answers in that order. */
async function askInTurns(
  world: ServiceWorld,
  service: FlowService,
  from: readonly StationName[],
  places: readonly string[],
  check: (answers: readonly string[], what: string) => void,
): Promise<void> {
  for (const station of from)
    for (const protocol of ['tcp', 'udp'] as const)
      for (const family of families) {
        const seen: string[] = []
        for (const place of places) {
          const row = {
            from: station,
            to: service.name + place,
            protocol,
            family,
            expected: 'refused',
          } as const
          const question = destinationOf(world, { [service.name]: service }, row)
          seen.push(tell(await world.station[station].ask({ ...question, ms })))
        }
        check(seen, `${station} ${protocol} ${family}: ${seen.join(' ')}`)
      }
}

const [a1, b1] = ['a1:8080', 'b1:8080']

async function onePort(t: Test, world: ServiceWorld): Promise<void> {
  const service = flowService('oneport', 54, { endpoints: 'a1 a2 b1', x: 54, lb: 55, spec: sticking })
  await world.apply(objectsOf(world, service))
  const ways = ['', '+x', '@A', '+lb']
  // So that it is not by the same turn of each.
  await askInTurns(world, service, ['a1'], [''], () => undefined)
  for (const [i, from] of (['ac', 'a2', 'A'] as const).entries())
    await askInTurns(
      world,
      service,
      [from],
      [...ways.slice(i), ...ways, ...ways.slice(0, i)],
      (seen, what) => {
        t.same([...new Set(seen)], [seen[0]], what)
        t.match(seen[0], /^[ab][12]:8080$/)
      },
    )
  const listed = world.hosts.A.attempt('nft list ruleset; nft -j list ruleset')
  t.match(listed, 'warren', 'nft lists what nobody can write to it')
  await world.remove(refsOf(service))
}

/** What a policy leaves out is nobody's loss: the client has one more, of this node. */
async function policies(t: Test, world: ServiceWorld, sharing: boolean): Promise<void> {
  const outside = { ...sticking, externalTrafficPolicy: 'Local' }
  const here = flowService('stickhere', 56, { endpoints: 'a1 b1', x: 56, spec: outside })
  await world.apply(objectsOf(world, here))
  await askInTurns(world, here, ['ext'], ['', '', '+x', '@A', '+x', ''], (seen, what) => {
    t.equal(seen[1], seen[0], what)
    t.same(seen.slice(2, 5), [a1, a1, a1], what)
    if (sharing) t.equal(seen[5], seen[0], what)
  })
  await setEndpoints(world, here, 'a1')
  await askInTurns(world, here, ['ac', 'A', 'ext'], ['', '', ''], (seen, what) =>
    t.same(seen, [a1, a1, a1], what),
  )
  await setEndpoints(world, here, 'a1:leaving b1')
  await askInTurns(world, here, ['ac', 'A'], ['', '', '@A', ''], (seen, what) =>
    t.same(seen, [b1, b1, b1, b1], what),
  )
  await askInTurns(world, here, ['ext'], ['', '+x', '', '@A', ''], (seen, what) =>
    t.same(seen, [b1, a1, b1, a1, b1], what),
  )
  await world.remove(refsOf(here))

  const inside = { ...sticking, internalTrafficPolicy: 'Local' }
  const inner = flowService('stickinner', 57, { endpoints: 'a1 b1', spec: inside })
  await world.apply(objectsOf(world, inner))
  await askInTurns(world, inner, ['ac', 'a2', 'A'], ['@A', '@A', '', '', '', '@A'], (seen, what) => {
    t.equal(seen[1], seen[0], what)
    t.same(seen.slice(2, 5), [a1, a1, a1], what)
    if (sharing) t.equal(seen[5], seen[0], what)
  })
  await setEndpoints(world, inner, 'a1:leaving b1')
  await askInTurns(world, inner, ['ac', 'a2', 'A'], ['@A', '', '@A', ''], (seen, what) =>
    t.same(seen, [b1, a1, b1, a1], what),
  )
  await world.remove(refsOf(inner))
}

/** An endpoint that left and comes back has no clients. */
async function comesBack(t: Test, world: ServiceWorld): Promise<void> {
  const spec = { ...sticking, externalTrafficPolicy: 'Local' }
  const service = flowService('back', 58, { endpoints: 'a1', x: 58, spec })
  await world.apply(objectsOf(world, service))
  const all = (list: string): Promise<void> =>
    askInTurns(world, service, ['ac', 'A', 'ext'], ['', '+x', '@A', ''], (seen, what) =>
      t.same([...new Set(seen)], [`${list}:8080`], what),
    )
  await all('a1')
  await setEndpoints(world, service, 'a2')
  await all('a2')
  await setEndpoints(world, service, 'a1 a2')
  await all('a2')
  await world.remove(refsOf(service))
}

/** `mode`: iptables has one list of clients per endpoint, as kube-proxy, so what a policy chose may win later where all may be. */
export async function affinityOfOnePort(t: Test, world: ServiceWorld, mode: string): Promise<void> {
  await onePort(t, world)
  await policies(t, world, mode !== 'iptables')
  if (mode !== 'iptables') await comesBack(t, world)
}

/** Who stuck to an endpoint that has left is sent to another by the first packet, whatever became of the affinity meanwhile. */
export async function affinityAnew(t: Test, world: ServiceWorld): Promise<void> {
  const service = (endpoints: string, timeoutSeconds: number): FlowService =>
    flowService('anew', 52, {
      endpoints,
      spec:
        timeoutSeconds === 0
          ? {}
          : { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds } } },
    })
  const clients = (['tcp', 'udp'] as const).flatMap(protocol =>
    clientsOf(world, service('', 0), protocol, ['ac', 'A']),
  )
  const set = (endpoints: string, timeoutSeconds: number): Promise<void> =>
    world.apply(objectsOf(world, service(endpoints, timeoutSeconds)))
  const ask = ({ station, question }: Client): Promise<string> => station.ask({ ...question, ms }).then(tell)
  const expect = async (name: string, what: string): Promise<void> => {
    t.same([...new Set(await Promise.all(clients.map(ask)))], [`${name}:8080`], what)
  }
  await set('b1', 77)
  await expect('b1', 'at first')
  await set('a1', 78)
  await expect('a1', 'another timeout and another endpoint at once')
  await set('a1', 0)
  await set('b1', 0)
  await set('b1', 78)
  await expect('b1', 'affinity off, another endpoint, on again')
  const load = startLoad(fresh(clients), 4)
  for (const name of ['a1', 'b1', 'a1', 'b1', 'a1', 'b1']) await set(name, 78)
  t.same(await load.stop(), [], `${load.seen.length} first packets while the only endpoint changes`)
  await world.remove(refsOf(service('b1', 0)))
  await set('a1', 79)
  await expect('a1', 'deleted and made again')
  await world.remove(refsOf(service('a1', 0)))
}
