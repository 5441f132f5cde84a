// A real etcd for a benchmark, in the switch's namespace, with the durability that it has by default.
import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { etcdKv } from '../../lib/etcd/etcd.js'
import type { Kv } from '../../lib/kv/kv.js'
import type { Place } from './place.js'

export interface Etcd {
  readonly url: string
  /** A client of its own, closed with the place. */
  client(): Kv
  end(): Promise<void>
}

/** Runs until `end` or the end of the place. */
export async function startEtcd(place: Place): Promise<Etcd> {
  const url = 'http://198.18.0.254:2379'
  const peer = 'http://127.0.0.1:2380'
  const dir = mkdtempSync(join(place.dir, 'etcd-'))
  const log = join(dir, 'log')
  const out = openSync(log, 'a')
  const args = [
    ...[
      '--name',
      'default',
      '--data-dir',
      join(dir, 'data'),
      '--heartbeat-interval',
      '50',
      '--election-timeout',
      '250',
    ],
    ...['--listen-client-urls', url, '--advertise-client-urls', url, '--listen-peer-urls', peer],
    ...['--initial-advertise-peer-urls', peer, '--initial-cluster', `default=${peer}`],
  ]
  const child = spawn('etcd', args, {
    stdio: ['ignore', out, out],
    env: { ...process.env, ...(process.arch === 'x64' ? {} : { ETCD_UNSUPPORTED_ARCH: 'arm64' }) },
  })
  closeSync(out)
  const gone = new Promise<void>(resolve => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const clients: Kv[] = []
  const etcd: Etcd = {
    url,
    client() {
      const kv = etcdKv({ endpoints: [url], prefix: '/warren' })
      clients.push(kv)
      return kv
    },
    async end() {
      for (const kv of clients.splice(0)) await kv.close()
      child.kill('SIGKILL')
      await gone
    },
  }
  place.onEnd(() => etcd.end())
  const until = performance.now() + 20_000
  const kv = etcd.client()
  for (;;) {
    try {
      await kv.list('format')
      return etcd
    } catch (error) {
      if (child.exitCode !== null || performance.now() > until)
        throw new Error(`etcd does not answer: ${readFileSync(log, 'utf8').slice(-1000)}`, { cause: error })
      await delay(20)
    }
  }
}
