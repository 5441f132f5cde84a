// What systemd is told, and when: ready, degraded, reloading, alive; and what a configuration that is read again changes.
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Config, parseConfig } from '../../agent/config.js'
import { liveConfig } from '../../agent/live-config.js'
import { type Loop, notifyPart, watchdogPeriod } from '../../agent/notify-part.js'
import { createLog, silentLog } from '../../lib/log.js'
import { simClock } from '../support/sim-clock.js'

type State = Readonly<Record<string, string>>

interface Fixture {
  readonly said: State[]
  readonly loop: { -readonly [K in keyof Loop]: Loop[K] }
  readonly sources: { name: string; inSync: boolean }[]
  readonly onPass: Set<() => void>
  readonly clock: ReturnType<typeof simClock>
  pass(): void
  stop(): Promise<void>
}

function started(
  t: Test,
  options: { readonly env?: NodeJS.ProcessEnv; readonly ageMs?: number } = {},
): Fixture {
  const said: State[] = []
  const clock = simClock()
  const onPass = new Set<() => void>()
  const sources = [{ name: 'etcd http://e', inSync: true }]
  const loop: Fixture['loop'] = { tables: [], converged: false, lastPass: undefined, stalledMs: 0 }
  const end = new AbortController()
  const part = notifyPart({
    onPass,
    clock,
    log: silentLog,
    reconciler: loop,
    applied: () => 7,
    sources: () => sources,
    reloads: undefined,
    notify: state => said.push(state) > 0,
    env: options.env ?? {},
    ageMs: options.ageMs ?? 500,
  })
  const running = part(end.signal)
  const stop = async (): Promise<void> => {
    end.abort()
    await running
  }
  t.teardown(stop)
  return { said, loop, sources, onPass, clock, stop, pass: () => onPass.forEach(each => void each()) }
}

const table = (name: string, state: string): Loop['tables'][number] => ({ name, state })

t.test('ready is said after the first full pass; from then on only what is new', async t => {
  const { said, loop, sources, pass } = started(t)
  loop.lastPass = { hold: 'no Cluster yet' }
  pass()
  t.strictSame(
    said.splice(0),
    [{ STATUS: 'degraded: not converged, holding: no Cluster yet' }],
    'a pass that holds',
  )
  loop.lastPass = { hold: undefined }
  loop.tables = [table('link', 'converged'), table('route', 'degraded')]
  pass()
  t.strictSame(said.splice(0), [{ READY: '1', STATUS: 'degraded: route' }])
  pass()
  t.strictSame(said.splice(0), [], 'nothing new')
  loop.tables = [table('link', 'converged'), table('route', 'converged')]
  loop.converged = true
  pass()
  t.strictSame(said.splice(0), [{ STATUS: 'converged at revision 7' }])
  sources[0] = { name: 'etcd http://e', inSync: false }
  pass()
  t.strictSame(said.splice(0), [{ STATUS: 'degraded: etcd http://e not in sync' }], 'a source is a part, too')
})

t.test('ready is said 4.5 s after the process began, whatever is missing', async t => {
  const { said, sources, clock, stop } = started(t, { ageMs: 1500 })
  sources[0] = { name: 'etcd http://e', inSync: false }
  await clock.pass(2900)
  t.strictSame(said, [])
  await clock.pass(200)
  t.strictSame(said.splice(0), [{ READY: '1', STATUS: 'waiting for its sources: etcd http://e not in sync' }])
  await stop()
  t.match(said, [{ STOPPING: '1', STATUS: /keeps forwarding/ }])
})

t.test('one that is stopped before it was ready does not say that it is', async t => {
  const { said, stop } = started(t)
  await stop()
  t.strictSame(
    said.map(each => Object.keys(each)),
    [['STOPPING', 'STATUS']],
  )
})

t.test('the watchdog is asked for by systemd, of this very process', async t => {
  t.equal(watchdogPeriod({}), undefined)
  t.equal(watchdogPeriod({ WATCHDOG_USEC: '0' }), undefined)
  t.equal(watchdogPeriod({ WATCHDOG_USEC: '2000000' }), 2000)
  t.equal(watchdogPeriod({ WATCHDOG_USEC: '2000000', WATCHDOG_PID: '12' }, 12), 2000)
  t.equal(watchdogPeriod({ WATCHDOG_USEC: '2000000', WATCHDOG_PID: '13' }, 12), undefined)
})

t.test('a pass that does not get on for four periods is not alive', async t => {
  const { said, loop } = started(t, { env: { WATCHDOG_USEC: '60000' } })
  const pings = (): number => said.filter(each => each['WATCHDOG'] === '1').length
  const until = async (done: () => boolean): Promise<void> => {
    for (let i = 0; i < 500 && !done(); i += 1) await sleep(10)
    t.ok(done())
  }
  await until(() => pings() >= 2)
  loop.stalledMs = 239
  const before = pings()
  await until(() => pings() > before)
  loop.stalledMs = 240
  const last = pings()
  await sleep(250)
  t.ok(pings() <= last, 'no ping while it hangs')
  loop.stalledMs = 0
  await until(() => pings() > last)
})

function reloading(
  t: Test,
  first: string,
): { put(text: string): void; live: ReturnType<typeof liveConfig>; phases: string[] } {
  let text = first
  const load = (): Config => parseConfig(`node: h1\n${text}`, 'w.yaml')
  const live = liveConfig(load(), load)
  const phases: string[] = []
  live.onReload.add(phase => void phases.push(phase))
  const put = (next: string): void => {
    text = next
    phases.length = 0
    live.reload(silentLog)
    t.strictSame(phases, ['begin', 'end'], 'whatever comes of it, systemd is told of both')
  }
  return { put, live, phases }
}

t.test('reload: some fields take effect, the others wait for a restart and say so', async t => {
  const { put, live } = reloading(t, 'labels: { rack: r1 }\n')
  const { config } = live
  put('labels: { rack: r2 }\nunderlay: { interface: eth1 }\nproxyMode: iptables\nlog: { level: debug }\n')
  t.match(config, {
    labels: { rack: 'r2' },
    underlay: { interface: 'eth1' },
    proxyMode: 'iptables',
    log: { level: 'debug' },
  })
  t.strictSame([live.notes(), live.problems()], [[], []])
  put('resyncInterval: 30\nstore: { file: /elsewhere }\nsocketGroup: adm\nlog: { format: json }\n')
  t.match(
    [config.resyncInterval, config.store, config.labels],
    [60, { file: '/var/lib/warren/cluster' }, undefined],
  )
  t.strictSame(live.notes(), ['needs a restart for store, resyncInterval, socketGroup, log.format'])
  t.match(live.problems(), [{ level: 'warning', code: 'RESTART_NEEDED', hint: /systemctl restart warrend/ }])
  put('labels: { rack: r1 }\n')
  t.strictSame([live.notes(), live.problems()], [[], []], 'as at the start: nothing to restart for')
})

t.test('reload: a file with a fault changes nothing, and is said', async t => {
  const { put, live } = reloading(t, 'labels: { rack: r1 }\n')
  put('lables: { rack: r2 }\n')
  t.strictSame(live.config.labels, { rack: 'r1' })
  t.match(live.notes(), [/^warrend\.yaml refused: .*lables is not a known field/])
  t.match(live.problems(), [{ level: 'error', code: 'CONFIG', hint: /systemctl reload/ }])
  put('labels: { rack: r2 }\n')
  t.strictSame([live.config.labels, live.notes()], [{ rack: 'r2' }, []])
})

t.test('reload: a logger follows its level', async t => {
  const { put, live } = reloading(t, 'log: { level: warn }\n')
  const lines: string[] = []
  const log = createLog({
    level: () => live.config.log.level,
    format: 'text',
    write: line => void lines.push(line),
  })
  log.info('one')
  put('log: { level: debug }\n')
  log.debug('two')
  t.match(lines, [/two/])
  t.equal(lines.length, 1)
})
