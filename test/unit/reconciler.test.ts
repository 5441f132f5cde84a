// When the loop makes a pass: at once, but for one bulk after the other.
import t from 'tap'
import { Reconciler } from '../../agent/dataplane/reconciler.js'
import type { DesiredState } from '../../agent/model/desired.js'
import { systemClock } from '../../lib/clock.js'
import { silentLog } from '../../lib/log.js'
import { createReceipts } from '../../lib/reconcile/receipt.js'
import type { Table } from '../../lib/reconcile/table.js'

t.test('a pass follows a kick at once, but gathers while thousands of objects come', async t => {
  const slept: number[] = []
  let now = 1_000
  const clock = {
    ...systemClock,
    now: () => now,
    async sleep(ms: number): Promise<void> {
      slept.push(ms)
      now += ms
    },
  }
  let wanted: readonly string[] = []
  /** What a pass costs, ms, and what comes meanwhile. */
  let cost = 0
  let meanwhile: readonly string[] | undefined
  const table: Table<string> = {
    name: 'route',
    key: object => object,
    equal: (desired, observed) => desired === observed,
    observe: async () => [],
    async apply(ops) {
      now += cost
      if (meanwhile !== undefined) {
        wanted = meanwhile
        meanwhile = undefined
        reconciler.kick()
      }
      return ops.map(() => undefined)
    },
    format: ({ verb }) => verb,
  }
  const ops: number[] = []
  let passed: () => void = () => undefined
  const reconciler = new Reconciler({
    stages: [{ name: 'route', table: table as Table<unknown> }],
    desired: () => ({ route: new Map([['x', wanted]]), problems: [] }) as unknown as DesiredState,
    clock,
    log: silentLog,
    receipts: createReceipts(),
    driftMs: 3_600_000,
    onPass(report) {
      ops.push(report.ops)
      passed()
    },
  })
  const stop = new AbortController()
  const running = reconciler.run(stop.signal)
  const names = (count: number): readonly string[] => Array.from({ length: count }, (_, i) => `r${i}`)
  async function kicked(next: readonly string[], passes: number): Promise<void> {
    const until = ops.length + passes
    const over = new Promise<void>(resolve => {
      passed = () => {
        if (ops.length === until) resolve()
      }
    })
    wanted = next
    reconciler.kick()
    await over
  }

  await kicked(names(100), 1)
  await kicked(names(101), 1)
  t.same([ops, slept], [[100, 1], []], 'one change after a bulk waits for nothing')

  cost = 7
  meanwhile = names(120)
  await kicked(names(110), 2)
  t.same([ops.splice(2), slept], [[9, 10], []], 'nor does one that came while a few were written')

  meanwhile = names(200)
  await kicked(names(160), 2)
  t.same([ops.splice(2), slept], [[40, 40], []], 'nor does what came during the first of a lot')
  meanwhile = names(300)
  await kicked(names(250), 2)
  t.same([ops.splice(2), slept], [[50, 50], [7]], 'then it gathers for as long as the last pass took')
  cost = 500
  meanwhile = names(400)
  await kicked(names(350), 2)
  t.same(
    [ops.splice(2), slept],
    [
      [50, 50],
      [7, 20],
    ],
    'but not for longer than 20 ms',
  )
  meanwhile = names(1600)
  await kicked(names(1000), 2)
  t.same([ops.splice(2), slept.length], [[600, 600], 2], 'nor after hundreds at a time')
  stop.abort()
  await running
})
