// What every member of etcd answers to a GET, without its API: /health (a read by quorum; false on an alarm), /version, and the
// Date of its clock. `curl --cacert CA https://192.0.2.1:2379/health`.
import { readFileSync } from 'node:fs'
import { request as http } from 'node:http'
import { request as https } from 'node:https'
import { codeOf } from '../../lib/errors.js'
import type { Config } from '../config.js'
import { cpuTime, starvation } from './starved.js'

export interface EtcdAnswer {
  readonly endpoint: string
  /** Milliseconds; undefined: no answer. */
  readonly ms: number | undefined
  /** Why there was none, or what was not understood. */
  readonly failure?: string
  /** Why that says nothing about etcd: this process had no time to see an answer. */
  readonly starved?: string
  /** Why it says that it is not well. */
  readonly reason?: string
  readonly healthy?: boolean
  /** Milliseconds that its clock is ahead of ours, give or take a second: HTTP's Date has no fractions. */
  readonly skew?: number
  readonly version?: string
}

interface Answer {
  readonly body: string
  readonly ms: number
  readonly date: string | undefined
}

type EtcdConfig = Extract<Config['store'], { readonly etcd: unknown }>['etcd']

function get(
  endpoint: string,
  path: string,
  tls: EtcdConfig['tls'],
  ms: number,
  signal: AbortSignal,
): Promise<Answer> {
  const url = new URL(path, endpoint)
  const files = Object.fromEntries(
    Object.entries(tls ?? {}).flatMap(([key, file]) =>
      file === undefined ? [] : [[key, readFileSync(file)]],
    ),
  )
  return new Promise((resolve, reject) => {
    const from = performance.now()
    const options = { agent: false, signal, timeout: ms } as const
    const request = url.protocol === 'https:' ? https(url, { ...options, ...files }) : http(url, options)
    request.once('timeout', () =>
      request.destroy(Object.assign(new Error(`no answer within ${ms} ms`), { code: 'ETIMEDOUT' })),
    )
    request.once('error', reject)
    request.once('response', response => {
      let body = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        if (body.length < 65_536) body += part
      })
      response.once('error', reject)
      response.once('end', () => resolve({ body, ms: performance.now() - from, date: response.headers.date }))
    })
    request.end()
  })
}

function field(body: string, name: string): string | undefined {
  try {
    const value = (JSON.parse(body) as Readonly<Record<string, unknown>>)[name]
    return value === undefined ? undefined : String(value)
  } catch {
    return undefined
  }
}

/** Never rejects. */
export async function askEtcd(
  endpoint: string,
  tls: EtcdConfig['tls'],
  ms: number,
  signal: AbortSignal,
): Promise<EtcdAnswer> {
  const from = performance.now()
  const before = cpuTime()
  try {
    const [health, version] = await Promise.all([
      get(endpoint, '/health', tls, ms, signal),
      get(endpoint, '/version', tls, ms, signal),
    ])
    const now = Date.now()
    const said = version.date === undefined ? Number.NaN : Date.parse(version.date)
    const word = field(health.body, 'health')
    const reason = field(health.body, 'reason')
    const number = field(version.body, 'etcdserver')
    return {
      endpoint,
      ms: health.ms,
      ...(word === undefined ? { failure: 'it does not speak as etcd does' } : { healthy: word === 'true' }),
      ...(reason === undefined || reason === '' ? {} : { reason }),
      // Date is cut to the second: half a second later on average.
      ...(Number.isNaN(said) ? {} : { skew: said + 500 - now }),
      ...(number === undefined ? {} : { version: number }),
    }
  } catch (error) {
    const code = codeOf(error)
    const late = code === 'ETIMEDOUT' || signal.aborted
    const starved = late ? starvation(performance.now() - from, before, cpuTime()) : undefined
    return {
      endpoint,
      ms: undefined,
      ...(starved === undefined ? {} : { starved }),
      failure: code === 'UNKNOWN' && error instanceof Error ? error.message : code,
    }
  }
}
