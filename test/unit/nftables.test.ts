// Elements as bytes and back, without a kernel.
import t from 'tap'
import { WarrenError } from '../../lib/errors.js'
import { isCanonical } from '../../lib/nftables/datatypes.js'
import { ElementReader, elementMessages, hasRepeats } from '../../lib/nftables/element-messages.js'
import { elementKey, elementText, nftElement } from '../../lib/nftables/elements.js'
import { fakeNft } from '../../lib/nftables/fake.js'
import { formatElementOp } from '../../lib/nftables/format.js'
import { KeyIndex } from '../../lib/nftables/key-index.js'
import { decodeFields, encodeFields } from '../../lib/nftables/layout.js'
import { transaction } from '../../lib/nftables/message.js'
import { NftEventReader } from '../../lib/nftables/monitor.js'
import type { NftElement, NftSetRef, NftType } from '../../lib/nftables/types.js'
import { AttributeWriter } from '../../lib/nftables/wire.js'

const vteps: NftSetRef = {
  family: 'inet',
  table: 'warren-t',
  set: 'vteps',
  fields: ['integer24', 'ipv4_addr'],
}
const eps: NftSetRef = {
  family: 'ip',
  table: 'warren-t',
  set: 'eps',
  fields: ['ipv4_addr', 'inet_proto', 'inet_service', 'number'],
  data: ['ipv4_addr', 'inet_service'],
}
const dispatch: NftSetRef = { family: 'bridge', table: 'w', set: 'from', fields: ['ifname'], data: 'verdict' }
const cidrs: NftSetRef = { family: 'ip', table: 'w', set: 'c', fields: ['ipv4_addr'], interval: true }
const ranges: NftSetRef = {
  family: 'ip6',
  table: 'w',
  set: 'r',
  fields: ['ipv6_addr', 'inet_service'],
  interval: true,
}

function read(set: NftSetRef, messages: readonly { readonly payload: Buffer }[]): NftElement[] {
  const reader = new ElementReader(set)
  for (const { payload } of messages) reader.read(payload)
  return reader.finish()
}

function there(elements: readonly NftElement[]): NftElement[] {
  const ops = elements.map(element => ({ verb: 'add' as const, element }))
  const messages = elementMessages(ops, [...ops.keys()])
  return read(elements[0]!.set, messages)
}

t.test('a VNI and an address are the bytes that "typeof @th,96,24 . ip saddr" compares', async t => {
  const [message] = elementMessages(
    [{ verb: 'add', element: nftElement(vteps, ['0x3e9', '192.0.2.2']) }],
    [0],
  )
  t.equal(
    message?.payload.toString('hex'),
    // table, set, elements{ elem{ key{ value 0003e9.. c0000202 } } }: what nft 1.0.6 sends
    '0d00010077617272656e2d7400000000' +
      '0a0002007674657073000000' +
      '18000380' +
      '14000180' +
      '10000180' +
      '0c000100' +
      '0003e900c0000202',
  )
})

t.test('every type comes back in canonical text', async t => {
  const element = nftElement(eps, ['10.0.0.1', '6', '0x50', '65536'], ['10.1.1.3', '8080'])
  t.same(element.key, ['10.0.0.1', 'tcp', '80', '65536'])
  t.same(there([element]), [element])
  t.equal(elementText(element), '10.0.0.1 . tcp . 80 . 65536 : 10.1.1.3 . 8080')
  t.equal(elementKey(element), 'ip warren-t eps 10.0.0.1 . tcp . 80 . 65536')
  const many: NftSetRef = {
    family: 'inet',
    table: 'w',
    set: 's',
    fields: ['ether_addr', 'ipv6_addr', 'mark', 'ct_zone', 'integer128'],
  }
  const other = nftElement(many, [
    '0A:0:0:0:1:b',
    'FD00:0:0::0:1',
    '16',
    '7',
    '0xfd000000000000000000000000000001',
  ])
  t.same(other.key, ['0a:00:00:00:01:0b', 'fd00::1', '0x00000010', '7', '0xfd000000000000000000000000000001'])
  t.same(there([other]), [other])
})

t.test('what is canonical without a look at its bytes is what its bytes say', async t => {
  const texts: readonly (readonly [NftType, readonly string[], readonly string[]])[] = [
    [
      'ether_addr',
      ['0a:00:00:00:01:0b', 'ff:ff:ff:ff:ff:ff'],
      ['0A:00:00:00:01:0b', 'a:0:0:0:1:b', '0a:00:00:00:01', '0a:00:00:00:01:0b:0c', '0a:00:00:00:01:0b '],
    ],
    [
      'ipv4_addr',
      ['0.0.0.0', '10.0.1.11', '255.255.255.255', '199.249.200.9'],
      ['010.0.0.1', '10.0.1', '10.0.1.', '10.0.1.256', '10.0.0.1.1', '.10.0.0.1', '10.0.0.1\n', '1.2.3.4.'],
    ],
    ['ifname', ['p0123456789', 'vx1001', 'eth0.100', 'x'.repeat(15)], ['"eth0"', '', 'x'.repeat(16), 'vé']],
    ['mark', [], ['0x00000001', '1']],
  ]
  for (const [type, plain, others] of texts) {
    for (const text of [...plain, ...others]) {
      const known = isCanonical(type, text)
      t.equal(known, plain.includes(text), `${type} ${JSON.stringify(text)}`)
      if (known) t.same(decodeFields([type], encodeFields([type], [text])), [text])
    }
  }
  for (let i = 0; i < 2000; i += 1) {
    const bytes = Buffer.from(Array.from({ length: 6 }, (_, at) => (i * 7919 * (at + 1)) & 0xff))
    t.ok(isCanonical('ipv4_addr', decodeFields(['ipv4_addr'], bytes)[0] ?? ''))
    t.ok(isCanonical('ether_addr', decodeFields(['ether_addr'], bytes)[0] ?? ''))
  }
})

t.test('verdicts carry their chain, names of links are quoted in nft text', async t => {
  const jump = nftElement(dispatch, ['wrn0'], ['goto from_s1'])
  const drop = nftElement(dispatch, ['"eth0"'], ['drop'])
  t.same(there([jump, drop]), [jump, drop])
  t.equal(elementText(jump), '"wrn0" : goto from_s1')
  t.equal(elementText(drop), '"eth0" : drop')
  t.throws(() => nftElement(dispatch, ['wrn0'], ['goto']), { code: 'EINVAL' })
})

t.test('intervals: prefixes and ranges, to the last address, in one field and in several', async t => {
  const all = ['10.1.2.3/8', '192.0.2.7', '192.0.2.10-192.0.2.20', '255.255.255.0/24'].map(text =>
    nftElement(cidrs, [text]),
  )
  t.same(
    all.map(element => element.key[0]),
    ['10.0.0.0/8', '192.0.2.7', '192.0.2.10-192.0.2.20', '255.255.255.0/24'],
  )
  t.same(there(all), all)
  const neighbours = ['10.0.0.0/25', '10.0.0.128/25'].map(text => nftElement(cidrs, [text]))
  t.same(there(neighbours), neighbours, 'adjacent ranges stay two')
  const pair = nftElement(ranges, ['fd00::/48', '80-90'])
  t.same(there([pair]), [pair])
})

t.test('what does not fit is refused with the reason', async t => {
  for (const [set, key, data] of [
    [vteps, ['0x1000000', '192.0.2.2'], undefined],
    [vteps, ['0x3e9'], undefined],
    [vteps, ['0x3e9', 'fd00::1'], undefined],
    [vteps, ['0x3e9', '192.0.2.2'], ['drop']],
    [eps, ['10.0.0.1', 'tcp', '70000', '0'], ['10.1.1.3', '80']],
    [eps, ['10.0.0.1', 'tcp', '80', '0'], undefined],
    [cidrs, ['10.0.0.0/33'], undefined],
    [dispatch, ['a-name-of-16-byte'], ['drop']],
  ] as const)
    t.throws(() => nftElement(set, key, data), { code: 'EINVAL' }, key.join(' . '))
})

t.test(
  'ten thousand elements share messages below the attribute limit, single mode gives each its own',
  async t => {
    const ops = Array.from({ length: 10_000 }, (_, i) => ({
      verb: 'add' as const,
      element: nftElement(vteps, [String(i), `10.0.${i >> 8}.${i & 255}`]),
    }))
    const messages = elementMessages(ops, [...ops.keys()])
    t.ok(messages.every(message => message.payload.length < 65_535))
    t.ok(messages.length < 10)
    t.equal(
      messages.reduce((sum, message) => sum + message.ops.length, 0),
      10_000,
    )
    t.equal(elementMessages(ops, [1, 2, 3], true).length, 3)
    t.same(
      read(vteps, messages),
      ops.map(op => op.element),
    )
  },
)

t.test('ops on elements are lines for a shell', async t => {
  const element = nftElement(dispatch, ['wrn0'], ['goto from_s1'])
  t.equal(
    formatElementOp({ verb: 'add', element }),
    `nft 'add element bridge w from { "wrn0" : goto from_s1 }'`,
  )
  t.equal(formatElementOp({ verb: 'delete', element }), `nft 'delete element bridge w from { "wrn0" }'`)
})

/** A notice as the kernel sends it: our own framing of a message, with the writer's port id. */
function notice(type: number, payload: Buffer, portId: number): Buffer {
  const [, message] = transaction([{ family: 'inet', type: type as 12, payload, label: '' }])
  const bytes = message ?? Buffer.alloc(0)
  bytes.writeUInt32LE(portId, 12)
  return bytes
}

t.test('notices are gathered per transaction; a gap in the generations is a loss', async t => {
  const reader = new NftEventReader(new Set([7]))
  const read = (bytes: Buffer): ReturnType<NftEventReader['read']> => reader.read(bytes, 0, bytes.length)
  const touched = (name: string): Buffer => notice(12, new AttributeWriter().text(1, name).take(), 7)
  const closing = (generation: number, portId: number): Buffer =>
    notice(15, new AttributeWriter().u32(1, generation).u32(2, 99).text(3, 'nft').take(), portId)
  for (const name of ['a', 'a', 'b', 'a']) t.same(read(touched(name)), [])
  const event = { event: 'generation', generation: 5, pid: 99, comm: 'nft' }
  t.same(read(closing(5, 7)), [
    {
      ...event,
      tables: [
        { family: 'inet', name: 'a' },
        { family: 'inet', name: 'b' },
      ],
      portId: 7,
      own: true,
    },
  ])
  t.same(read(closing(6, 8)), [{ ...event, generation: 6, tables: [], portId: 8, own: false }])
  t.match(read(closing(8, 8)), [{ event: 'lost' }, { generation: 8 }])
  reader.reset()
  t.equal(read(closing(20, 8)).length, 1, 'after a loss counting starts again')
})

t.test('the fake fails when it is told to', async t => {
  const nft = fakeNft()
  const spec = {
    family: 'inet',
    name: 'warren-t',
    text: 'set vteps {\n typeof @th,96,24 . ip saddr\n}',
  } as const
  nft.failNext('load', new WarrenError('no', { code: 'EPERM' }))
  await t.rejects(nft.load(spec), { code: 'EPERM' })
  await nft.load(spec)
  nft.refuse(/192\.0\.2\.2/, 'ENOMEM')
  const ops = ['192.0.2.1', '192.0.2.2'].map(address => ({
    verb: 'add' as const,
    element: nftElement(vteps, ['1', address]),
  }))
  t.same(
    (await nft.applyElements(ops)).map(result => result?.code),
    [undefined, 'ENOMEM'],
  )
  nft.refuse(undefined)
  t.same(await nft.applyElements(ops), [undefined, undefined])
  t.equal(nft.transactions, 3)
})

t.test('a dump in which an element comes twice is told from one of ranges that touch', async t => {
  const payloads = (elements: readonly NftElement[]): Buffer[] => {
    const ops = elements.map(element => ({ verb: 'add' as const, element }))
    return elementMessages(ops, [...ops.keys()]).map(({ payload }) => payload)
  }
  const [one, two] = [nftElement(vteps, ['1', '192.0.2.1']), nftElement(vteps, ['2', '192.0.2.1'])]
  t.equal(hasRepeats(payloads([one, two])), false)
  t.equal(hasRepeats(payloads([one, two, one])), true)
  t.equal(hasRepeats([...payloads([one]), ...payloads([one])]), true, 'across messages')
  const touching = ['10.0.0.0/25', '10.0.0.128/25'].map(text => nftElement(cidrs, [text]))
  t.equal(hasRepeats(payloads(touching)), false)
})

t.test(
  'keys of elements: a number each, in the order in which they came, over any number of them',
  async t => {
    for (const size of [8, 12, 24]) {
      const index = new KeyIndex(size)
      const key = (n: number): Buffer => {
        const bytes = Buffer.alloc(size + 3, 0xee)
        bytes.fill(0, 3)
        bytes.writeUInt32BE(n, 3 + (n % 2) * (size - 4))
        return bytes
      }
      let fine = true
      for (const _ of [1, 2]) for (let n = 1; n < 5000; n += 1) fine &&= index.of(key(n), 3) === n - 1
      t.ok(fine)
      t.equal(index.size, 4999)
    }
  },
)
