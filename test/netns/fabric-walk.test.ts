// Tenants' networks from any state to any other, on a real kernel with a real agent: after each step nothing is left to do by
// a fresh look, at the end nothing is left at all. The containers are namespaces of this test.
import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import t from 'tap'
import {
  type Agent,
  buildPrograms,
  createNetwork,
  killAgents,
  startAgent,
  warren,
} from '../support/agents.js'
import { until } from '../support/netns-world.js'
import { type Random, random } from '../support/random.js'

const programs = await buildPrograms()
const tag = `wt-${process.pid}`
const containers = Array.from({ length: 8 }, (_, i) => `${tag}-c${i}`)
const spaces = `${tag}-f`

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: 'ignore' })
}

const ours = (): readonly string[] => readdirSync('/run/netns').filter(name => name.startsWith(`${spaces}-`))

t.teardown(() => {
  killAgents()
  for (const name of [...containers, ...ours()])
    try {
      // dnsmasq outlives its agent.
      const pids = execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' })
      for (const pid of pids.split('\n').filter(text => text !== '')) process.kill(Number(pid))
      ip('netns', 'delete', name)
    } catch {
      // It was not there.
    }
  programs.remove()
})
for (const name of containers) {
  ip('netns', 'add', name)
  ip('-n', name, 'link', 'set', 'lo', 'up')
}

interface Model {
  readonly refs: readonly string[]
  readonly text: string
  /** Two addresses of this host that may speak: where from, and whom to. */
  readonly talk: readonly { readonly from: string; readonly to: string }[]
}

const networkNames = ['a', 'b', 'c'] as const
const groupNames = ['web', 'db'] as const

/** A random model of tenant red, with values given so that every step is the same again by its seed. */
function modelOf(draw: Random): Model {
  const objects: { readonly kind: string; readonly name: string; readonly spec: unknown }[] = []
  const networks = networkNames.filter(() => draw.next() < 0.7)
  for (const [i, name] of networkNames.entries()) {
    if (!networks.includes(name)) continue
    const six = draw.next() < 0.5 ? [{ cidr: `fd00:0:0:${i + 1}::/64` }] : []
    objects.push({
      kind: 'Network',
      name,
      spec: {
        type: 'vxlan',
        vni: 5000 + i,
        ...(draw.next() < 0.3 ? { mtu: 1300 + draw.below(100) } : {}),
        subnets: [{ cidr: `10.0.${i}.0/24`, dhcp: draw.next() < 0.5 }, ...six],
      },
    })
  }
  if (networks.length > 0 && draw.next() < 0.6)
    objects.push({ kind: 'Router', name: 'r', spec: { networks: networks.filter(() => draw.next() < 0.8) } })
  const groups = groupNames.filter(() => draw.next() < 0.6)
  for (const name of groups)
    objects.push({
      kind: 'SecurityGroup',
      name,
      spec: {
        rules: [
          {
            direction: 'ingress',
            protocol: 'tcp',
            ports: draw.next() < 0.5 ? 8080 : '1000-2000',
            remoteCIDR: '0.0.0.0/0',
          },
          ...(draw.next() < 0.5
            ? [{ direction: 'ingress', remoteGroup: draw.pick([...groups, 'default']) }]
            : []),
        ],
      },
    })
  const plain = new Map<string, string[]>()
  for (const [i, netns] of containers.entries()) {
    const network = draw.pick(networkNames)
    if (!networks.includes(network) || draw.next() < 0.25) continue
    const elsewhere = draw.next() < 0.3
    const number = networkNames.indexOf(network)
    const address = `10.0.${number}.${10 + i}`
    const grouped = groups.length > 0 && draw.next() < 0.4
    const secure = draw.next() < 0.85
    objects.push({
      kind: 'Port',
      name: `p${i}`,
      spec: {
        network,
        fixedIPs: [address],
        mac: `02:00:00:00:0${number}:1${i}`,
        node: elsewhere ? 'h2' : 'h1',
        device: { kind: 'veth', netns, name: 'eth0' },
        portSecurity: secure,
        ...(grouped && secure ? { securityGroups: groups.filter(() => draw.next() < 0.7) } : {}),
        ...(secure && draw.next() < 0.2
          ? { allowedAddressPairs: [{ ip: `10.0.${number}.${100 + i}` }] }
          : {}),
        ...(draw.next() < 0.1 ? { adminState: 'down' } : {}),
      },
    })
    const last = objects.at(-1)?.spec as { readonly adminState?: string }
    if (!elsewhere && !grouped && secure && last.adminState === undefined)
      plain.set(network, [...(plain.get(network) ?? []), `${netns} ${address}`])
  }
  const talk = [...plain.values()].flatMap(ports => {
    const [one, other] = ports
    if (one === undefined || other === undefined) return []
    return [{ from: one.split(' ')[0] ?? '', to: other.split(' ')[1] ?? '' }]
  })
  return {
    refs: objects.map(({ kind, name }) => `${kind.toLowerCase()}/red/${name}`),
    text: objects
      .map(({ kind, name, spec }) =>
        JSON.stringify({ apiVersion: 'warren/v1', kind, metadata: { name, tenant: 'red' }, spec }),
      )
      .map(json => `---\n${json}\n`)
      .join(''),
    talk,
  }
}

/** Ports first, then what they name. */
const order = ['port', 'router', 'securitygroup', 'network']

async function step(agent: Agent, before: readonly string[], model: Model): Promise<void> {
  const gone = before.filter(ref => !model.refs.includes(ref))
  const ports = gone.filter(ref => ref.startsWith('port/'))
  // Rules of groups that go may name each other: first they say nothing.
  for (const ref of gone.filter(each => each.startsWith('securitygroup/'))) {
    const [kind, tenant, name] = ref.split('/')
    await agent.client.apply(
      JSON.stringify({
        apiVersion: 'warren/v1',
        kind: 'SecurityGroup',
        metadata: { name, tenant },
        spec: { rules: [] },
      }),
      String(kind),
    )
  }
  for (const ref of ports) await agent.client.delete(ref)
  const { problems } = await agent.client.apply(model.text, 'walk')
  const bad = problems.find(({ level }) => level === 'error')
  if (bad !== undefined) throw new Error(bad.message)
  const rest = gone.filter(ref => !ports.includes(ref))
  rest.sort((a, b) => order.indexOf(a.split('/')[0] ?? '') - order.indexOf(b.split('/')[0] ?? ''))
  for (const ref of rest) await agent.client.delete(ref)
}

t.test('walk: from any set of networks to any other', { timeout: 300_000 }, async t => {
  const net = createNetwork(programs.dir, 'walk', 1)
  t.teardown(() => net.close())
  const [host] = net.hosts
  if (host === undefined) throw new Error('no host')
  host.configure({ roles: '[fabric]', netnsPrefix: spaces, log: '{ level: info }' })
  const seed = Number(process.env['WALK_SEED'] ?? Date.now() % 100_000)
  t.comment(`seed ${seed} (WALK_SEED)`)
  const draw = random(seed)
  let agent = startAgent(programs, host)
  const answers = (): Promise<unknown> =>
    until(
      () =>
        agent.client.ping().then(
          () => true,
          () => undefined,
        ),
      15_000,
      'the API answers',
    )
  await answers()
  await agent.client.apply(
    '---\n{"apiVersion":"warren/v1","kind":"Tenant","metadata":{"name":"red"}}\n' +
      '---\n{"apiVersion":"warren/v1","kind":"Node","metadata":{"name":"h2"},"spec":{"addresses":["192.0.2.12"],"mtu":1500,"roles":["fabric"]}}\n',
    'walk',
  )
  let refs: readonly string[] = []
  for (let i = 1; i <= 12; i += 1) {
    const model = i === 12 ? { refs: [], text: '', talk: [] } : modelOf(draw)
    await step(agent, refs, model)
    refs = model.refs
    if (i % 4 === 0) {
      await agent.stop('SIGKILL')
      agent = startAgent(programs, host)
      await answers()
    }
    await agent.client.wait(undefined, 10_000).catch(() => undefined)
    await until(
      async () => {
        const there = await agent.client.get('Port')
        return there.length === model.refs.filter(ref => ref.startsWith('port/')).length ? true : undefined
      },
      5000,
      'what was deleted is believed gone',
    )
    let lines: readonly string[] = []
    const left = await until(
      async () => {
        const { ops } = await agent.client.plan().catch(() => ({ ops: [{ line: 'no plan' }] }))
        lines = ops.map(({ line }) => line)
        return ops.length === 0 ? ops : undefined
      },
      10_000,
      () => `step ${i}: nothing left to do, but ${lines.join('; ')}\n${agent.log().slice(-3000)}`,
    ).catch((error: unknown) => [{ line: String(error) }])
    t.same(left, [], `step ${i}, ${model.refs.length} objects: a fresh look finds nothing to do`)
    for (const { from, to } of model.talk)
      t.ok(
        await until(
          () => {
            try {
              ip('netns', 'exec', from, 'ping', '-nqc1', '-W1', to)
              return true
            } catch {
              return undefined
            }
          },
          5000,
          `${from} reaches ${to}`,
        ).catch((error: unknown) => t.comment(String(error))),
        `step ${i}: ${from} reaches ${to}`,
      )
  }
  // Another host's of the same machine, by its names alone one of ours; and one that a killed agent left unmarked.
  ip('netns', 'add', `${spaces}-r-0123456789`)
  ip('-n', `${spaces}-r-0123456789`, 'link', 'set', 'lo', 'alias', 'warren:namespace of net:[1]')
  // What is deleted is believed gone a moment later.
  await until(() => (ours().length === 1 ? true : undefined), 5000, 'no namespace is left').catch(
    () => undefined,
  )
  t.same(ours(), [`${spaces}-r-0123456789`], 'without networks no namespace of ours is left, and others are')
  await agent.stop()
  const { code, text } = await warren(programs, host, '--config', host.config, 'cleanup')
  t.equal(code, 0, text)
  t.equal(host.sh('nft list ruleset; ip -o link show type vxlan').trim(), '')
})
