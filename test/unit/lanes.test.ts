// lib/lanes: how many are under way, in which order they begin, and what becomes of the rest when one fails.
import t from 'tap'
import { inLanes } from '../../lib/lanes.js'

t.test('lanes: each is done once, in order, no more than so many at a time', async t => {
  const begun: number[] = []
  const ends = new Map<number, () => void>()
  const done = inLanes(3, [0, 1, 2, 3, 4].values(), async n => {
    begun.push(n)
    await new Promise<void>(resolve => ends.set(n, resolve))
  })
  t.same(begun, [0, 1, 2])
  ends.get(1)?.()
  await new Promise(setImmediate)
  t.same(begun, [0, 1, 2, 3], 'the lane that was free takes the next')
  for (const n of [0, 2, 3]) ends.get(n)?.()
  await new Promise(setImmediate)
  t.same(begun, [0, 1, 2, 3, 4])
  ends.get(4)?.()
  await done
  await inLanes(3, [], async () => void t.fail('nothing to do'))
})

t.test('lanes: the first error rejects, and the others go on', async t => {
  const done: number[] = []
  await t.rejects(
    inLanes(2, [1, 2, 3, 4], async n => {
      if (n === 1) throw new Error('no 1')
      await new Promise(setImmediate)
      done.push(n)
    }),
    { message: 'no 1' },
  )
  while (done.length < 3) await new Promise(setImmediate)
  t.same(done, [2, 3, 4])
})
