// The lab that users start: how long it takes until every pod reaches every other, and what its three agents cost.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from '../../lib/exec.js'
import { cpuOf, rssOf } from './daemon.js'
import type { Place } from './place.js'
import { type Row, row } from './row.js'

export async function labRows(place: Place, idleSeconds: number): Promise<Row[]> {
  const name = `bench-${process.pid}`
  const script = join(process.env['WARREN_ROOT'] ?? '.', 'scripts/lab.sh')
  const env = { WARREN_LAB_DIR: join(place.dir, 'lab') }
  const down = async (): Promise<void> =>
    void (await exec([script, 'down', '--name', name], { env, ok: [0, 1], timeout: 60_000 }))
  place.onEnd(down)
  const started = performance.now()
  const up = await exec([script, 'up', '--name', name, '--hosts', '3'], { env, timeout: 120_000 })
  const whole = performance.now() - started
  const reachable = /all reachable ([0-9.]+) s/.exec(up.stderr)?.[1]
  const pids = ['h1', 'h2', 'h3'].map(host =>
    Number(readFileSync(join(env.WARREN_LAB_DIR, name, host, 'warrend.pid'), 'utf8').split(' ')[0]),
  )
  await delay(20_000)
  const before = pids.map(cpuOf)
  const at = performance.now()
  await delay(idleSeconds * 1000)
  const elapsed = performance.now() - at
  const cpu = pids.map((pid, i) => ((cpuOf(pid) - (before[i] ?? 0)) / elapsed) * 100)
  const rss = pids.map(rssOf)
  await down()
  const list = (values: readonly number[]): string => values.map(value => value.toFixed(2)).join(', ')
  return [
    row('lab-up', reachable === undefined ? undefined : Number(reachable), 's', {
      goal: { atMost: 10 },
      note: `three hosts, six pods, store file: all pods reach each other; the command ended after ${(whole / 1000).toFixed(1)} s`,
    }),
    row('rss-lab', Math.max(...rss), 'MB', { goal: { atMost: 80 }, note: `the largest of ${list(rss)}` }),
    row('cpu-lab', Math.max(...cpu), '% of a core', {
      goal: { atMost: 0.3 },
      note: `idle for ${idleSeconds} s, the most of ${list(cpu)}`,
    }),
  ]
}
