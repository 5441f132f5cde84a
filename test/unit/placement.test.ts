// Where hosts begin to look for a block, an address, a port or an id: fixed values, since hosts of another version, and what
// the store and the kernel hold from before, must agree with it.
import t from 'tap'
import { startIndex } from '../../agent/blocks.js'
import { groupSets } from '../../agent/compute/tenant/fabric-marks.js'
import { StableIds } from '../../agent/compute/tenant/stable-ids.js'
import { addressCandidates, inOrder, portCandidates } from '../../agent/model/service-ranges.js'
import { fnv1a } from '../../lib/fnv.js'
import { parsePrefix } from '../../lib/net/prefix.js'
import { hashOf } from '../../lib/persistent/trie.js'

const all = 2 ** 32

t.test('blocks: a node begins at its number, at its hash, and after a lost race elsewhere', async t => {
  t.equal(startIndex('h7', 256), 7)
  t.equal(startIndex('alpha', all), 1_569_418_667)
  t.equal(startIndex('alpha', 256), 171)
  t.equal(startIndex('a', all), 3_826_002_220, 'without a sign')
  t.equal(startIndex('a', all, 3), 373_583_426)
  t.equal(startIndex('h7', 256, 1), 140)
})

t.test('addresses, ports and numbers of owners', async t => {
  const web = 'service/default/web'
  t.equal(addressCandidates(parsePrefix('10.96.0.0/12'), web).next().value, '10.107.24.180')
  t.equal(addressCandidates(parsePrefix('fd00:96::/108'), web).next().value, 'fd00:96::b:167e')
  t.equal(portCandidates({ first: 30000, last: 32767 }, `${web}:http`).next().value, 31_749)
  t.equal(inOrder(all, 0, web).next().value, 594_074_951)
  t.equal(inOrder(all, 0, 'a').next().value, 3_826_002_220, 'without a sign')
  t.equal(inOrder(all, 0, 'zürich').next().value, 141_621_789, 'by UTF-16 units')
})

t.test('ids that a restarted agent finds in the kernel: of sets of groups, of rules and zones', async t => {
  const id = (...groups: string[]): unknown =>
    [...groupSets([{ adminUp: true, portSecurity: true, groups } as never]).values()][0]?.id
  t.equal(id('red/web'), 15_309_481)
  t.equal(id('a'), 797_128)
  t.equal(id(), 1_875_268)
  t.equal(new StableIds(all).claim('a'), 3_826_002_221)
  t.equal(new StableIds(65_534).claim('red/web'), (1_961_466_589 % 65_534) + 1)
})

t.test('the word for a text that a snapshot keeps; a map mixes it once more', async t => {
  t.equal(fnv1a(''), -2_128_831_035)
  t.equal(fnv1a('a'), -468_965_076, 'with a sign')
  t.equal(fnv1a('h😀'), -30_055_302)
  t.equal(hashOf('a'), 186_864_634)
  t.equal(hashOf('alpha'), -1_127_718_204)
})
