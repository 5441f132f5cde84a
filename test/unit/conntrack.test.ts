// Which flows are stale, and the table that deletes them: on the fake, which keeps a flow's translation as the kernel does.
import t from 'tap'
import { type FlowView, staleFlows } from '../../agent/compute/services/stale-flows.js'
import { planOps } from '../../agent/dataplane/plan.js'
import { stage } from '../../agent/dataplane/stage.js'
import { conntrackTable } from '../../agent/dataplane/tables/conntrack.js'
import type { DesiredState } from '../../agent/model/desired.js'
import { entryKey, type ServiceBase, type ServiceEntry } from '../../agent/model/service-entry.js'
import { systemClock } from '../../lib/clock.js'
import { type FakeConntrack, type FakePacket, fakeConntrack } from '../../lib/conntrack/fake.js'
import { FlowReader } from '../../lib/conntrack/flow-reader.js'
import type { Conntrack, Flow, FlowProtocol } from '../../lib/conntrack/types.js'
import { Mirror } from '../../lib/reconcile/mirror.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import type { Desired } from '../../lib/reconcile/table.js'
import { serviceBase, serviceEntry, target } from '../support/service-entries.js'

const never = new AbortController().signal
const localAddresses = new Set(['127.0.0.1', '::1', '192.0.2.10', '2001:db8::10', '10.244.1.1'])

let sport = 20_000
/** A packet of a new client: "udp 10.0.0.1:53". */
function from(text: string, src = '10.244.1.9'): FakePacket {
  const [protocol = '', where = ''] = text.split(' ')
  const { address, port } = target(where)
  sport += 1
  return {
    protocol: protocol as FlowProtocol,
    src: address.includes(':') ? 'fd00:244:1::9' : src,
    sport,
    dst: address,
    dport: port,
  }
}

/** A flow that began when the rules sent `text` to `to`; undefined: when there was no rule. */
function flow(text: string, to?: string, kernel = fakeConntrack(), src?: string): Flow {
  const packet = from(text, src)
  if (to !== undefined) kernel.rules.set(`${packet.dst} ${packet.protocol} ${packet.dport}`, target(to))
  return kernel.packet(packet)
}

function stale(
  flows: readonly Flow[],
  entries: readonly ServiceEntry[],
  more: Partial<FlowView> = {},
): readonly Flow[] {
  const index = new Map(entries.map(entry => [entryKey(entry), entry]))
  return staleFlows(flows, { entry: key => index.get(key), base: serviceBase, localAddresses, ...more })
}

const dns = serviceEntry('udp', '10.0.0.1:53', ['10.244.1.2:5353', '10.244.2.2:5353'])
const dns6 = serviceEntry('udp', '[fd00:10::1]:53', ['[fd00:244:1::2]:5353'])
const dnsPort = serviceEntry('udp', ':30053', ['10.244.1.2:5353'])
const external = serviceEntry('udp', '203.0.113.7:53', ['10.244.1.2:5353'], { kind: 'external' })
const sctp = serviceEntry('sctp', '10.0.0.4:99', ['10.244.1.2:9900'])
const web = serviceEntry('tcp', '10.0.0.1:80', ['10.244.1.2:8080'])

t.test('a flow to a live endpoint is left alone', async t => {
  const flows = [
    flow('udp 10.0.0.1:53', '10.244.1.2:5353'),
    flow('udp 10.0.0.1:53', '10.244.2.2:5353'),
    flow('udp [fd00:10::1]:53', '[fd00:244:1::2]:5353'),
    flow('udp 192.0.2.10:30053', '10.244.1.2:5353'),
    flow('udp 203.0.113.7:53', '10.244.1.2:5353'),
    flow('sctp 10.0.0.4:99', '10.244.1.2:9900'),
    flow('tcp 10.0.0.1:80', '10.244.1.2:8080'),
  ]
  t.same(stale(flows, [dns, dns6, dnsPort, external, sctp, web]), [])
})

t.test('a removed endpoint: its flows go, at every kind of entry point', async t => {
  const gone = [
    flow('udp 10.0.0.1:53', '10.244.1.7:5353'),
    flow('udp 10.0.0.1:53', '10.244.1.2:5354'),
    flow('udp [fd00:10::1]:53', '[fd00:244:1::7]:5353'),
    flow('udp 192.0.2.10:30053', '10.244.1.7:5353'),
    flow('udp 203.0.113.7:53', '10.244.1.7:5353'),
    flow('sctp 10.0.0.4:99', '10.244.1.7:9900'),
  ]
  t.same(stale(gone, [dns, dns6, dnsPort, external, sctp, web]), gone)
})

t.test('scaled to zero: every flow goes, whether the entry refuses or drops', async t => {
  const flows = [flow('udp 10.0.0.1:53', '10.244.1.2:5353'), flow('udp 10.0.0.1:53', '10.244.2.2:5353')]
  t.same(stale(flows, [{ ...dns, targets: [] }]), flows)
  t.same(stale(flows, [{ ...dns, targets: [], empty: 'drop' }]), flows)
})

t.test('policy Local: endpoints of either list are live', async t => {
  const entry = { ...dnsPort, targets: [target('10.244.2.2:5353')], outside: [target('10.244.1.2:5353')] }
  const flows = ['10.244.1.2:5353', '10.244.2.2:5353', '10.244.3.2:5353'].map(to =>
    flow('udp 192.0.2.10:30053', to),
  )
  t.same(stale(flows, [entry]), [flows[2]])
  t.same(stale(flows, [{ ...entry, outside: [] }]), [flows[0], flows[2]])
})

t.test(
  'who lingers has its flows yet, in a short list and in a long one; when it is gone they go',
  async t => {
    const flows = [flow('udp 10.0.0.1:53', '10.244.1.7:5353')]
    const lingering = [target('10.244.1.7:5353')].map(each => ({ ...each, local: true }))
    t.same(stale(flows, [{ ...dns, lingering }]), [])
    const many = Array.from({ length: 20 }, (_, i) => `10.244.3.${i + 1}:5353`)
    t.same(stale(flows, [{ ...serviceEntry('udp', '10.0.0.1:53', many), lingering }]), [])
    t.same(stale(flows, [{ ...serviceEntry('udp', '10.0.0.1:53', []), lingering }]), [], 'alone')
    t.same(stale(flows, [dns]), flows)
  },
)

t.test('an entry with ten thousand endpoints is judged alike', async t => {
  const many = Array.from({ length: 10_000 }, (_, i) => `10.245.${i >> 8}.${i & 255}:5353`)
  const entry = serviceEntry('udp', '10.0.0.1:53', many)
  const flows = [flow('udp 10.0.0.1:53', many[9_999]), flow('udp 10.0.0.1:53', '10.246.0.1:5353')]
  t.same(stale(flows, [entry]), [flows[1]])
})

t.test('a flow that began before its Service is untranslated, and goes', async t => {
  const flows = [
    flow('udp 192.0.2.10:30053'),
    flow('udp 203.0.113.7:53'),
    flow('udp 10.0.0.1:53'),
    flow('sctp 10.0.0.4:99'),
  ]
  t.same(stale(flows, [dns, dnsPort, external, sctp]), flows)
})

t.test('an endpoint that is the entry point itself: nothing to translate, and the flow is live', async t => {
  const entry = serviceEntry('udp', '192.0.2.10:443', ['192.0.2.10:443'], { kind: 'external' })
  const flows = [flow('udp 192.0.2.10:443', '192.0.2.10:443')]
  t.same(stale(flows, [entry]), [])
})

t.test('TCP: only a SYN that came before the rules goes', async t => {
  const kernel = fakeConntrack()
  const syn = flow('tcp 10.0.0.1:80')
  const packet = from('tcp 10.0.0.1:80')
  kernel.packet(packet)
  const answered = kernel.answer(packet)
  const translated = flow('tcp 10.0.0.1:80', '10.244.1.7:8080')
  const nowhere = flow('tcp 10.0.0.99:80')
  t.same(stale([syn, answered, translated, nowhere], [web]), [syn, nowhere])
})

t.test('a Service that is gone: its cluster IP is known by the service CIDR', async t => {
  const flows = [
    flow('udp 10.0.0.9:53', '10.244.1.2:5353'),
    flow('udp [fd00:10::9]:53', '[fd00:244:1::2]:5353'),
    flow('udp 10.0.0.1:54', '10.244.1.2:5353'),
    flow('udp 10.0.0.9:53'),
  ]
  t.same(stale(flows, [dns]), flows)
})

t.test('a nodePort or external IP that is gone: its translated flows go, where that is known', async t => {
  const flows = [
    flow('udp 192.0.2.10:30053', '10.244.1.2:5353'),
    flow('udp 203.0.113.7:53', '10.244.1.2:5353'),
  ]
  const plain = [flow('udp 192.0.2.10:30053'), flow('udp 203.0.113.7:53')]
  t.same(stale([...flows, ...plain], [dns]), [], 'nobody knows: let alone')
  const gone = new Set([entryKey(dnsPort), entryKey(external)])
  t.same(stale([...flows, ...plain], [dns], { gone }), flows)
  t.same(stale([...flows, ...plain], [dns, dnsPort, external], { gone }), plain, 'and it came back')
})

t.test("others' flows are left alone, whatever became of them", async t => {
  const docker = [
    flow('udp 192.0.2.10:8053', '172.17.0.2:53'),
    flow('udp 192.0.2.10:30054', '172.17.0.2:53'),
    flow('tcp 192.0.2.10:30053', '172.17.0.2:80'),
  ]
  const others = [
    flow('udp 198.51.100.1:53'),
    flow('udp 192.0.2.10:53'),
    // Another node's nodePort, and ours on the loopback: neither is ours to serve.
    flow('udp 192.0.2.11:30053'),
    flow('udp 127.0.0.1:30053'),
    flow('udp 10.244.1.2:5353'),
    flow('tcp 192.0.2.10:22'),
  ]
  const zoned = [{ ...flow('udp 10.0.0.1:53', '10.244.1.7:5353'), zone: 7 }]
  t.same(stale([...docker, ...others, ...zoned], [dns, dnsPort, web]), [])
})

t.test('nodePort addresses that are given are the only ones', async t => {
  const base: ServiceBase = { ...serviceBase, nodePortAddresses: ['192.0.2.10'] }
  const flows = [flow('udp 192.0.2.10:30053'), flow('udp 10.244.1.1:30053')]
  t.same(stale(flows, [dnsPort], { base }), [flows[0]])
  t.same(stale(flows, [dnsPort]), flows)
})

t.test('an external IP that is an address of the node comes before the nodePort', async t => {
  const own = serviceEntry('udp', '192.0.2.10:30053', ['10.244.1.8:1'], { kind: 'external' })
  const flows = [
    flow('udp 192.0.2.10:30053', '10.244.1.8:1'),
    flow('udp 192.0.2.10:30053', '10.244.1.2:5353'),
  ]
  t.same(stale(flows, [dnsPort, own]), [flows[1]])
})

t.test('userspace: a flow into the proxy lives while the proxy has that port', async t => {
  const ports = new Map([[entryKey(dns), 40_001]])
  const portOf = (key: string): number | undefined => ports.get(key)
  const flows = [
    flow('udp 10.0.0.1:53', '10.244.1.1:40001'),
    flow('udp 10.0.0.1:53', '10.244.1.1:40002'),
    // A removed endpoint whose port is the proxy's by chance.
    flow('udp 10.0.0.1:53', '10.244.7.7:40001'),
    flow('udp 10.0.0.1:53', '10.244.1.2:5353'),
  ]
  const proxied = { ...dns, proxied: true as const }
  t.same(stale(flows, [proxied], { portOf }), [flows[1], flows[2]], 'and a flow from the mode before goes on')
  t.same(stale(flows, [proxied]), flows.slice(0, 3), 'no proxy any more')
  t.same(stale(flows, [dns], { portOf }), flows.slice(0, 3), 'another mode, and the listener is there yet')
})

interface Host {
  readonly kernel: FakeConntrack
  readonly mirror: Mirror<Flow>
  readonly table: ReturnType<typeof conntrackTable>
  /** Entries as the rules in the kernel have them now, with a touch for each that changed; true when one mattered. */
  write(...entries: readonly ServiceEntry[]): boolean
  /** One pass, as the reconciler makes it. Returns the deleted flows' lines. */
  pass(): Promise<readonly string[]>
}

function host(first: readonly ServiceEntry[] = [], base: ServiceBase | undefined = serviceBase): Host {
  const kernel = fakeConntrack()
  let entries: Desired<ServiceEntry> = new Map(first.map(entry => [entryKey(entry), [entry]]))
  const table = conntrackTable(kernel, {
    base: () => base,
    entries: () => entries,
    localAddresses: async () => localAddresses,
  })
  const mirror = new Mirror(table, systemClock, createReceipts())
  return {
    kernel,
    mirror,
    table,
    write(...after) {
      const before = entries
      entries = new Map(after.map(entry => [entryKey(entry), [entry]]))
      const keys = new Set([...before.keys(), ...entries.keys()])
      const matters = [...keys].map(key => table.touch(before.get(key)?.[0], entries.get(key)?.[0]))
      if (!matters.includes(true)) return false
      mirror.drop()
      return true
    },
    async pass() {
      const { writes, removes } = await mirror.plan(new Map(), never)
      t.same(writes, [])
      const lines = removes.map(op => table.format(op))
      await mirror.execute(removes, never)
      mirror.settle()
      return lines
    },
  }
}

t.test('table: a restarted agent looks at everything once, and touches no live flow', async t => {
  const { kernel, pass } = host([dns, web])
  kernel.rules.set('10.0.0.1 udp 53', target('10.244.1.2:5353'))
  kernel.packet(from('udp 10.0.0.1:53'))
  kernel.packet(from('udp 198.51.100.1:53'))
  t.same(await pass(), [])
  t.equal([...kernel.flows].length, 2)
  t.same(kernel.listed, [
    'inet udp',
    'inet sctp',
    'inet tcp unreplied',
    'inet6 udp',
    'inet6 sctp',
    'inet6 tcp unreplied',
  ])
  await pass()
  t.equal(kernel.listed.length, 6, 'nothing changed: nothing is listed')
})

t.test('table: what a restarted agent finds stale goes', async t => {
  const { kernel, pass } = host([dns])
  kernel.rules.set('10.0.0.1 udp 53', target('10.244.1.7:5353'))
  const packet = kernel.packet(from('udp 10.0.0.1:53'))
  t.same(await pass(), [
    `conntrack -D -p udp -s 10.244.1.9 -d 10.0.0.1 --sport ${packet.original.sport} --dport 53 # to 10.244.1.7:5353`,
  ])
  t.same([...kernel.flows], [])
})

t.test('table: a change lists that entry point alone, and only where flows can be stale', async t => {
  const { kernel, pass, write } = host([dns, web, sctp])
  await pass()
  const listed = async (...entries: ServiceEntry[]): Promise<readonly string[]> => {
    const before = kernel.listed.length
    write(...entries)
    await pass()
    return kernel.listed.slice(before)
  }
  t.same(await listed(dns, { ...web, targets: [] }, sctp), [], 'a TCP endpoint left')
  t.same(await listed(dns, sctp), [], 'a TCP Service left')
  const more = { ...dns, targets: [...dns.targets, target('10.244.3.2:5353')] }
  t.same(await listed(more, sctp), [], 'a UDP endpoint came')
  t.same(await listed(dns, sctp), ['inet udp 10.0.0.1 53'], 'a UDP endpoint left')
  t.same(await listed(dns, sctp, web), ['inet tcp 10.0.0.1 80 unreplied'], 'a TCP Service came')
  t.same(await listed(dns, web), ['inet sctp 10.0.0.4 99'], 'an SCTP Service left')
  t.same(await listed(dns, web, dnsPort, external), ['inet udp 30053', 'inet udp 203.0.113.7 53'])
  t.same(await listed(web, external), ['inet udp 10.0.0.1 53', 'inet udp 30053'], 'two went')
  t.same(await listed(), ['inet udp 203.0.113.7 53'])
  t.same(await listed(dns, external, serviceEntry('udp', '10.0.0.3:53', [])), ['inet udp 53'], 'one port')
  const ports = [1, 2, 3].map(port => serviceEntry('udp', `10.0.0.7:${port}`, []))
  t.same(await listed(dns, external, ...ports), ['inet udp'], 'many ports: one listing of the protocol')
})

t.test('table: a removed endpoint, scale to zero, a nodePort that goes', async t => {
  const { kernel, pass, write } = host([dns, dnsPort])
  await pass()
  kernel.rules.set('10.0.0.1 udp 53', target('10.244.1.2:5353'))
  kernel.packet(from('udp 10.0.0.1:53'))
  kernel.rules.set('10.0.0.1 udp 53', target('10.244.2.2:5353'))
  kernel.packet(from('udp 10.0.0.1:53'))
  kernel.rules.set('192.0.2.10 udp 30053', target('10.244.1.2:5353'))
  kernel.packet(from('udp 192.0.2.10:30053'))

  write({ ...dns, targets: dns.targets.slice(1) }, dnsPort)
  t.match(await pass(), [/-d 10.0.0.1 .* # to 10.244.1.2:5353/])
  write({ ...dns, targets: [] }, dnsPort)
  t.match(await pass(), [/-d 10.0.0.1 .* # to 10.244.2.2:5353/])
  write()
  t.match(await pass(), [/-d 192.0.2.10 .* --dport 30053 # to 10.244.1.2:5353/])
  t.same([...kernel.flows], [])
})

t.test('table: without Services nothing is listed', async t => {
  const { kernel, pass } = host([], undefined)
  // Not the default of the parameter: undefined is the point.
  const table = conntrackTable(kernel, {
    base: () => undefined,
    entries: () => new Map(),
    localAddresses: async () => localAddresses,
  })
  t.same(await table.observe(never), [])
  t.same(kernel.listed, [])
  await pass()
})

t.test('table: a failed listing is made again, of the same entry points', async t => {
  const { kernel, pass, write, mirror } = host([dns, dnsPort])
  await pass()
  kernel.rules.set('192.0.2.10 udp 30053', target('10.244.1.2:5353'))
  kernel.packet(from('udp 192.0.2.10:30053'))
  write(dns)
  kernel.failNext('list', 'ENOBUFS')
  t.same(await pass(), [])
  t.equal(mirror.status.state, 'degraded')
  mirror.invalidate()
  // A timer may be a millisecond early.
  while (systemClock.now() < mirror.retryAt) await new Promise(resolve => setTimeout(resolve, 1))
  t.match(await pass(), [/--dport 30053/])
  t.equal(mirror.status.state, 'converged')
})

t.test('table: a failed delete is tried again, and what ended by itself is no failure', async t => {
  const { kernel, pass, write, mirror } = host([dns, dnsPort])
  await pass()
  kernel.rules.set('192.0.2.10 udp 30053', target('10.244.1.2:5353'))
  kernel.packet(from('udp 192.0.2.10:30053'))
  write(dns)
  kernel.failNext('delete', 'EBUSY')
  await pass()
  t.equal(mirror.status.state, 'degraded')
  t.match(mirror.errors()[0]?.message, /Cannot delete conntrack flow "-p udp .*": EBUSY/)
  // Something else changes meanwhile: the entry point is not forgotten.
  write({ ...dns, targets: [] })
  mirror.invalidate()
  t.match(await pass(), [/--dport 30053/])
  t.equal(mirror.status.state, 'converged')
  t.same([...kernel.flows], [])

  const gone = kernel.packet(from('udp 10.0.0.1:53'))
  mirror.drop()
  const { removes } = await mirror.plan(new Map(), never)
  await kernel.delete([gone])
  t.equal(await mirror.execute(removes, never), 0)
})

t.test('table: a look that somebody else asked for (plan) takes nothing from the next pass', async t => {
  const { kernel, table, pass, write } = host([dns, dnsPort])
  await pass()
  kernel.rules.set('192.0.2.10 udp 30053', target('10.244.1.2:5353'))
  kernel.packet(from('udp 192.0.2.10:30053'))
  write(dns)
  t.equal((await table.observe(never)).length, 1)
  t.equal((await table.observe(never)).length, 1)
  t.match(await pass(), [/--dport 30053/])
})

t.test('table: looks that follow one another take a tenth of the time, and none is left out', async t => {
  let now = 1_000
  const clock = { ...systemClock, now: () => now }
  const kernel = fakeConntrack()
  let cost = 20
  const slow: Conntrack = {
    ...kernel,
    list(filter, signal) {
      now += cost
      return kernel.list(filter, signal)
    },
  }
  const entries: Desired<ServiceEntry> = new Map([[entryKey(dnsPort), [dnsPort]]])
  const table = conntrackTable(slow, {
    base: () => serviceBase,
    entries: () => entries,
    localAddresses: async () => localAddresses,
    clock,
  })
  const mirror = new Mirror(table, clock, createReceipts())
  const nothing: Desired<Flow> = new Map()
  const look = async (): Promise<number> => (await mirror.plan(nothing, never)).removes.length
  t.equal(table.dirty?.(), true, 'a restarted agent looks at once')
  await look()
  t.equal(table.dirtyAt?.(), undefined)
  now += 10_000
  t.ok(table.touch(undefined, dnsPort))
  t.equal(table.dirty?.(), true, 'and so does one whose last look is long ago')
  await look()
  t.equal(kernel.listed.length, 7, 'at one protocol alone')

  // Its Service comes while the client talks already.
  kernel.packet(from('udp 192.0.2.10:30053'))
  table.touch(undefined, dnsPort)
  t.equal(table.dirty?.(), false, 'not yet')
  t.equal(mirror.upToDate(nothing), true)
  t.equal(table.dirtyAt?.(), now + 180, 'nine times as long as it took')
  t.equal(mirror.retryAt, now + 180, 'the loop knows when')
  now += 179
  t.equal(await look(), 0)
  now += 1
  t.equal(table.dirty?.(), true)
  const plan = await planOps(
    [stage('conntrack', table)],
    { conntrack: nothing } as DesiredState,
    clock,
    never,
  )
  t.equal(plan.length, 1, 'a plan shows what is to go')
  t.not(table.dirtyAt?.(), undefined, 'and leaves it to the next look')
  now += 10_000
  t.equal(await look(), 1, 'what was touched meanwhile is looked at then')

  cost = 100
  now += 10_000
  table.touch(undefined, dnsPort)
  await look()
  table.touch(undefined, dnsPort)
  t.equal(table.dirtyAt?.(), now + 250, 'but a large table is not looked at later than that')
})

t.test('broken messages are left out, and read no further than they go', async t => {
  const reader = new FlowReader()
  const whole = Buffer.from(
    '0200000034000180140001800800010ac0000201080002000a0000011c0002800500010011000000060002000fa00000060003000035000034000280140001800800010ac0000201080002ffc0000201',
    'hex',
  )
  let seen = 0
  for (let end = 0; end <= whole.length; end += 1) {
    const message = Buffer.concat([Buffer.alloc(16), whole.subarray(0, end)])
    if (reader.read(message, 0, message.length) !== undefined) seen += 1
  }
  t.equal(seen, 0)
})
