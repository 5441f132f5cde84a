// What a change of a Service may not do to those who are with an endpoint of it, and what it must: with real packets.
import type { Test } from 'tap'
import { tell } from './service-flows-load.js'
import { flowService, nodePortOf, objectsOf, refsOf, servicePort } from './service-flows-model.js'
import { clientsOf, fresh, kept, setEndpoints } from './service-flows-state.js'
import { externalAddress, type ServiceWorld, type StationName } from './service-world.js'
import { families } from './service-world-sockets.js'

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
const places: readonly StationName[] = ['ac', 'bc', 'A', 'B', 'ext']

export async function udpFlows(t: Test, world: ServiceWorld): Promise<void> {
  const service = flowService('flows', 43, { endpoints: 'a1 a2 b1' })
  await world.apply(objectsOf(world, service))
  const clients = clientsOf(world, service, 'udp', places)
  const flows = kept([...clients, ...clients, ...clients])
  const all = (): Promise<string[]> => Promise.all(flows.map(async flow => tell(await flow.ask())))
  const first = await all()
  t.same([...new Set(first)].sort(), ['a1:8080', 'a2:8080', 'b1:8080'])
  t.same(await all(), first, 'a flow stays')
  await setEndpoints(world, service, 'a2 b1')
  const second = await all()
  t.same(
    second.filter((answer, i) => answer !== first[i] && first[i] !== 'a1:8080'),
    [],
    'flows of endpoints that live are not touched',
  )
  t.same([...new Set(second)].sort(), ['a2:8080', 'b1:8080'], 'the others go to one that lives, at once')
  await setEndpoints(world, service, '')
  const since = performance.now()
  t.same([...new Set(await all())], ['refused (ECONNREFUSED)'], 'nobody left: refused')
  t.ok(performance.now() - since < 1000, 'at once')
  await setEndpoints(world, service, 'b1')
  t.same([...new Set(await all())], ['b1:8080'], 'and served again')
  for (const flow of flows) flow.close()
  await world.remove(refsOf(service))
}

export async function sctpFlows(t: Test, world: ServiceWorld): Promise<void> {
  const service = flowService('init', 49, { endpoints: 'a1 b1' })
  await world.apply(objectsOf(world, service))
  const flows = clientsOf(world, service, 'sctp', places).flatMap(client => {
    const ports = [1, 2, 3].map(() => client.station.nextPort())
    return ports.map(fromPort => ({ ...client, question: { ...client.question, fromPort } }))
  })
  const all = (): Promise<string[]> =>
    Promise.all(flows.map(async ({ station, question }) => tell(await station.ask(question))))
  const first = await all()
  t.same([...new Set(first)].sort(), ['a1:8080', 'b1:8080'])
  t.same(await all(), first, 'a flow stays')
  await setEndpoints(world, service, 'b1')
  t.same([...new Set(await all())], ['b1:8080'], 'of an endpoint that has left it goes to another')
  await world.remove(refsOf(service))
}

export async function beforeTheService(t: Test, world: ServiceWorld): Promise<void> {
  const service = flowService('late', 44, { endpoints: 'b1', x: 30 })
  const flows = families.flatMap(family => [
    ...kept([
      {
        station: world.station.ext,
        question: { protocol: 'udp', to: world.addressOf('A', family), port: nodePortOf(service) },
      },
      {
        station: world.station.ac,
        question: { protocol: 'udp', to: externalAddress(30)[family], port: servicePort },
      },
    ]),
  ])
  for (const flow of flows) t.not((await flow.ask(100)).kind, 'answered', `${flow.who}: nobody is there yet`)
  // The first SYN goes out untranslated; the kernel sends it again after a second, then after three.
  const syns = families.map(family =>
    world.station.ac
      .ask({ protocol: 'tcp', to: externalAddress(30)[family], port: servicePort, ms: 8_000 })
      .then(tell),
  )
  await pause(50)
  await world.apply(objectsOf(world, service))
  t.same(
    await Promise.all(flows.map(async flow => tell(await flow.ask()))),
    flows.map(() => 'b1:8080'),
    'UDP flows from before are taken over',
  )
  t.same(await Promise.all(syns), ['b1:8080', 'b1:8080'], 'a SYN from before does not stick')
  for (const flow of flows) flow.close()
  await world.remove(refsOf(service))
}

/** An endpoint that serves keeps its UDP flows, whatever is sent to it that is new; kube-proxy's conntrack cleanup does so. */
export async function lingeringFlows(t: Test, world: ServiceWorld): Promise<void> {
  const named = (spec: Readonly<Record<string, unknown>>): ReturnType<typeof flowService> =>
    flowService('linger', 51, { endpoints: 'a1 b1', spec })
  const service = named({})
  await world.apply(objectsOf(world, service))
  const clients = clientsOf(world, service, 'udp', places)
  const flows = kept([...clients, ...clients])
  const all = (): Promise<string[]> => Promise.all(flows.map(async flow => tell(await flow.ask())))
  const news = async (): Promise<string[]> => {
    const answers = await Promise.all(fresh([...clients, ...clients]).map(each => each.ask()))
    return [...new Set(answers.map(tell))].sort()
  }
  const first = await all()
  t.same([...new Set(first)].sort(), ['a1:8080', 'b1:8080'])
  await setEndpoints(world, service, 'a1 b1:leaving')
  t.same(await all(), first, 'one that terminates while another is ready keeps its flows')
  t.same(await news(), ['a1:8080'], 'and gets no new ones')
  await setEndpoints(world, service, 'a1 b1:serving')
  t.same(await all(), first, 'so does one that is not ready, but serves')
  await setEndpoints(world, service, 'a1 b1')
  const [, changed] = objectsOf(world, named({ internalTrafficPolicy: 'Local' }))
  await world.apply([changed as object])
  t.same(await all(), first, 'one that a policy leaves out keeps its flows')
  await setEndpoints(world, service, 'a1 b1:leaving')
  await setEndpoints(world, service, 'a1')
  await world.apply(objectsOf(world, service).slice(1))
  t.same([...new Set(await all())], ['a1:8080'], 'when it is gone they go to another, at once')
  for (const flow of flows) flow.close()
  await world.remove(refsOf(service))
}

/** A flow from before a switch of modes is cleaned up like others when its endpoint leaves. */
export async function leftAfterSwitch(
  t: Test,
  world: ServiceWorld,
  switches: readonly (readonly [string, string])[],
): Promise<void> {
  const service = flowService('left', 53, { endpoints: 'b1' })
  for (const [from, to] of switches) {
    await world.cluster({ proxyMode: from })
    await world.apply(objectsOf(world, service))
    const flows = kept(clientsOf(world, service, 'udp', places))
    const all = async (): Promise<string[]> => [
      ...new Set(await Promise.all(flows.map(async flow => tell(await flow.ask())))),
    ]
    t.same(await all(), ['b1:8080'], from)
    await world.cluster({ proxyMode: to })
    t.same(await all(), ['b1:8080'], `${from} to ${to}`)
    await setEndpoints(world, service, 'a1')
    t.same(await all(), ['a1:8080'], `${from} to ${to}: of an endpoint that has left, to another`)
    for (const flow of flows) flow.close()
  }
  await world.remove(refsOf(service))
}
