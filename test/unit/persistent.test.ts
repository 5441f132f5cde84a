// The persistent map against a plain Map, on a random walk: contents, sharing, and the difference of any two versions.
import t from 'tap'
import { Joined } from '../../lib/persistent/joined.js'
import { diffMaps, PersistentMap } from '../../lib/persistent/map.js'

/** mulberry32: the same walk every time. */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let x = Math.imul(state ^ (state >>> 15), 1 | state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  }
}

function changes<V>(before: ReadonlyMap<string, V>, after: ReadonlyMap<string, V>) {
  const found = new Map<string, readonly [V | undefined, V | undefined]>()
  diffMaps(before, after, (key, now, then) => {
    if (found.has(key)) throw new Error(`"${key}" twice`)
    found.set(key, [then, now])
  })
  return found
}

t.test('persistent map: any walk leaves what a plain map has, and every older version as it was', async t => {
  const next = random(7)
  let map = PersistentMap.empty<number>()
  const plain = new Map<string, number>()
  const kept: { readonly map: PersistentMap<number>; readonly plain: Map<string, number> }[] = []
  for (let step = 0; step < 6000; step += 1) {
    const key = `node/h${Math.floor(next() * 900)}`
    const before = map
    if (next() < 0.45) {
      const had = plain.delete(key)
      map = map.delete(key)
      if (!had && map !== before) throw new Error('a delete of nothing made a new map')
    } else {
      const value = Math.floor(next() * 3)
      const same = plain.get(key) === value
      plain.set(key, value)
      map = map.set(key, value)
      if (same !== (map === before)) throw new Error('the same value made a new map, or another one did not')
    }
    if (step % 500 === 0) kept.push({ map, plain: new Map(plain) })
  }
  kept.push({ map, plain: new Map(plain) })
  for (const each of kept) {
    t.strictSame(new Map(each.map), each.plain)
    t.equal(each.map.size, each.plain.size)
    t.ok([...each.plain].every(([key, value]) => each.map.get(key) === value && each.map.has(key)))
    t.notOk(each.map.has('node/none'))
  }
  for (const before of kept) {
    for (const after of kept) {
      const wanted = changes(before.plain, after.plain)
      t.strictSame(changes(before.map, after.map), wanted)
      t.strictSame(changes(before.plain, after.map), wanted)
    }
  }
})

t.test('persistent map: many changes at once are the same changes one after the other', async t => {
  const next = random(11)
  let map = PersistentMap.empty<number>()
  const plain = new Map<string, number>()
  for (const size of [3, 4, 40, 2000, 300, 5, 70, 1, 3000, 900, 20, 500]) {
    const before = map
    const then = new Map(plain)
    const list: (readonly [string, number | undefined])[] = []
    for (let i = 0; i < size; i += 1) {
      const key = `10.${Math.floor(next() * 12)}.${Math.floor(next() * 250)}.0/24`
      const value = next() < 0.3 ? undefined : Math.floor(next() * 3)
      list.push([key, value])
      if (value === undefined) plain.delete(key)
      else plain.set(key, value)
    }
    map = map.withAll(list)
    t.strictSame(new Map(map), plain)
    t.equal(map.size, plain.size)
    t.ok([...plain].every(([key, value]) => map.get(key) === value))
    t.strictSame(changes(before, map), changes(then, plain))
    t.strictSame(new Map(before), then, 'the map of before is as it was')
    t.equal(map.withAll([...map].slice(0, 50)), map, 'the same values: the same map')
    t.equal(map.withAll(['a', 'b', 'c', 'd', 'e'].map(key => [key, undefined] as const)), map)
  }
  t.equal(map.withAll([...map].map(([key]) => [key, undefined] as const)).size, 0)
  const colliding = ['costarring', 'liquid', 'declinate', 'macallums']
  const both = PersistentMap.from([['liquid', 0]]).withAll(colliding.map((key, i) => [key, i] as const))
  t.strictSame([...both].sort(), colliding.map((key, i) => [key, i] as const).sort())
})

t.test('joined maps: read as one, and their difference is that of their parts', async t => {
  const [a, b] = [new Map(), new Map([['x', 9]])] as [Map<string, number>, Map<string, number>]
  let first = PersistentMap.from(Array.from({ length: 500 }, (_, i) => [`a${i}`, i] as const))
  const second = PersistentMap.from(Array.from({ length: 90 }, (_, i) => [`b${i}`, i] as const))
  const before = new Joined(first, second)
  first = first.withAll(Array.from({ length: 60 }, (_, i) => [`a${i * 10}`, i % 3 ? undefined : -i] as const))
  const after = new Joined<number>(first, second.set('b7', 70).delete('b8'))
  t.equal(after.size, 500 - 33 + 3 + 89)
  t.equal([...after].length, after.size)
  t.strictSame(new Set(after.keys()), new Set([...first.keys(), ...after.second.keys()]))
  t.strictSame([...after.values()].length, after.size)
  const seen = new Map<string, number>()
  after.forEach((value, key, map) => void seen.set(key, map.get(key) === value ? value : -2))
  t.strictSame(seen, new Map(after))
  t.strictSame(
    [after.get('a10'), after.get('b7'), after.has('b8'), after.has('a1')],
    [undefined, 70, false, true],
  )
  for (const [from, to] of [
    [before, after],
    [after, before],
    [first, after],
    [new Joined(a, b), after],
    [after, new Joined(a, b)],
  ] as const)
    t.strictSame(
      new Map([...changes(from, to)].sort()),
      new Map([...changes(new Map(from), new Map(to))].sort()),
    )
})

t.test('persistent map: made at once, keys that collide and all its ways to be read', async t => {
  // FNV-1a of these pairs is the same: the rest of the hash cannot tell them apart.
  const colliding = ['costarring', 'liquid', 'declinate', 'macallums']
  const map = PersistentMap.from([...colliding, 'a', 'b'].map((key, i) => [key, i] as const))
  t.equal(map.size, 6)
  t.equal(map.get('liquid'), 1)
  t.equal(map.delete('costarring').get('liquid'), 1)
  t.strictSame(new Set(map.keys()), new Set([...colliding, 'a', 'b']))
  t.strictSame(new Set(map.values()), new Set([0, 1, 2, 3, 4, 5]))
  const seen = new Map<string, number>()
  map.forEach((value, key) => void seen.set(key, value))
  t.strictSame(seen, new Map(map.entries()))
  t.equal(map.with('a', undefined).has('a'), false)
  t.equal(PersistentMap.from([]).size, 0)
  t.strictSame(
    [
      ...PersistentMap.from([
        ['a', 1],
        ['b', 2],
        ['a', 3],
      ]),
    ].sort(),
    [
      ['a', 3],
      ['b', 2],
    ],
  )
  const many = Array.from({ length: 70_000 }, (_, i) => [`k${i % 60_000}`, i] as const)
  for (const large of [PersistentMap.from(many), PersistentMap.empty<number>().withAll(many)])
    t.strictSame(new Map([...large].sort()), new Map([...new Map(many)].sort()), 'the last of a key counts')
  t.equal(PersistentMap.from(many).size, 60_000)
  const same = Array.from({ length: 300 }, (_, i) => [`k${i}`, i] as const)
  t.strictSame(changes(PersistentMap.from(same), PersistentMap.from(same)), new Map())
})

t.test('persistent map: one change among 20,000 is found without a look at the others', async t => {
  const map = PersistentMap.from(
    Array.from({ length: 20_000 }, (_, i) => [`service/default/s${i}`, i] as const),
  )
  const best = (f: () => void): number => {
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < 50; i += 1) {
      const at = performance.now()
      f()
      least = Math.min(least, performance.now() - at)
    }
    return least
  }
  const changed = map.set('service/default/s777', -1)
  t.strictSame([...changes(map, changed)], [['service/default/s777', [777, -1]]])
  const one = best(() => changes(map, changed))
  const all = best(() => changes(new Map(map), changed))
  t.ok(one * 20 < all, `${one} ms against ${all} ms for a look at all`)
})
