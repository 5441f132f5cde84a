// Services in nftables mode without a kernel: what an entry point writes, slots, elements that are shared, refusals.
import { createHash } from 'node:crypto'
import t from 'tap'
import { serviceTable } from '../../agent/compute/services/ruleset.js'
import { baseElements, disjointPrefixes, serviceSets, sizes } from '../../agent/compute/services/sets.js'
import { hole } from '../../agent/dataplane/tables/service-codec.js'
import { assign, type ProxyOptions } from '../../agent/dataplane/tables/service-footprint.js'
import { serviceNftTable } from '../../agent/dataplane/tables/service-nft.js'
import type { ServiceEntry } from '../../agent/model/service-entry.js'
import { formatAddress } from '../../lib/net/address.js'
import { elementText, nftElement } from '../../lib/nftables/elements.js'
import { fakeNft } from '../../lib/nftables/fake.js'
import type { NftSetRef } from '../../lib/nftables/types.js'
import type { Table, TableOp } from '../../lib/reconcile/table.js'
import { serviceEntry, target } from '../support/service-entries.js'

const names = { nftTable: 'warren' }
const never = new AbortController().signal
const L = '10.1.1.3:8080'
const R = '10.1.2.2:8080'
const here = (...texts: string[]) => texts.map(text => target(text, text === L))
const entry = (
  protocol: 'tcp' | 'udp',
  where: string,
  targets: readonly string[],
  rest: Partial<ServiceEntry> = {},
): ServiceEntry => serviceEntry(protocol, where, [], { targets: here(...targets), ...rest })
const external = (where: string, targets: readonly string[], rest: Partial<ServiceEntry> = {}) =>
  entry('tcp', where, targets, { kind: 'external', ...rest })

const families = ['inet', 'inet6'] as const

async function subject(proxy: ProxyOptions = {}) {
  const nft = fakeNft()
  for (const family of families)
    await nft.load(serviceTable(family, { nodePortAddresses: false }, names, [5, 10800]))
  const make = () => serviceNftTable(nft, { families, names, proxy })
  const sets = families.flatMap(family => {
    const { vip, np, base, family: _, ...rest } = serviceSets(family, names)
    const own = ({ size, ...others }: typeof vip) => [...size, ...Object.values(others)]
    return [...own(vip), ...own(np), ...(Object.values(rest) as NftSetRef[])]
  })
  /** Everything that is there: "set { element }", without the table's name in IPv4. */
  const there = async (): Promise<string[]> => {
    const lines: string[] = []
    for (const set of sets)
      for (const element of await nft.elements(set)) lines.push(`${set.set} { ${elementText(element)} }`)
    return lines.sort()
  }
  return { nft, table: make(), make, there }
}

const add = (desired: ServiceEntry): TableOp<ServiceEntry> => ({ verb: 'add', desired })
const remove = (observed: ServiceEntry): TableOp<ServiceEntry> => ({ verb: 'remove', observed })
const change = (observed: ServiceEntry, desired: ServiceEntry): TableOp<ServiceEntry> => ({
  verb: 'change',
  observed,
  desired,
})
async function apply(
  table: Table<ServiceEntry>,
  ...ops: TableOp<ServiceEntry>[]
): Promise<(string | undefined)[]> {
  return (await table.apply(ops, never)).map(result => result?.code)
}

const e15 = '172.30.0.15 . tcp . 80'
/** `port`: Service, port's name, protocol. `here`: a policy keeps to endpoints of this node. */
function labelOf(port: string, here: boolean): string {
  const bytes = createHash('sha256').update(port).digest().subarray(0, 16)
  bytes[15] = ((bytes[15] ?? 0) & ~3) + Number(here)
  return formatAddress(bytes)
}
const tcp = 'default/web  tcp'
const golden: readonly {
  readonly name: string
  readonly entries: readonly ServiceEntry[]
  readonly elements: readonly string[]
  readonly proxy?: ProxyOptions
}[] = [
  {
    name: 'a cluster IP with an endpoint here and one elsewhere',
    entries: [entry('tcp', '172.30.0.10:80', [L, R])],
    elements: [
      'cluster-ips { 172.30.0.10 }',
      'eps { 172.30.0.10 . tcp . 80 . 0 : 10.1.1.3 . 8080 }',
      'eps { 172.30.0.10 . tcp . 80 . 1 : 10.1.2.2 . 8080 }',
      'hairpin { 10.1.1.3 . 10.1.1.3 }',
      'size-2 { 172.30.0.10 . tcp . 80 }',
    ],
  },
  {
    name: 'a nodePort with policy Cluster',
    entries: [entry('udp', ':31053', [R])],
    elements: [
      'np-eps { udp . 31053 . 0 : 10.1.2.2 . 8080 }',
      'np-masq { udp . 31053 }',
      'np-ports { udp . 31053 }',
      'np-size-1 { udp . 31053 }',
    ],
  },
  {
    name: 'an external IP',
    entries: [external('203.0.113.7:80', [R])],
    elements: [
      'eps { 203.0.113.7 . tcp . 80 . 0 : 10.1.2.2 . 8080 }',
      'external-ips { 203.0.113.7 }',
      'masq { 203.0.113.7 . tcp . 80 }',
      'size-1 { 203.0.113.7 . tcp . 80 }',
    ],
  },
  {
    name: 'a load balancer IP with policy Local and source ranges, one of them inside another',
    entries: [
      external('203.0.113.8:443', [L, R], {
        outside: here(L),
        sourceRanges: ['198.51.100.128/25', '198.51.100.0/24', '192.0.2.1/32'],
      }),
    ],
    elements: [
      'eps { 203.0.113.8 . tcp . 443 . 0 : 10.1.1.3 . 8080 }',
      'eps { 203.0.113.8 . tcp . 443 . 1 : 10.1.2.2 . 8080 }',
      'eps { 203.0.113.8 . tcp . 443 . 65536 : 10.1.1.3 . 8080 }',
      'external-ips { 203.0.113.8 }',
      'hairpin { 10.1.1.3 . 10.1.1.3 }',
      'masq-own { 203.0.113.8 . tcp . 443 }',
      'outside { 203.0.113.8 . tcp . 443 : goto local-1 }',
      'ranges { 203.0.113.8 . tcp . 443 . 192.0.2.1 }',
      'ranges { 203.0.113.8 . tcp . 443 . 198.51.100.0/24 }',
      'restricted { 203.0.113.8 . tcp . 443 }',
      'size-2 { 203.0.113.8 . tcp . 443 }',
    ],
  },
  {
    name: 'a nodePort with policy Local and no endpoint here',
    entries: [entry('tcp', ':31443', [R], { outside: [] })],
    elements: [
      'np-eps { tcp . 31443 . 0 : 10.1.2.2 . 8080 }',
      'np-masq-own { tcp . 31443 }',
      'np-outside { tcp . 31443 : drop }',
      'np-ports { tcp . 31443 }',
      'np-size-1 { tcp . 31443 }',
    ],
  },
  {
    name: 'affinity of three hours, one for the cluster IP and the nodePort',
    entries: [
      entry('tcp', '172.30.0.15:80', [L, R], { affinitySeconds: 10800 }),
      entry('tcp', ':31015', [L], { affinitySeconds: 10800 }),
    ],
    elements: [
      `affinity { ${e15} : goto keep-10800 }`,
      'cluster-ips { 172.30.0.15 }',
      `eps { ${e15} . 0 : 10.1.1.3 . 8080 }`,
      `eps { ${e15} . 1 : 10.1.2.2 . 8080 }`,
      'hairpin { 10.1.1.3 . 10.1.1.3 }',
      `labels { ${e15} : ${labelOf(tcp, false)} }`,
      `live { ${e15} . 0x2ce9eaf4 : 10.1.1.3 . 8080 }`,
      `live { ${e15} . 0xf3fb8a6b : 10.1.2.2 . 8080 }`,
      'np-affinity { tcp . 31015 : goto keep-10800 }',
      'np-eps { tcp . 31015 . 0 : 10.1.1.3 . 8080 }',
      `np-labels { tcp . 31015 : ${labelOf(tcp, false)} }`,
      'np-live { tcp . 31015 . 0x2ce9eaf4 : 10.1.1.3 . 8080 }',
      'np-masq { tcp . 31015 }',
      'np-ports { tcp . 31015 }',
      'np-size-1 { tcp . 31015 }',
      `size-2 { ${e15} }`,
    ],
  },
  {
    name: 'no endpoints: refused; internal policy Local with endpoints elsewhere: dropped',
    entries: [
      entry('tcp', '172.30.0.17:80', []),
      entry('tcp', ':31017', []),
      entry('tcp', '172.30.0.17:81', [], { empty: 'drop' }),
    ],
    elements: [
      'cluster-ips { 172.30.0.17 }',
      'no-endpoints { 172.30.0.17 . tcp . 80 }',
      'no-local { 172.30.0.17 . tcp . 81 }',
      'np-no-endpoints { tcp . 31017 }',
      'np-ports { tcp . 31017 }',
    ],
  },
  {
    name: 'userspace mode on an address of the node, and by REDIRECT',
    entries: [
      entry('tcp', '172.30.0.18:80', [R], { affinitySeconds: 5, proxied: true }),
      entry('tcp', ':31018', [L], { proxied: true }),
      serviceEntry('udp', '[fd00:10::18]:53', ['[fd00::2]:53'], { proxied: true }),
      // A listener that is there yet, on the way to another mode.
      entry('tcp', '172.30.0.19:80', [R]),
    ],
    proxy: { portOf: () => 40123, addresses: { inet: '192.0.2.10' } },
    elements: [
      'cluster-ips { 172.30.0.18 }',
      'cluster-ips { 172.30.0.19 }',
      'cluster-ips { fd00:10::18 }',
      'eps { 172.30.0.18 . tcp . 80 . 0 : 192.0.2.10 . 40123 }',
      'eps { 172.30.0.19 . tcp . 80 . 0 : 10.1.2.2 . 8080 }',
      'np-eps { tcp . 31018 . 0 : 192.0.2.10 . 40123 }',
      'np-ports { tcp . 31018 }',
      'np-size-1 { tcp . 31018 }',
      'proxy-ports { fd00:10::18 . udp . 53 : 40123 }',
      'size-1 { 172.30.0.18 . tcp . 80 }',
      'size-1 { 172.30.0.19 . tcp . 80 }',
    ],
  },
  {
    name: 'IPv6, affinity and internal policy Local',
    entries: [
      serviceEntry('udp', '[fd00:10::1]:53', ['[fd00:244:1::2]:53', '[fd00:244:2::3]:53'], {
        affinitySeconds: 5,
        empty: 'drop',
      }),
    ],
    elements: [
      'affinity { fd00:10::1 . udp . 53 : goto keep-5 }',
      'cluster-ips { fd00:10::1 }',
      'eps { fd00:10::1 . udp . 53 . 0 : fd00:244:1::2 . 53 }',
      'eps { fd00:10::1 . udp . 53 . 1 : fd00:244:2::3 . 53 }',
      'hairpin { fd00:244:1::2 . fd00:244:1::2 }',
      'hairpin { fd00:244:2::3 . fd00:244:2::3 }',
      `labels { fd00:10::1 . udp . 53 : ${labelOf('default/web  udp', true)} }`,
      'live { fd00:10::1 . udp . 53 . 0x2c760d80 : fd00:244:2::3 . 53 }',
      'live { fd00:10::1 . udp . 53 . 0xd242d101 : fd00:244:1::2 . 53 }',
      'size-2 { fd00:10::1 . udp . 53 }',
    ],
  },
]

for (const { name, entries, elements, proxy } of golden)
  t.test(`service: ${name}`, async t => {
    const { nft, table, make, there } = await subject(proxy)
    const transactions = nft.transactions
    t.same(
      await apply(table, ...entries.map(add)),
      entries.map(() => undefined),
    )
    t.equal(nft.transactions, transactions + 1, 'one transaction')
    t.same(await there(), elements)
    const again = make()
    const seen = new Map((await again.observe(never)).map(each => [again.key(each), each]))
    t.same(
      [...seen.keys()].sort(),
      entries.map(each => again.key(each)).sort(),
      'a restarted agent sees the entries',
    )
    for (const each of entries) t.ok(again.equal(each, seen.get(again.key(each)) ?? each), again.key(each))
    t.same(
      await apply(again, ...[...seen.values()].map(remove)),
      entries.map(() => undefined),
    )
    t.same(await there(), [], 'nothing is left')
  })

t.test('service: lines to paste name each element, and what was written already is told too', async t => {
  const { table } = await subject()
  const one = entry('tcp', '172.30.0.10:80', [L, R])
  const two = entry('tcp', '172.30.0.10:80', [R, '10.1.2.9:8080'])
  const f = (verb: string, rest: string) => `nft '${verb} element ip warren-services ${rest}'`
  t.same(table.format(add(one)).split('\n'), [
    f('add', 'size-2 { 172.30.0.10 . tcp . 80 }'),
    f('add', 'eps { 172.30.0.10 . tcp . 80 . 0 : 10.1.1.3 . 8080 }'),
    f('add', 'eps { 172.30.0.10 . tcp . 80 . 1 : 10.1.2.2 . 8080 }'),
    f('add', 'cluster-ips { 172.30.0.10 }'),
    f('add', 'hairpin { 10.1.1.3 . 10.1.1.3 }'),
  ])
  await apply(table, add(one))
  const lines = [
    f('delete', 'eps { 172.30.0.10 . tcp . 80 . 0 }'),
    f('delete', 'hairpin { 10.1.1.3 . 10.1.1.3 }'),
    f('add', 'eps { 172.30.0.10 . tcp . 80 . 0 : 10.1.2.9 . 8080 }'),
  ]
  t.same(table.format(change(one, two)).split('\n'), lines)
  await apply(table, change(one, two))
  t.same(
    table
      .format(change(one, two))
      .split('\n')
      .filter(line => / eps /.test(line)),
    lines.filter(line => / eps /.test(line)),
  )
  t.same(table.format(remove(two)).split('\n')[0], f('delete', 'size-2 { 172.30.0.10 . tcp . 80 }'))
})

t.test('slots: who has one keeps it, no hole at 0, none at or above the size', async t => {
  const bit = (size: number) => 1 << sizes.indexOf(size)
  t.same(assign([], 0, ['a', 'b', 'c']), { slots: ['a', 'b', 'c'], size: sizes.indexOf(3) })
  t.same(assign(['a', 'b', 'c'], bit(3), ['c', 'a']), { slots: ['a', 'c'], size: sizes.indexOf(2) })
  const five = ['a', 'b', 'c', 'd', 'e']
  t.same(assign(five, bit(6), ['a', 'b', 'd', 'e']), {
    slots: ['a', 'b', hole, 'd', 'e'],
    size: sizes.indexOf(6),
  })
  t.same(assign(five, bit(6), ['b', 'c', 'd', 'e']), { slots: ['e', 'b', 'c', 'd'], size: sizes.indexOf(6) })
  t.same(assign(['a', 'b', hole, 'd'], bit(6), ['a', 'b', 'd', 'x']), {
    slots: ['a', 'b', 'x', 'd'],
    size: sizes.indexOf(6),
  })
  // A random walk: what stays must not move unless the size or slot 0 says so.
  let seed = 7
  const random = (n: number): number => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return seed % n
  }
  let slots: readonly (number | string)[] = []
  let bits = 0
  let wanted: number[] = []
  for (let step = 0; step < 3000; step += 1) {
    const up = step % 600 < 300
    for (let i = random(4); i >= 0; i -= 1)
      if (random(10) < (up ? 7 : 3)) wanted.push(step * 10 + i)
      else wanted.splice(random(wanted.length || 1), 1)
    wanted = [...wanted].sort((a, b) => a - b)
    const next = assign(slots, bits, wanted)
    const full = next.slots.filter(id => id !== hole)
    const size = sizes[next.size] ?? 0
    const fine =
      JSON.stringify([...full].sort((a, b) => Number(a) - Number(b))) === JSON.stringify(wanted) &&
      (wanted.length === 0 || next.slots[0] !== hole) &&
      next.slots.length <= size &&
      (size <= 4 || wanted.length >= 0.5 * size)
    if (!fine) t.fail(`step ${step}: ${wanted.length} in ${next.slots.length} of ${size}`)
    const again = assign(next.slots, next.size < 0 ? 0 : 1 << next.size, wanted)
    if (again.slots !== next.slots || again.size !== next.size) t.fail(`step ${step}: not stable`)
    const moved = next.slots.filter((id, i) => id !== hole && slots.includes(id) && slots[i] !== id).length
    if (next.size === 31 - Math.clz32(bits) && moved > 1) t.fail(`step ${step}: ${moved} moved`)
    slots = next.slots
    bits = next.size < 0 ? 0 : 1 << next.size
  }
  t.pass('3,000 steps')
})

t.test('service: who has come later keeps his slot, whoever looks at the table meanwhile', async t => {
  const { table, make, there } = await subject()
  const at = (...ends: string[]): ServiceEntry => entry('tcp', '172.30.0.10:80', ends)
  const slots = async (): Promise<string[]> => (await there()).filter(line => line.startsWith('eps '))
  const [x, y, z] = ['10.1.2.1:80', '10.1.2.5:80', '10.1.2.9:80'] as const
  await apply(table, add(at(x, z)))
  await apply(table, change(at(x, z), at(y, z)))
  const now = [
    'eps { 172.30.0.10 . tcp . 80 . 0 : 10.1.2.5 . 80 }',
    'eps { 172.30.0.10 . tcp . 80 . 1 : 10.1.2.9 . 80 }',
  ]
  t.same(await slots(), now)
  await apply(table, change(at(y, z), at(x, z)), add(entry('udp', '172.30.0.10:80', [x])))
  await apply(table, change(at(x, z), at(z)))
  await apply(table, change(at(z), at(x, z)))
  const moved = [
    'eps { 172.30.0.10 . tcp . 80 . 0 : 10.1.2.9 . 80 }',
    'eps { 172.30.0.10 . tcp . 80 . 1 : 10.1.2.1 . 80 }',
    'eps { 172.30.0.10 . udp . 80 . 0 : 10.1.2.1 . 80 }',
  ]
  t.same(await slots(), moved)
  await table.observe(never)
  t.ok(table.equal(at(x, z), at(x, z)))
  t.match(table.format(change(at(x, z), at(y, z))), / 1 : 10.1.2.5/, 'the plan knows the slots')
  const again = make()
  const [seen] = (await again.observe(never)).filter(each => again.key(each) === again.key(at(x, z)))
  if (seen === undefined) throw new Error('it is not there')
  t.ok(again.equal(at(x, z), seen))
  again.mirrored?.(at(x, z), seen)
  t.same(await apply(again, change(at(x, z), at(z))), [undefined], 'a restarted agent knows them, too')
  t.same(await slots(), [moved[0], moved[2]])
  t.same(await apply(again, remove(at(z))), [undefined])
  t.same(await slots(), [moved[2]])
})

t.test(
  'service: an address that is let go and taken again in one batch stays, or goes, as the last one says',
  async t => {
    const { table, there } = await subject()
    const at = (port: number, ends: string[] = [R]): ServiceEntry => entry('tcp', `172.30.0.10:${port}`, ends)
    const shared = async (): Promise<string[]> =>
      (await there()).filter(line => /^(cluster-ips|hairpin) /.test(line))
    await apply(table, add(at(1)), add(at(2)))
    await apply(table, remove(at(2)), remove(at(1)), add(at(3)))
    t.same(await shared(), ['cluster-ips { 172.30.0.10 }'])
    await apply(table, remove(at(3)))
    t.same(await there(), [])
    await apply(table, add(at(5, [L])))
    await apply(table, change(at(5, [L]), at(5, [R])), add(at(6, [L])))
    t.same(await shared(), ['cluster-ips { 172.30.0.10 }', 'hairpin { 10.1.1.3 . 10.1.1.3 }'])
    await apply(table, remove(at(5)), remove(at(6, [L])))
    t.same(await there(), [])
  },
)

t.test('service: what entries share goes with the last of them', async t => {
  const { nft, table, there } = await subject()
  const tcp = entry('tcp', '172.30.0.10:80', [L])
  const udp = entry('udp', '172.30.0.10:80', [L])
  await apply(table, add(tcp), add(udp))
  await apply(table, remove(tcp))
  t.ok((await there()).includes('cluster-ips { 172.30.0.10 }'))
  t.ok((await there()).includes('hairpin { 10.1.1.3 . 10.1.1.3 }'))
  const before = nft.transactions
  t.same(
    await apply(table, add(tcp), remove(udp)),
    [undefined, undefined],
    'in one transaction one comes, one goes',
  )
  t.equal(nft.transactions, before + 1)
  t.ok((await there()).includes('cluster-ips { 172.30.0.10 }'))
  nft.refuse(/172\.30\.0\.11/, 'ENOMEM')
  const bad = entry('tcp', '172.30.0.11:80', [L])
  const good = entry('tcp', '172.30.0.12:80', [R])
  t.same(await apply(table, add(bad), add(good), remove(tcp)), ['ENOMEM', undefined, undefined])
  t.same(
    await there(),
    [
      'cluster-ips { 172.30.0.12 }',
      'eps { 172.30.0.12 . tcp . 80 . 0 : 10.1.2.2 . 8080 }',
      'size-1 { 172.30.0.12 . tcp . 80 }',
    ],
    'the refused one left nothing behind, its hairpin is not counted',
  )
  nft.refuse(undefined)
  nft.foreign.deleteElement(
    nftElement(serviceSets('inet', names).vip.size[0] as NftSetRef, ['172.30.0.12', 'tcp', '80']),
  )
  t.same(await apply(table, remove(good)), [undefined], 'what is gone already may go')
  t.same(await there(), [])
})

t.test('base elements: one family each, no prefix inside another', async t => {
  t.same(disjointPrefixes(['10.1.0.0/16', '10.0.0.0/8', '10.0.0.0/8', '192.0.2.0/24']), [
    '10.0.0.0/8',
    '192.0.2.0/24',
  ])
  const base = {
    families,
    serviceCidrs: ['10.0.0.0/16', 'fd00:10::/112'],
    localPods: ['10.244.1.0/24'],
    nodePortAddresses: ['192.0.2.10'],
  }
  t.same(
    baseElements('inet', base, names, ['10.244.1.0/24']).map(
      each => `${each.set.set} { ${elementText(each)} }`,
    ),
    [
      'service-cidrs { 10.0.0.0/16 }',
      'local-pods { 10.244.1.0/24 }',
      'nodeport-addrs { 192.0.2.10 }',
      'hairpin-nets { 10.244.1.0/24 . 10.244.1.0/24 }',
    ],
  )
  t.same(
    baseElements('inet6', base, names).map(each => `${each.set.set} { ${elementText(each)} }`),
    ['service-cidrs { fd00:10::/112 }'],
  )
})

t.test('the ruleset depends on timeouts alone', async t => {
  const text = (timeouts: readonly number[]) =>
    serviceTable('inet6', { nodePortAddresses: true }, names, timeouts).text
  t.equal(text([5, 10]), text([10, 5, 5]))
  t.not(text([5]), text([]))
})
