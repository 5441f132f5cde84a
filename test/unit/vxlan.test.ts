// lib/vxlan: the header of RFC 7348, by its picture and by what must hold of every frame.
import t from 'tap'
import { decodeVxlan, encodeVxlan, headerLength, largestVni } from '../../lib/vxlan/header.js'
import { random } from '../support/random.js'

t.test('the header is as RFC 7348 §5 draws it', t => {
  const inner = Buffer.from('ffffffffffff0a000000010b0806', 'hex')
  t.equal(encodeVxlan({ vni: 0x0003e9, inner }).toString('hex'), `080000000003e900${inner.toString('hex')}`)
  t.same(decodeVxlan(Buffer.from('0800000000000100aa', 'hex')), { vni: 1, inner: Buffer.of(0xaa) })
  t.end()
})

t.test('whatever is written is read again, and nothing else stands in the header', t => {
  const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31))
  t.comment(`SEED=${seed}`)
  const r = random(seed)
  for (let i = 0; i < 2000; i += 1) {
    const vni = r.pick([0, 1, 0xff, 0x100, 0xffff, 0x1_0000, largestVni, r.below(largestVni + 1)])
    const inner = Buffer.from(Array.from({ length: r.below(80) }, () => r.below(256)))
    const payload = encodeVxlan({ vni, inner })
    if (payload.length !== headerLength + inner.length) t.fail(`length of VNI ${vni}`)
    if (payload.readUInt32BE(0) !== 0x0800_0000 || payload.readUInt32BE(4) !== vni * 0x100)
      t.fail(`header of VNI ${vni}: ${payload.toString('hex')}`)
    const read = decodeVxlan(payload)
    if (read?.vni !== vni || !inner.equals(read.inner)) t.fail(`VNI ${vni} read as ${read?.vni}`)
    // Reserved bits are no matter of the receiver's.
    const other = Buffer.from(payload)
    other[0] = (other[0] ?? 0) | (r.below(256) & 0xf7)
    for (const at of [1, 2, 3, 7]) other[at] = r.below(256)
    if (decodeVxlan(other)?.vni !== vni) t.fail(`VNI ${vni} with reserved bits: ${other.toString('hex')}`)
    // Without the I flag, or cut off, it is none.
    other[0] = (other[0] ?? 0) & 0xf7
    if (decodeVxlan(other) !== undefined) t.fail('read without its flag')
    if (decodeVxlan(payload.subarray(0, r.below(headerLength))) !== undefined) t.fail('read though cut off')
  }
  t.pass('2,000 frames')
  t.end()
})

t.test('VXLAN in VXLAN is read layer by layer', t => {
  const frame = Buffer.from('00112233')
  const twice = encodeVxlan({ vni: 1001, inner: encodeVxlan({ vni: 1, inner: frame }) })
  const outer = decodeVxlan(twice)
  t.equal(outer?.vni, 1001)
  t.same(decodeVxlan(outer?.inner ?? Buffer.alloc(0)), { vni: 1, inner: frame })
  t.end()
})

t.test('a VNI that has no 24 bits is refused', t => {
  for (const vni of [-1, largestVni + 1, 1.5, Number.NaN])
    t.throws(() => encodeVxlan({ vni, inner: Buffer.alloc(0) }), { code: 'RANGE' })
  t.end()
})
