// A set that is read by another thread while this one works: the same elements as a look at once gives, or nothing.
import t from 'tap'
import { anonymousNetns } from '../../lib/netns/netns.js'
import { readAhead } from '../../lib/nftables/ahead.js'
import { nftElement } from '../../lib/nftables/elements.js'
import { openNft } from '../../lib/nftables/nft.js'
import type { ElementVisitor } from '../../lib/nftables/scan.js'
import type { NftSetRef } from '../../lib/nftables/types.js'

const root = process.getuid?.() === 0
const skip = root ? false : 'not root'
const table = { family: 'ip', table: 'ahead' } as const
const eps: NftSetRef = {
  ...table,
  set: 'eps',
  fields: ['ipv4_addr', 'inet_service'],
  data: ['ipv4_addr', 'inet_service'],
}
const text = '\tmap eps {\n\t\ttype ipv4_addr . inet_service : ipv4_addr . inet_service\n\t}\n'
const element = (n: number): ReturnType<typeof nftElement> =>
  nftElement(eps, [`10.0.${n >> 8}.${n & 255}`, '80'], [`10.1.${n >> 8}.${n & 255}`, '8080'])

/** Each element as bytes, sorted; twice none. */
function collector(): { readonly seen: Set<string>; readonly visit: ElementVisitor } {
  const seen = new Set<string>()
  return {
    seen,
    visit(bytes, key, data) {
      const before = seen.size
      seen.add(`${bytes.toString('hex', key, key + 8)} ${bytes.toString('hex', data, data + 8)}`)
      return seen.size > before
    },
  }
}

t.test('what was read ahead is what stands, until somebody commits', { skip }, async t => {
  const netns = anonymousNetns()
  const nft = openNft(netns)
  t.teardown(() => {
    nft.close()
    netns.close()
  })
  const count = 20_000
  await nft.load(
    { family: 'ip', name: 'ahead', text },
    Array.from({ length: count }, (_, n) => element(n)),
  )
  // The kernel makes its hash table larger in the background; a dump during that is told by an element that comes twice.
  const now = collector()
  for (let tries = 0; !(await nft.scan(eps, now.visit)) && tries < 50; tries += 1) now.seen.clear()
  t.equal(now.seen.size, count)

  const ahead = readAhead(netns, eps)
  // Memory that nobody holds is somebody else's soon: the thread must have kept its own.
  const waste: Buffer[] = []
  for (let i = 0; i < 2_000; i += 1) waste[i % 50] = Buffer.alloc(100_000, 1)
  const found = collector()
  t.equal(await ahead.scan(found.visit), true)
  t.strictSame([...found.seen].sort(), [...now.seen].sort())
  const again = collector()
  t.equal(await ahead.scan(again.visit), undefined, 'it counts once')
  t.equal(again.seen.size, 0)

  const old = readAhead(netns, eps)
  await nft.applyElements([{ verb: 'delete', element: element(7) }])
  const later = collector()
  t.equal(await old.scan(later.visit), undefined, 'a transaction came in between')
  t.equal(later.seen.size, 0)

  const fresh = readAhead(netns, eps)
  const last = collector()
  t.equal(await fresh.scan(last.visit), true)
  t.equal(last.seen.size, count - 1)
})

t.test('a set that is not there, one of another layout, no elements', { skip }, async t => {
  const netns = anonymousNetns()
  const nft = openNft(netns)
  t.teardown(() => {
    nft.close()
    netns.close()
  })
  const { seen, visit } = collector()
  t.equal(await readAhead(netns, eps).scan(visit), undefined)
  await nft.load({ family: 'ip', name: 'ahead', text })
  t.equal(await readAhead(netns, eps).scan(visit), true)
  t.equal(seen.size, 0)
  await nft.applyElements([{ verb: 'add', element: element(1) }])
  const { data: _, ...keys } = eps
  await t.rejects(readAhead(netns, keys).scan(visit), { code: 'EINVAL' })
})
