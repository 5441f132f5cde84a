// Services over time, with real packets, in every proxy mode: affinity, how evenly load is spread, connection tracking,
// connections through changes and restarts of agents, rolling updates, and walks from any set of Services to any other.
import t, { type Test } from 'tap'
import type { Family } from '../../lib/netlink/types.js'
import { affinityAnew, affinityOfOnePort } from '../support/service-flows-affinity.js'
import {
  beforeTheService,
  leftAfterSwitch,
  lingeringFlows,
  sctpFlows,
  udpFlows,
} from '../support/service-flows-changes.js'
import { chiSquare, chiSquareOfFive, countAnswers, startLoad, tell } from '../support/service-flows-load.js'
import { flowService, objectsOf, refsOf } from '../support/service-flows-model.js'
import { openServicePlace, proxyModes } from '../support/service-flows-place.js'
import { clientsOf, flowIds, fresh, kept, setEndpoints, wanderers } from '../support/service-flows-state.js'
import type { StationName } from '../support/service-world.js'
import { families } from '../support/service-world-sockets.js'

const modes = proxyModes
const world = await openServicePlace('state')

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
const places: readonly StationName[] = ['ac', 'bc', 'A', 'B', 'ext']

async function affinity(t: Test): Promise<void> {
  const service = flowService('sticky', 41, {
    endpoints: 'a1 a2 b1',
    spec: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 3 } } },
  })
  await world.apply(objectsOf(world, service))
  const clients = (['tcp', 'udp'] as const).flatMap(protocol => clientsOf(world, service, protocol, places))
  const all = (): Promise<string[]> =>
    Promise.all(clients.map(async ({ station, question }) => tell(await station.ask(question))))
  const first = await all()
  for (let i = 0; i < 20; i += 1) {
    t.same(await all(), first, `the same endpoints, question ${i + 2}`)
    // Longer than the timeout in all: every question begins it anew.
    await pause(160)
  }
  await pause(3_300)
  const second = await all()
  t.notSame(second, first, 'free again after the timeout')
  await setEndpoints(world, service, 'a2 b1')
  const third = await all()
  t.same(
    third.map((answer, i) => answer === second[i] || second[i] === 'a1:8080'),
    third.map(() => true),
    'who is stuck to one that stays is not moved',
  )
  t.notOk(third.includes('a1:8080'), 'nobody is sent to one that has left')
  t.same(await all(), third, 'who had to move stays where it is now')
  await world.remove(refsOf(service))
}

async function spread(t: Test, mode: string): Promise<void> {
  const service = flowService('spread', 42, { endpoints: ['a1/8080 a2 b1', 'a1/8081 b1'] })
  await world.apply(objectsOf(world, service))
  for (const [protocol, total] of [
    ['tcp', 6_000],
    ['udp', 4_000],
  ] as const) {
    const [client] = clientsOf(world, service, protocol, ['ac'])
    const counts = await countAnswers(fresh(client === undefined ? [] : [client]), total)
    const text = JSON.stringify(Object.fromEntries(counts))
    t.same(
      [...counts.keys()].sort(),
      ['a1:8080', 'a1:8081', 'a2:8080', 'b1:8080', 'b1:8081'],
      `${protocol}: ${text}`,
    )
    if (mode === 'userspace') {
      const [most, least] = [Math.max(...counts.values()), Math.min(...counts.values())]
      t.ok(most - least <= 1, `${protocol}: in turns: ${text}`)
    } else {
      const chi = chiSquare([...counts.values()])
      t.ok(
        chi < chiSquareOfFive.most && chi > chiSquareOfFive.least,
        `${protocol}: chi-square ${chi.toFixed(2)}`,
      )
    }
  }
  await world.remove(refsOf(service))
}

/** How often the agent of A has read back what stands of Services, by table. */
async function listings(): Promise<readonly number[]> {
  const { tables } = await world.client.A.status()
  return tables
    .filter(({ name }) => ['element', 'proxy', 'service', 'service-iptables'].includes(name))
    .map(({ observed }) => observed)
}

async function throughRestarts(t: Test, mode: string): Promise<void> {
  const service = flowService('steady', 45, { endpoints: 'a1 b1' })
  const other = flowService('busy', 46, { endpoints: 'a2' })
  await world.apply([...objectsOf(world, service), ...objectsOf(world, other)])
  const tcp = clientsOf(world, service, 'tcp', places)
  const udp = clientsOf(world, service, 'udp', places)
  const flows = [...kept(tcp), ...kept(udp)]
  const load = startLoad(flows, 40)
  await pause(50)
  const ports = flows.slice(-udp.length, 2 - udp.length).map(({ port }) => port)
  const ids = await flowIds(world, ports)
  t.equal(ids.length, 2, 'conntrack knows the flows of ac')
  const looks = await listings()
  for (const text of ['a2 b1', 'b1', '', 'a1 a2 b1']) await setEndpoints(world, other, text)
  // The drift timer may have looked at each of them once meanwhile.
  const more = (await listings()).map((count, i) => count - (looks[i] ?? 0))
  t.ok(
    more.every(count => count <= 1),
    `changes of endpoints list no rules: ${more.join(' ')}`,
  )
  await setEndpoints(world, service, 'a1 a2 b1')
  await setEndpoints(world, service, 'a1 b1')
  t.same(wanderers(load), [], 'every flow stays where it is while other endpoints come and go')
  // What runs through the proxy ends with it.
  const proxied = mode === 'userspace'
  if (proxied) t.same(await load.stop(), [])
  const news = startLoad(fresh([...tcp, ...udp]), proxied ? 80 : 40)
  for (const how of ['SIGKILL', 'SIGTERM'] as const) {
    await Promise.all([world.agent.A.stop(how), world.agent.B.stop(how)])
    await pause(100)
    await Promise.all([world.start('A'), world.start('B')])
  }
  const lost = await news.stop()
  if (proxied) {
    t.comment(`${lost.length} of ${news.seen.length} new connections were refused while warrend was down`)
    t.ok(lost.length < news.seen.length)
  } else {
    t.same(lost, [], `${news.seen.length} new connections`)
    t.same(await load.stop(), [], `${load.seen.length} exchanges of established connections`)
    t.same(wanderers(load), [])
    t.same(await flowIds(world, ports), ids, 'their flows are the same to conntrack')
  }
  for (const flow of flows) flow.close()
  await world.remove([...refsOf(service), ...refsOf(other)])
}

/** From mode to mode: connections that never ran through the proxy, and new ones. */
async function modeSwitches(t: Test): Promise<void> {
  await world.cluster({ proxyMode: modes[0] ?? '' })
  const service = flowService('switched', 48, { endpoints: 'a1 a2 b1' })
  await world.apply(objectsOf(world, service))
  const tcp = clientsOf(world, service, 'tcp', places)
  const udp = clientsOf(world, service, 'udp', places)
  const flows = [...kept(tcp), ...kept(udp)]
  const load = startLoad(flows, 40)
  const news = startLoad(fresh([...tcp, ...udp]), 40)
  await pause(100)
  for (const proxyMode of [...modes, ...modes].slice(1)) {
    await world.cluster({ proxyMode })
    await pause(100)
  }
  await world.cluster({ proxyMode: modes[0] ?? '' })
  await pause(100)
  t.same(await news.stop(), [], `${news.seen.length} new connections`)
  t.same(await load.stop(), [], `${load.seen.length} exchanges of established connections`)
  t.same(wanderers(load), [])
  for (const flow of flows) flow.close()
  await world.remove(refsOf(service))
}

async function rollingUpdate(t: Test): Promise<void> {
  const service = flowService('rolling', 47, { endpoints: ['a1/8080 a2 b1', 'a1/8081:gone'] })
  await world.apply(objectsOf(world, service))
  const load = startLoad(
    fresh([...clientsOf(world, service, 'tcp', places), ...clientsOf(world, service, 'udp', places)]),
    5,
  )
  await pause(100)
  const gone: { readonly end: string; readonly at: number }[] = []
  // For a while there is nobody but those who leave.
  await setEndpoints(world, service, 'a1:leaving a2:leaving b1:leaving')
  await pause(50)
  const old = ['a1', 'a2', 'b1']
  const young: string[] = []
  for (const pod of ['a1', 'a2', 'b1']) {
    const set = (state: string, added: string): Promise<void> =>
      setEndpoints(
        world,
        service,
        old.map(each => (each === pod ? `${each}${state}` : each)).join(' '),
        ['a1/8081:gone', ...young, added].filter(text => text !== '').join(' '),
      )
    await set(':leaving', '')
    await set(':leaving', `${pod}:down`)
    await set(':leaving', pod)
    old.splice(old.indexOf(pod), 1)
    young.push(pod)
    await set('', '')
    gone.push({ end: `${pod}:8080`, at: performance.now() })
  }
  await pause(100)
  t.same(await load.stop(), [], `${load.seen.length} requests`)
  t.same(
    gone.flatMap(({ end, at }) =>
      load.seen.filter(({ answer, at: asked }) => asked > at && tell(answer) === end).map(({ who }) => who),
    ),
    [],
    'nobody is sent to an endpoint that has gone',
  )
  const last = load.seen
    .slice(-100)
    .flatMap(({ answer }) => (answer.kind === 'answered' ? [tell(answer)] : []))
  t.same([...new Set(last)].sort(), ['a1:8081', 'a2:8081', 'b1:8081'])
  await world.remove(refsOf(service))
}

/** What a load balancer asks of A knows of a change before the rules have it: it sends nobody where nobody is any more. */
async function healthFirst(t: Test): Promise<void> {
  const healthCheckNodePort = 30_777
  const service = flowService('watched', 50, {
    endpoints: 'a1 a2 b1',
    lb: 50,
    spec: { externalTrafficPolicy: 'Local', healthCheckNodePort },
  })
  await world.apply(objectsOf(world, service))
  const asked = (family: Family): string => {
    const host = world.addressOf('A', family)
    const url = `http://${family === 'inet6' ? `[${host}]` : host}:${healthCheckNodePort}/`
    return world.ext.sh(`curl -s --max-time 2 -g -w ' %{http_code}' '${url}' | tr -d '\\n'`)
  }
  const [client] = clientsOf(world, service, 'tcp', ['ext'])
  const throughA = async (): Promise<string> => {
    if (client === undefined) return ''
    const question = { ...client.question, to: world.addressOf('A', 'inet'), ms: 500 }
    return tell(await client.station.ask(question))
  }
  for (const family of families) t.match(asked(family), /"localEndpoints":2.* 200$/, family)
  for (const [endpoints, status, answer] of [
    ['a1:down a2:down b1', / 503$/, /^dropped/],
    ['a1 a2:down b1', /"localEndpoints":1.* 200$/, /^a1:/],
    ['b1', / 503$/, /^dropped/],
  ] as const) {
    const after = (await world.client.A.events()).at(-1)?.id ?? 0
    await setEndpoints(world, service, endpoints)
    t.match(asked('inet'), status, `${endpoints}: ${status}`)
    t.match(await throughA(), answer, `${endpoints}: a client from outside: ${answer}`)
    const written = (await world.client.A.events(after)).map(({ table }) => table)
    const health = written.indexOf('health')
    const rules = written.findIndex(table => ['proxy', 'service', 'service-iptables'].includes(table))
    t.ok(
      health >= 0 && rules > health,
      `${endpoints}: the answer first, then the rules: ${written.join(' ')}`,
    )
  }
  await world.remove(refsOf(service))
}

for (const proxyMode of modes) {
  t.test(proxyMode, { timeout: 300_000 }, async t => {
    await world.cluster({ proxyMode })
    t.jobs = 2
    const own = { buffered: true }
    const waits = t.test('affinity', own, affinity)
    const works = t.test('flows', own, async t => {
      await t.test('load is spread', t => spread(t, proxyMode))
      await t.test('UDP flows follow the endpoints', t => udpFlows(t, world))
      if (proxyMode !== 'userspace') await t.test('SCTP flows follow the endpoints', t => sctpFlows(t, world))
      await t.test('what began before the Service', t => beforeTheService(t, world))
    })
    await Promise.all([waits, works])
    await t.test('UDP flows of endpoints that serve stay', t => lingeringFlows(t, world))
    await t.test('affinity of one port', t => affinityOfOnePort(t, world, proxyMode))
    await t.test('affinity begins anew', t => affinityAnew(t, world))
    await t.test('changes and restarts', t => throughRestarts(t, proxyMode))
    await t.test('rolling update', rollingUpdate)
    await t.test('health checks', healthFirst)
  })
}
t.test('from mode to mode', { timeout: 120_000 }, modeSwitches)
t.test('an endpoint that leaves after a switch', { timeout: 120_000 }, t =>
  leftAfterSwitch(
    t,
    world,
    modes.flatMap(from => modes.filter(to => to !== from).map(to => [from, to] as const)),
  ),
)
