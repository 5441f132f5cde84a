// Lists of prefixes as ranges, against the prefixes one by one.
import t from 'tap'
import { containsPrefix, overlaps, type Prefix, parsePrefix } from '../../lib/net/prefix.js'
import { overlapsAny, withinAny } from '../../lib/net/ranges.js'

const lists = [
  [],
  ['10.244.0.0/16', 'fd00:244::/48'],
  ['0.0.0.0/0'],
  ['10.0.0.0/8', '10.244.7.0/24', '255.255.255.255/32', '192.0.2.128/25'],
  ['2001:db8::/32'],
].map(texts => texts.map(parsePrefix))

const prefixes = [
  '0.0.0.0/0',
  '10.0.0.0/7',
  '10.0.0.0/8',
  '10.243.255.0/24',
  '10.244.0.0/15',
  '10.244.0.0/16',
  '10.244.7.0/24',
  '10.244.7.128/32',
  '10.245.0.0/24',
  '11.0.0.0/32',
  '192.0.2.0/24',
  '192.0.2.127/32',
  '192.0.2.128/32',
  '255.255.255.254/31',
  '255.255.255.255/32',
  '::/0',
  'fd00:244::/48',
  'fd00:244:0:1::/64',
  'fd00:245::/48',
  '2001:db8:1::/48',
].map(parsePrefix)

t.test('ranges: say what containsPrefix and overlaps say', async t => {
  const seen = { within: 0, over: 0 }
  for (const list of lists)
    for (const prefix of prefixes) {
      const what = `${prefix.text} in ${list.map(({ text }) => text).join(' ')}`
      const within = list.some((outer: Prefix) => containsPrefix(outer, prefix))
      const over = list.some((other: Prefix) => overlaps(other, prefix))
      t.equal(withinAny(list, prefix), within, `within: ${what}`)
      t.equal(overlapsAny(list, prefix), over, `overlaps: ${what}`)
      seen.within += within ? 1 : 0
      seen.over += over ? 1 : 0
    }
  t.ok(seen.within > 20 && seen.over > seen.within, 'both ways were seen')
})
