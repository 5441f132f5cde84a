// A monitor that need not know of its own elements: the kernel drops those notices, and tells of all others.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { anonymousNetns } from '../../lib/netns/netns.js'
import { nftElement } from '../../lib/nftables/elements.js'
import { monitorNft } from '../../lib/nftables/monitor.js'
import { openNft } from '../../lib/nftables/nft.js'
import type { NftElementOp, NftEvent, NftSetRef } from '../../lib/nftables/types.js'

const skip = process.getuid?.() === 0 ? false : 'not root'
const set: NftSetRef = { family: 'ip', table: 'quiet', set: 'some', fields: ['ipv4_addr'] }
const spec = { family: 'ip', name: 'quiet', text: '\tset some {\n\t\ttype ipv4_addr\n\t}\n' } as const
const ops = (verb: NftElementOp['verb'], third: number, count: number): NftElementOp[] =>
  Array.from({ length: count }, (_, i) => ({
    verb,
    element: nftElement(set, [`10.${third}.${i >> 8}.${i & 255}`]),
  }))

t.test('own elements are not told of; their transactions and those of others are', { skip }, async t => {
  const netns = anonymousNetns()
  const [own, other] = [openNft(netns), openNft(netns)]
  const events: NftEvent[] = []
  const watch = monitorNft(netns, event => events.push(event), { untold: own.portIds })
  t.teardown(() => {
    for (const one of [watch, own, other, netns]) one.close()
  })
  await own.load(spec)
  await own.applyElements(ops('add', 1, 5_000))
  await other.applyElements(ops('add', 2, 3))
  await own.applyElements(ops('delete', 1, 5_000))
  await other.applyElements(ops('delete', 2, 1))
  for (let i = 0; i < 200 && events.length < 5; i += 1) await delay(10)
  const told = events.map(event =>
    event.event === 'lost' ? 'lost' : [own.portIds.has(event.portId), event.tables.map(({ name }) => name)],
  )
  t.strictSame(told, [
    [true, ['quiet']], // the table itself
    [true, []],
    [false, ['quiet']],
    [true, []],
    [false, ['quiet']],
  ])
})
