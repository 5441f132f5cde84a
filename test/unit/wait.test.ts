// `warren wait`: what it waits for, which write it means when none is named, and what it says in vain.
import t from 'tap'
import type { Status } from '../../agent/api/control.js'
import { createWaits, type Progress } from '../../agent/api/wait.js'

function world() {
  let at: Progress = { revision: 5, converged: true, hold: undefined, tables: [], sources: [] }
  let clock = 0
  const listeners = new Set<() => void>()
  const waits = createWaits({
    progress: () => at,
    status: () => ({ revision: at.revision }) as Status,
    onPass: listeners,
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    now: () => clock,
  })
  return {
    waits,
    listeners,
    later(ms: number) {
      clock += ms
    },
    set(more: Partial<Progress>) {
      at = { ...at, ...more }
      for (const listener of [...listeners]) listener()
    },
  }
}
const signal = new AbortController().signal

t.test('a converged host is waited for no longer, nothing is left listening', async t => {
  const { waits, listeners } = world()
  t.equal((await waits.wait(undefined, 1000, signal)).revision, 5)
  t.equal(listeners.size, 0)
})

t.test('who wrote by this daemon waits for that write, before the store tells of it', async t => {
  const { waits, set } = world()
  await waits.noted(Promise.resolve({ revision: 7 }))
  const waited = waits.wait(undefined, 5000, signal)
  set({ revision: 6 })
  set({ revision: 7, converged: false })
  t.equal(await Promise.race([waited, new Promise(resolve => setTimeout(resolve, 20, 'waits'))]), 'waits')
  set({ converged: true })
  t.equal((await waited).revision, 7)
})

t.test('a write of long ago is no longer meant: the store may have been restored', async t => {
  const { waits, later } = world()
  await waits.noted(Promise.resolve({ revision: 700 }))
  later(10_001)
  t.equal((await waits.wait(undefined, 1000, signal)).revision, 5)
})

t.test('in vain: the reason', async t => {
  const { waits, set, listeners } = world()
  await t.rejects(waits.wait(9, 10, signal), { code: 'TIMEOUT', message: /revision 5, not 9/ })
  set({ hold: 'waiting for its sources' })
  await t.rejects(waits.wait(undefined, 10, signal), { message: /waiting for its sources/ })
  set({
    hold: undefined,
    tables: [
      { name: 'route', state: 'degraded', error: 'EPERM', objects: 0, observed: 0, written: 0, failed: 1 },
    ],
  })
  await t.rejects(waits.wait(undefined, 10, signal), { message: /table route is degraded: EPERM/ })
  t.equal(listeners.size, 0)
  const stop = new AbortController()
  const stopped = waits.wait(undefined, 5000, stop.signal)
  stop.abort(new Error('gone'))
  await t.rejects(stopped, { message: 'gone' })
})
