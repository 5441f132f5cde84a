// The alarm: what ends a wait, and that nothing of it is left behind.
import { getEventListeners } from 'node:events'
import t from 'tap'
import { createAlarm } from '../../lib/alarm.js'
import { systemClock } from '../../lib/clock.js'

for (const ms of [Number.POSITIVE_INFINITY, 3_600_000])
  t.test(
    `alarm: a wait of ${ms} ms ends when it rings and when the signal aborts, and leaves nothing`,
    async t => {
      const alarm = createAlarm(systemClock)
      const stop = new AbortController()
      const timers = (): number =>
        process.getActiveResourcesInfo().filter(resource => resource === 'Timeout').length
      const before = timers()
      alarm.ring()
      for (let i = 0; i < 3; i += 1) {
        const waiting = alarm.wait(ms, stop.signal)
        t.equal(getEventListeners(stop.signal, 'abort').length, 1)
        t.equal(timers(), before + 1, 'it keeps the process')
        alarm.ring()
        alarm.ring()
        await waiting
        t.equal(getEventListeners(stop.signal, 'abort').length, 0)
        t.equal(timers(), before)
      }
      const last = alarm.wait(ms, stop.signal)
      stop.abort()
      await last
      await alarm.wait(ms, stop.signal)
      t.equal(timers(), before)
    },
  )

t.test('alarm: a wait ends when its time is over', async t => {
  const began = performance.now()
  await createAlarm(systemClock).wait(20, new AbortController().signal)
  t.ok(performance.now() - began > 18)
})
