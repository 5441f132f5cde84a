// Services in iptables mode on a real kernel, in both variants: the table's seven cases, which variant is taken, and a few
// real packets. Many more of those: test/netns/service-flows.test.ts.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { iptablesProblems, type ProgramFacts, serviceFailures } from '../../agent/api/service-problems.js'
import {
  type ServiceIptablesObject,
  serviceIptablesTable,
} from '../../agent/dataplane/tables/service-iptables.js'
import { familyBases } from '../../agent/model/service-base.js'
import type { ServiceEntry } from '../../agent/model/service-entry.js'
import { systemClock } from '../../lib/clock.js'
import { chooseVariant, type IptablesSign } from '../../lib/iptables/choice.js'
import { type IptablesText, openIptablesText } from '../../lib/iptables/restore.js'
import { IptablesRunner, places } from '../../lib/iptables/run.js'
import type { IptablesVariant } from '../../lib/iptables/types.js'
import type { Family } from '../../lib/netlink/types.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts, type Receipts } from '../../lib/reconcile/receipt.js'
import type { Desired, TableOp } from '../../lib/reconcile/table.js'
import { createWorld, type World } from '../support/netns-world.js'
import { serviceBase, serviceEntry } from '../support/service-entries.js'
import { createServiceNode, type NodeStation } from '../support/service-node.js'
import { families, type Protocol } from '../support/service-world-sockets.js'

t.setTimeout(120_000)
const never = new AbortController().signal
const variants: readonly IptablesVariant[] = ['nft', 'legacy']
const scratch = mkdtempSync(join(tmpdir(), 'wt-svc-ipt-'))
// A lock of our own: this machine's other tests run iptables-legacy too.
process.env['XTABLES_LOCKFILE'] = join(scratch, 'xtables.lock')
t.teardown(() => rmSync(scratch, { recursive: true }))

/** What the host's iptables looks like to us: somebody else's chain says which one it uses. */
const users: Readonly<Record<IptablesVariant, string>> = {
  nft: 'iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER',
  legacy: 'iptables-legacy -N DOCKER-USER; iptables-legacy -A FORWARD -j DOCKER-USER',
}

interface Agent {
  readonly mirror: Mirror<ServiceIptablesObject>
  readonly receipts: Receipts
  readonly table: ReturnType<typeof serviceIptablesTable>
  /** Every iptables-restore since the last pass: "nat :WRN-SVC-C-5 - [0:0]", line by line. */
  readonly written: string[]
  restores: number
  /** What status and describe are told. */
  readonly facts: ProgramFacts
  want(objects: readonly ServiceIptablesObject[]): void
  pass(): Promise<{ readonly ops: readonly TableOp<ServiceIptablesObject>[]; readonly failed: number }>
}

function start(
  world: World,
  objects: readonly ServiceIptablesObject[],
  lockWait = 10,
  over: Partial<IptablesText> = {},
): Agent {
  const text = openIptablesText(world.netns, { lockWait })
  const written: string[] = []
  const restore: IptablesText['restore'] = (place, table, lines) => {
    agent.restores += 1
    for (const line of lines) written.push(`${table} ${line}`)
    return text.restore(place, table, lines)
  }
  const counted = new Proxy(text, {
    get(target, name) {
      if (name === 'restore') return restore
      const value: unknown = Reflect.get({ ...over }, name) ?? Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const receipts = createReceipts()
  const table = serviceIptablesTable(counted)
  const mirror = new Mirror(table, systemClock, receipts)
  const groupsOf = (all: readonly ServiceIptablesObject[]): Desired<ServiceIptablesObject> => {
    const isBase = ({ kind }: ServiceIptablesObject): boolean => kind === 'base'
    const groups = new Map([['cluster/default', all.filter(isBase)]])
    for (const object of all) {
      if (object.kind === 'base' || object.kind === 'stray') continue
      const owner = `service/${object.service}`
      groups.set(owner, [...(groups.get(owner) ?? []), object])
    }
    return groups
  }
  let groups = groupsOf(objects)
  const agent: Agent = {
    mirror,
    receipts,
    table,
    written,
    restores: 0,
    facts: {
      stages: [{ name: 'service-iptables', table }] as never,
      desired: () => ({ 'service-iptables': groups }) as never,
      statuses: () => [mirror.status],
      failureOf: (_table, object) => mirror.failureOf(table.key(object as ServiceIptablesObject)),
    },
    want(next) {
      groups = groupsOf(next)
    },
    async pass() {
      written.length = 0
      agent.restores = 0
      const plan = await mirror.plan(groups, never)
      const failed = (await mirror.execute(plan.writes, never)) + (await mirror.execute(plan.removes, never))
      mirror.settle()
      for (const error of mirror.errors()) t.comment(error.message)
      return { ops: [...plan.writes, ...plan.removes], failed }
    },
  }
  return agent
}

const many = Array.from({ length: 20 }, (_, i) => `10.244.2.${i + 1}:8080`)
const web = serviceEntry('tcp', '10.0.0.5:80', ['10.244.1.2:8080', '10.244.1.3:8080'])
const want: readonly ServiceIptablesObject[] = [
  ...familyBases(serviceBase),
  web,
  serviceEntry('udp', '10.0.0.5:53', []),
  serviceEntry('tcp', '10.0.0.37:80', many, { portName: 'many' }),
  serviceEntry('tcp', '10.0.0.38:80', [], { empty: 'drop' }),
  serviceEntry('sctp', '10.0.4.5:80', ['10.244.1.2:8080']),
  serviceEntry('tcp', '[fd00:10::5]:80', ['[fd00:244:1::2]:8080', '[fd00:244:1::3]:8080'], {
    affinitySeconds: 100,
  }),
  serviceEntry('udp', '[fd00:10::ffff]:65535', ['[fd00:244:1::2]:65535']),
  serviceEntry('tcp', ':30053', ['10.244.1.2:8080', '10.244.1.9:8080']),
  serviceEntry('udp', ':30053', ['10.244.1.2:8080'], { outside: [] }),
  serviceEntry('sctp', ':32767', ['10.244.1.2:8080', '10.244.1.3:8080'], {
    outside: [web.targets[0] as never],
  }),
  serviceEntry('tcp', ':1', []),
  { ...serviceEntry('tcp', ':65535', []), family: 'inet6' },
  serviceEntry('tcp', '203.0.113.5:80', ['10.244.1.2:8080'], {
    kind: 'external',
    sourceRanges: ['198.51.100.0/24', '192.0.2.7/32', '198.51.100.128/25'],
  }),
  serviceEntry('tcp', '203.0.113.6:80', ['10.244.1.2:8080'], { kind: 'external', sourceRanges: [] }),
  serviceEntry('tcp', '203.0.113.7:80', [], { kind: 'external', sourceRanges: ['192.0.2.0/24'] }),
  serviceEntry('udp', '203.0.113.70:80', ['10.244.1.2:8080'], {
    kind: 'external',
    sourceRanges: ['0.0.0.0/0'],
  }),
  serviceEntry('tcp', '[2001:db8::f:5]:80', ['[fd00:244:1::2]:8080'], { kind: 'external', outside: [] }),
]

/** Everything but ours, and tables that nobody has anything in. */
function others(world: World): string {
  const saved = world.sh(
    'for i in iptables ip6tables; do for v in nft legacy; do $i-$v-save 2>/dev/null; done; done | grep -v -e WRN- -e "^#" || :',
  )
  return saved.replace(/\*\w+\n(:[A-Z]+ ACCEPT .*\n)*COMMIT\n/g, '')
}

function ours(world: World, variant: IptablesVariant): string {
  return world.sh(`(iptables-${variant}-save; ip6tables-${variant}-save) 2>/dev/null | grep WRN- || :`)
}

for (const variant of variants) {
  const run = `iptables-${variant} -w`
  t.test(`${variant}: seven cases on a real kernel`, async t => {
    const world = createWorld(`ip link set lo up\n${users[variant]}`)
    t.teardown(() => world.close())
    const first = start(world, want)
    const { ops, failed } = await first.pass()
    t.equal(ops.length, want.length, 'from empty: one op for each')
    t.equal(failed, 0, 'from empty: none fails')
    t.equal(first.restores, 4, 'one restore for each family and table')
    t.equal(first.table.problem, undefined)
    t.same((await first.pass()).ops, [], 'a second pass has nothing to do')
    t.equal(ours(world, variant === 'nft' ? 'legacy' : 'nft'), '', 'nothing in the other variant')

    const restarted = start(world, want)
    t.same(show(restarted, (await restarted.pass()).ops), [], 'a restarted agent adopts: no ops')
    t.equal(restarted.mirror.status.objects, want.length)
    t.equal(restarted.restores, 0)
    const seen = new Map(
      [...(await restarted.table.observe(never))].map(each => [restarted.table.key(each), each]),
    )
    for (const object of want) {
      const found = seen.get(restarted.table.key(object))
      t.ok(found !== undefined && restarted.table.equal(object, found), restarted.table.key(object))
      if (object.kind === 'base' || object.kind === 'stray' || found === undefined) continue
      const { kind, address, port, affinitySeconds } = object
      t.match(found, { kind, address, port, affinitySeconds })
      const { targets, outside } = found as ServiceEntry
      const addresses = (list: typeof targets | undefined) => list?.map(each => each.address).sort()
      if (object.sourceRanges?.length !== 0) t.same(addresses(targets), addresses(object.targets))
      if (object.targets.length > 0) t.same(addresses(outside), addresses(object.outside))
    }

    const all = 'any'
    const masquerades = `leaf=$(${run} -t nat -S | sed -n 's/^-N \\(WRN-SVC-XM-.*\\)/\\1/p' | head -1)`
    const drifts: readonly (readonly [string, number | 'any'])[] = [
      [`${run} -t nat -D PREROUTING 1`, 1],
      [`${run} -t nat -I PREROUTING 1 -j ACCEPT; ${run} -I FORWARD 1 -j ACCEPT`, 1],
      [`${run} -A FORWARD -j WRN-SVC-REFUSE`, 1],
      [`${run} -t nat -D WRN-SVC-C-5-0 1`, 1],
      [`${run} -t nat -A WRN-SVC-C-5-0 -j ACCEPT`, 1],
      [`${run} -t nat -I WRN-SVC-H-2-8 1 -s 10.9.9.9 -j MASQUERADE`, 1],
      [`${run} -t nat -F WRN-SVC-C`, 1],
      [`${run} -N WRN-SVC-OLD; ${run} -A WRN-SVC-OLD -j DROP; ${run} -N WRN-SVC-C-9`, 1],
      [`${run} -t nat -N WRN-SVC-C-9`, 1],
      [`${run} -D WRN-SVC-CIDR -j DROP`, 1],
      [`${run} -t nat -D WRN-SVC-XM -g WRN-SVC-PORT`, 1],
      [`${masquerades}; ${run} -t nat -D $leaf -g WRN-SVC-PORT`, 1],
      [
        `${masquerades}; rule=$(${run} -t nat -S $leaf | sed -n '2s/^-A //p'); ${run} -t nat -D $rule; ${run} -t nat -A $rule`,
        2,
      ],
      [
        `${run} -t nat -F WRN-SVC-C; ${run} -t nat -F WRN-SVC-C-5; ${run} -t nat -F WRN-SVC-C-5-0; ${run} -t nat -X WRN-SVC-C-5-0`,
        all,
      ],
      [`${run} -F`, all],
      [`${run} -t nat -F`, all],
      [`${run} -F; ${run} -X; ${users[variant]}`, all],
      [`${run} -t nat -F; ${run} -t nat -X`, all],
      ...(variant === 'nft' ? ([['nft flush ruleset', want.length]] as const) : []),
    ]
    for (const [hand, expected] of drifts) {
      world.sh(hand)
      restarted.mirror.invalidate({ hand: 'somebody' })
      const repair = await restarted.pass()
      t.equal(repair.failed, 0, `repairs drift: ${hand}`)
      if (expected === 'any') t.ok(repair.ops.length > 0)
      else t.equal(repair.ops.length, expected, show(restarted, repair.ops).join('; '))
      t.match(restarted.receipts.list().at(-1), { hand: 'somebody' }, 'the receipt names the hand')
      const fresh = start(world, want)
      t.same(show(fresh, (await fresh.pass()).ops), [], `all is well after: ${hand}`)
      restarted.mirror.invalidate()
      t.same(show(restarted, (await restarted.pass()).ops), [])
    }
    world.sh(`${run} -D FORWARD -j ACCEPT || :; ${run} -t nat -D PREROUTING -j ACCEPT || :`)

    const orphan = serviceEntry('tcp', '10.0.0.99:80', many)
    const also = start(world, [...want, orphan])
    t.equal((await also.pass()).failed, 0)
    const sweeper = start(world, want)
    t.same(
      (await sweeper.pass()).ops.map(op => op.verb),
      ['remove'],
      'sweeps orphans',
    )
    t.match(sweeper.receipts.list(), [{ cause: 'orphan' }])
    t.notMatch(ours(world, variant), /10\.0\.0\.99/)

    world.sh(`${run} -t nat -N DOCKER; ${run} -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
      ${run} -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE; ${run} -t nat -A DOCKER -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
      ${run} -A INPUT -s 192.0.2.66 -j DROP; ${run} -P FORWARD DROP; ip6tables-${variant} -A INPUT -p icmpv6 -j ACCEPT`)
    const before = others(world)
    const neighbour = start(world, want)
    t.same(show(neighbour, (await neighbour.pass()).ops), [], 'foreign rules are nobody of ours')
    neighbour.want([])
    t.equal((await neighbour.pass()).failed, 0)
    t.equal(others(world), before, 'leaves foreign rules alone while it removes all of its own')
    t.equal(ours(world, variant), '', 'nothing of ours is left')
    neighbour.want(want)
    t.equal((await neighbour.pass()).failed, 0)
    t.equal(others(world), before, 'leaves foreign rules alone while it adds')

    neighbour.want([])
    await neighbour.pass()
    const bad = serviceEntry('tcp', '10.0.0.5:81', ['nonsense:80'])
    neighbour.want([...want.slice(0, 4), bad, ...want.slice(4)])
    const partly = await neighbour.pass()
    t.equal(partly.failed, 1, 'one op fails')
    t.match(
      neighbour.mirror.status,
      { state: 'degraded', error: /^Cannot change .*nonsense/ },
      'and says why',
    )
    t.ok(neighbour.restores <= 6, `the line that was named is left out (${neighbour.restores} restores)`)
    neighbour.want(want)
    t.equal((await neighbour.pass()).failed, 0)
    const survivors = start(world, want)
    t.same(show(survivors, (await survivors.pass()).ops), [], 'one failing op does not stop the others')

    const changed = { ...web, targets: web.targets.slice(1) }
    survivors.want(want.map(object => (object === web ? changed : object)))
    t.equal((await survivors.pass()).failed, 0)
    t.equal(survivors.restores, 1)
    t.same(
      survivors.written.filter(line => !line.startsWith('nat -A')).sort(),
      ['nat :WRN-SVC-C-5-0 - [0:0]', 'nat :WRN-SVC-H-2-8 - [0:0]'],
      'an endpoint that left: its buckets alone are written',
    )
    t.same((await survivors.pass()).ops, [])
    const after = start(
      world,
      want.map(object => (object === web ? changed : object)),
    )
    t.same(show(after, (await after.pass()).ops), [])
  })

  t.test(`${variant}: what is taken away leaves no trace`, async t => {
    const world = createWorld(variant === 'legacy' ? users.legacy : '')
    t.teardown(() => world.close())
    const seen = (): string => others(world) + world.sh('nft list ruleset')
    const before = seen()
    const agent = start(world, want)
    t.equal((await agent.pass()).failed, 0)
    t.not(ours(world, variant), '')
    // One after the other, in an order of their own; what stays is right at every step.
    let left = [...want]
    for (let step = 0; left.length > 0; step += 1) {
      left = left.filter((_, i) => (i * 7 + step) % 3 !== 0)
      agent.want(left)
      t.equal((await agent.pass()).failed, 0)
      const look = start(world, left)
      t.same(show(look, (await look.pass()).ops), [], `${left.length} left`)
    }
    t.equal(seen(), before)
    const idle = start(world, [])
    t.same((await idle.pass()).ops, [])
  })
}

t.test('choose: one variant, by what others use', t => {
  const signs = (
    used: readonly IptablesVariant[],
    missing: readonly IptablesVariant[] = [],
  ): IptablesSign[] =>
    places.map(place => ({
      ...place,
      used: used.includes(place.variant),
      ...(missing.includes(place.variant) ? { missing: `"${place.variant}" is not installed` } : {}),
    }))
  t.same(chooseVariant(signs([]), 'legacy'), { variant: 'legacy' })
  t.same(chooseVariant(signs([]), undefined), { variant: 'nft' })
  t.same(chooseVariant(signs(['legacy']), 'nft'), { variant: 'legacy' })
  t.same(chooseVariant(signs(['nft']), 'legacy'), { variant: 'nft' })
  t.match(chooseVariant(signs(['nft', 'legacy']), 'legacy'), {
    variant: 'legacy',
    problem: /both hold tables/,
  })
  t.same(chooseVariant(signs([], ['nft']), 'nft'), { variant: 'legacy' })
  t.match(chooseVariant(signs(['nft'], ['nft']), 'nft'), {
    variant: undefined,
    problem: /"nft" is not installed/,
  })
  t.match(chooseVariant(signs([], ['nft', 'legacy']), undefined), { variant: undefined })
  t.end()
})

t.test('the host goes over to the other variant, and ours with it', async t => {
  const world = createWorld(users.legacy)
  t.teardown(() => world.close())
  const agent = start(world, want)
  t.equal((await agent.pass()).failed, 0)
  t.not(ours(world, 'legacy'), '')
  t.equal(ours(world, 'nft'), '')
  const text = openIptablesText(world.netns)
  const shape = text.shape()
  t.equal(text.shape(), shape)
  world.sh('iptables-legacy -F FORWARD; iptables-legacy -X DOCKER-USER')
  t.not(text.shape(), shape, 'iptables-legacy sends no notice, but its shape tells')

  world.sh(users.nft)
  agent.mirror.invalidate()
  const moved = await agent.pass()
  t.equal(moved.failed, 0)
  t.same(show(agent, moved.ops).slice(-2), ['remove stray legacy inet', 'remove stray legacy inet6'])
  t.equal(ours(world, 'legacy'), '')
  t.not(ours(world, 'nft'), '')
  t.equal(agent.table.problem, undefined)
  t.same((await agent.pass()).ops, [])

  world.sh('iptables-legacy -A INPUT -s 192.0.2.66 -j DROP')
  agent.mirror.invalidate()
  t.same(show(agent, (await agent.pass()).ops), [], 'both are in use: the name "iptables" decides')
  t.match(agent.table.problem, /iptables-nft and iptables-legacy both hold tables/)
  const both = { level: 'warning', code: 'IPTABLES_BOTH', message: /both hold tables .* go to "nft"/ }
  t.match(iptablesProblems(agent.facts), [{ ...both, about: 'table/service-iptables' }])
  t.match(serviceFailures(agent.facts)(web.service), [{ ...both, about: `service/${web.service}` }])

  // The administrator's name for it: update-alternatives --set iptables /usr/sbin/iptables-legacy
  const bin = mkdtempSync(join(scratch, 'bin-'))
  writeFileSync(join(bin, 'iptables'), '#!/bin/sh\nexec iptables-legacy "$@"\n')
  chmodSync(join(bin, 'iptables'), 0o755)
  const path = process.env['PATH']
  process.env['PATH'] = `${bin}:${path}`
  t.teardown(() => {
    process.env['PATH'] = path
  })
  agent.mirror.invalidate()
  t.equal((await agent.pass()).failed, 0)
  t.equal(ours(world, 'nft'), '')
  t.not(ours(world, 'legacy'), '')

  process.env['PATH'] = bin
  agent.mirror.invalidate()
  agent.want([])
  await agent.pass()
  t.match(agent.mirror.status.error, /is not installed|No such file|ENOENT/)
  t.match(iptablesProblems(agent.facts), [{ level: 'error', about: 'table/service-iptables' }])
})

t.test('no program of either variant: it is said what is missing', async t => {
  const world = createWorld()
  t.teardown(() => world.close())
  const missing = '"iptables-nft-restore" is not installed (package iptables)'
  const signs = places.map((place): IptablesSign => ({ ...place, used: false, missing }))
  const agent = start(world, want, 1, { choose: async () => chooseVariant(signs, undefined) })
  const { ops, failed } = await agent.pass()
  t.equal(failed, ops.length)
  const absent = {
    level: 'error',
    code: 'ENOENT',
    message: `Cannot use iptables: ${missing}`,
    hint: /nftables/,
  }
  t.match(iptablesProblems(agent.facts), [{ ...absent, about: 'table/service-iptables' }])
  t.match(serviceFailures(agent.facts)(web.service), [{ ...absent, about: `service/${web.service}` }])
})

t.test('nobody wants Services: nothing runs', async t => {
  const world = createWorld(`${users.legacy}; ip6tables-nft -N THEIRS; iptables-legacy -t nat -N THEIRS`)
  t.teardown(() => world.close())
  const path = process.env['PATH']
  process.env['PATH'] = '/nonexistent'
  t.teardown(() => {
    process.env['PATH'] = path
  })
  const agent = start(world, [])
  t.same((await agent.pass()).ops, [])
  t.equal(agent.mirror.status.error, undefined)
})

t.test('the lock is held: who has it is told', async t => {
  const world = createWorld(users.legacy)
  t.teardown(() => world.close())
  const holder = spawn('flock', [process.env['XTABLES_LOCKFILE'] ?? '', 'sh', '-c', 'echo held; sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  t.teardown(() => process.kill(-(holder.pid ?? 0), 'SIGKILL'))
  await once(holder.stdout, 'data')
  const agent = start(world, want, 1)
  const { ops, failed } = await agent.pass()
  t.equal(failed, ops.length)
  t.match(agent.mirror.status.error, /xtables lock is held by \w+ \(pid \d+\), waited 1 s/)
  t.match(agent.mirror.errors()[0], { code: 'EBUSY' })
  t.equal(ours(world, 'legacy'), '')
  const busy = { level: 'error', code: 'EBUSY', message: /xtables lock is held by/ }
  t.match(iptablesProblems(agent.facts), [{ ...busy, about: 'table/service-iptables' }])
  t.match(serviceFailures(agent.facts)(web.service), [{ ...busy, about: `service/${web.service}` }])
})

t.test("an entry point that iptables refuses is its own Service's problem", async t => {
  const world = createWorld(users.nft)
  t.teardown(() => world.close())
  const bad = serviceEntry('tcp', '203.0.113.80:80', ['10.244.1.2:70000'], {
    ...{ kind: 'external', service: 'default/bad' },
  })
  const agent = start(world, [...want, bad])
  t.equal((await agent.pass()).failed, 1)
  const refused = { level: 'error', code: 'IPTABLES', message: /70000/ }
  t.match(iptablesProblems(agent.facts), [{ ...refused, about: 'table/service-iptables' }])
  t.match(serviceFailures(agent.facts)('default/bad'), [{ ...refused, about: 'service/default/bad' }])
  t.strictSame(serviceFailures(agent.facts)(web.service), [])
  agent.want(want)
  await agent.pass()
  t.strictSame(iptablesProblems(agent.facts), [])
})

t.test('what iptables refuses: the line, and its number', async t => {
  const world = createWorld()
  t.teardown(() => world.close())
  const runner = new IptablesRunner(world.netns, 1)
  for (const place of places) {
    const text = '*filter\n:WRN-SVC-X - [0:0]\n-A WRN-SVC-X -s nonsense -j DROP\nCOMMIT\n'
    const refused = runner.restore(place, 'filter', text)
    await t.rejects(refused, {
      code: 'IPTABLES',
      message: /-A WRN-SVC-X -s nonsense -j DROP/,
      cause: { line: 3 },
    })
  }
})

const six = (address: string): string => (address.includes(':') ? `[${address}]` : address)

for (const variant of variants) {
  t.test(`${variant}: real packets`, async t => {
    const host = createServiceNode()
    t.teardown(() => host.close())
    const { node, station, addressOf, textOf } = host
    node.sh(users[variant])
    const protocols: readonly Protocol[] = ['tcp', 'udp', 'sctp']
    const vip = (n: number, family: Family): string => (family === 'inet' ? `10.0.0.${n}` : `fd00:10::${n}`)
    const external = { inet: '203.0.113.1', inet6: '2001:db8:f::1' }
    const entries = families.flatMap(family => {
      const at = (n: number): string => `${six(vip(n, family))}:80`
      const to = (...names: readonly NodeStation[]) => ({
        family,
        targets: names.map(name => ({ address: addressOf(name, family), port: 8080, local: name !== 'far' })),
      })
      return protocols.flatMap(protocol => [
        serviceEntry(protocol, at(1), [], to('p1')),
        serviceEntry(protocol, at(2), [], to('far')),
        serviceEntry(protocol, at(3), [], to()),
        serviceEntry(protocol, at(4), [], { ...to(), empty: 'drop' }),
        serviceEntry(protocol, at(5), [], {
          ...to('p1', 'p2', 'far'),
          affinitySeconds: 60,
          portName: 'sticky',
        }),
        serviceEntry(protocol, ':30001', [], to('p1')),
        serviceEntry(protocol, ':30002', [], { ...to('p1', 'far'), outside: to('p1').targets }),
        serviceEntry(protocol, ':30003', [], { ...to('far'), outside: [] }),
        serviceEntry(protocol, ':30004', [], to()),
        serviceEntry(protocol, `${six(external[family])}:80`, [], {
          ...to('far'),
          kind: 'external',
          sourceRanges: family === 'inet' ? ['192.0.2.0/24'] : ['2001:db8::/64'],
        }),
      ])
    })
    const bases = familyBases(serviceBase)
    const agent = start(node, [...bases, ...entries])
    t.equal((await agent.pass()).failed, 0)

    const answerTo = async (
      from: NodeStation,
      protocol: Protocol,
      to: string,
      port: number,
    ): Promise<string> =>
      textOf(await station[from].ask({ protocol, to, port, ...(protocol === 'sctp' ? { ms: 300 } : {}) }))
    for (const family of families)
      for (const protocol of protocols) {
        const at = (n: number): string => vip(n, family)
        const own = addressOf('node', family)
        const rows: readonly (readonly [NodeStation, string, number, string])[] = [
          ['p2', at(1), 80, 'p1 from p2'],
          ['p1', at(1), 80, 'p1 from node'],
          ['node', at(1), 80, 'p1 from node'],
          ['out', at(1), 80, 'p1 from out'],
          ['p2', at(2), 80, 'far from p2'],
          ['node', at(2), 80, 'far from node'],
          ['out', at(2), 80, 'far from node'],
          ...(['p1', 'node', 'out'] as const).map(from => [from, at(3), 80, 'refused'] as const),
          ['p1', at(1), 81, 'refused'],
          ['p1', at(4), 80, 'dropped'],
          ['p1', at(4), 81, 'refused'],
          ...(['p1', 'node', 'out'] as const).map(from => [from, at(99), 80, 'dropped'] as const),
          ['out', own, 30001, 'p1 from node'],
          ['p2', own, 30001, 'p1 from p2'],
          ['p1', own, 30001, 'p1 from node'],
          ['out', own, 30002, 'p1 from out'],
          ['out', own, 30003, 'dropped'],
          ['p1', own, 30003, 'far from p1'],
          ['node', own, 30003, 'far from node'],
          ['out', own, 30004, 'refused'],
          ['node', own, 30004, 'refused'],
          // The kernel's own answer: nobody listens.
          ...(protocol === 'sctp'
            ? []
            : [['node', family === 'inet' ? '127.0.0.1' : '::1', 30001, 'refused'] as const]),
          ['out', external[family], 80, 'far from node'],
          ['p1', external[family], 80, 'dropped'],
        ]
        const probe = async ([from, to, port, expected]: (typeof rows)[number]): Promise<void> => {
          t.equal(
            await answerTo(from, protocol, to, port),
            expected,
            `${protocol} ${from} -> ${six(to)}:${port}`,
          )
        }
        if (protocol !== 'sctp') await Promise.all(rows.map(probe))
        // A raw socket knows no ports: it would hear of another row's ICMP error.
        else for (const row of rows) await probe(row)
        const picked = new Set<string>()
        for (let i = 0; i < 12; i += 1) picked.add(await answerTo('p2', protocol, at(5), 80))
        t.equal(picked.size, 1, `${protocol} ${family} sticks: ${[...picked].join()}`)
      }
    const localnet = node.sh('cat /proc/sys/net/ipv4/conf/*/route_localnet | sort -u')
    t.equal(localnet.trim(), '0', 'route_localnet is never set')

    const flow = station.p2.flow({ protocol: 'tcp', to: '10.0.0.1', port: 80 })
    t.equal(textOf(await flow.ask()), 'p1 from p2')
    const [first] = entries
    const moved = { ...first, targets: [{ address: '10.244.1.3', port: 8080, local: true }] } as ServiceEntry
    agent.want([...bases, ...entries.map(entry => (entry === first ? moved : entry))])
    t.equal((await agent.pass()).failed, 0)
    t.equal(textOf(await flow.ask()), 'p1 from p2', 'a connection goes on while its bucket is written')
    t.equal(await answerTo('node', 'tcp', '10.0.0.1', 80), 'p2 from node', 'new ones go to the new endpoint')
    // With the last chain of table nat the kernel would stop translating: order.ts keeps some.
    agent.want(bases)
    t.equal((await agent.pass()).failed, 0)
    t.equal(textOf(await flow.ask()), 'p1 from p2', 'and after its Service has gone')
    t.equal(await answerTo('node', 'tcp', '10.0.0.1', 80), 'dropped', 'there is no such Service any more')
    flow.close()
  })
}

function show(agent: Agent, ops: readonly TableOp<ServiceIptablesObject>[]): string[] {
  return ops.map(op => `${op.verb} ${agent.table.key(op.verb === 'remove' ? op.observed : op.desired)}`)
}
