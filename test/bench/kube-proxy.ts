// kube-proxy itself, from KUBE_PROXY, as a host would run it: in a network namespace of the benchmark, over the API server
// of kube-api.ts. It writes no host sysctls: conntrack's settings are 0, and its sysctls are those of the namespace.
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Place } from './place.js'

export type KubeProxyMode = 'nftables' | 'iptables'

export interface KubeProxy {
  readonly pid: number
  /** performance.now() just before the process was started. */
  readonly startedAt: number
  /** What its log says of passes of IPv4 that are over ("SyncProxyRules complete"), seconds of each. */
  syncs(): readonly number[]
  /** How many of its passes failed. */
  failed(): number
  alive(): boolean
  /** The end of its log, for an error. */
  tail(): string
  /** SIGTERM: its rules stay. */
  end(): Promise<void>
}

export interface KubeProxyOptions {
  readonly place: Place
  /** The namespace: "h1"; also the node's name. */
  readonly what: string
  readonly mode: KubeProxyMode
  readonly program: string
  readonly api: string
  /** What is a pod's address, for what is masqueraded. */
  readonly podCidr: string
}

/** KubeProxyConfiguration v1alpha1 is read as JSON, too. Timers are kube-proxy's own defaults. */
function config(node: string, mode: KubeProxyMode, kubeconfig: string, podCidr: string): object {
  const json = 'application/json'
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode,
    hostnameOverride: node,
    clientConnection: { kubeconfig, contentType: json, acceptContentTypes: json },
    detectLocalMode: 'ClusterCIDR',
    clusterCIDR: podCidr,
    // In the namespace alone.
    ...{ healthzBindAddress: '127.0.0.1:10256', metricsBindAddress: '127.0.0.1:10249' },
    iptables: { localhostNodePorts: false },
    nodePortAddresses: ['192.0.2.0/24'],
    oomScoreAdj: 0,
    conntrack: {
      ...{ maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
      ...{ udpTimeout: '0s', udpStreamTimeout: '0s' },
    },
  }
}

function kubeconfig(server: string): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'bench', cluster: { server } }],
    users: [{ name: 'bench', user: {} }],
    contexts: [{ name: 'bench', context: { cluster: 'bench', user: 'bench' } }],
    'current-context': 'bench',
  }
}

const syncDone = /"SyncProxyRules complete" ipFamily="IPv4" elapsed="([^"]+)"/g

const units: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1, ms: 1e-3, µs: 1e-6, ns: 1e-9 }

/** A duration as Go prints it, in seconds: "1m2.5s", "812.4ms". */
export function goSeconds(text: string): number {
  return [...text.matchAll(/([\d.]+)(h|ms|µs|ns|m|s)/g)].reduce(
    (sum, [, value, unit]) => sum + Number(value) * (units[unit ?? ''] ?? 0),
    0,
  )
}

export function startKubeProxy(options: KubeProxyOptions): KubeProxy {
  const { place, what, mode, program, api, podCidr } = options
  const dir = join(place.dir, `kube-proxy-${mode}-${Math.round(performance.now())}`)
  mkdirSync(dir, { recursive: true })
  const file = (name: string, object: object): string => {
    writeFileSync(join(dir, name), JSON.stringify(object))
    return join(dir, name)
  }
  const access = file('kubeconfig.json', kubeconfig(api))
  const settings = file('config.json', config(what, mode, access, podCidr))
  const log = join(dir, 'log')
  const out = openSync(log, 'a')
  const startedAt = performance.now()
  const argv = [`--net=${place.path(what)}`, program, '--config', settings, '-v', '2']
  const child = spawn('nsenter', argv, {
    stdio: ['ignore', out, out],
    // iptables-legacy: nobody else's waits for this one, nor this one for theirs.
    env: { ...process.env, XTABLES_LOCKFILE: join(dir, 'xtables.lock') },
  })
  closeSync(out)
  const gone = new Promise<void>(resolve => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const alive = (): boolean => child.exitCode === null && child.signalCode === null
  const proxy: KubeProxy = {
    pid: child.pid ?? 0,
    startedAt,
    alive,
    syncs: () =>
      [...readFileSync(log, 'utf8').matchAll(syncDone)].map(([, elapsed = '']) => goSeconds(elapsed)),
    failed: () => readFileSync(log, 'utf8').split('"Sync failed"').length - 1,
    tail: () => readFileSync(log, 'utf8').slice(-3000),
    async end() {
      if (alive()) child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await gone
      clearTimeout(late)
    },
  }
  place.onEnd(() => proxy.end())
  return proxy
}

/** Looks every `everyMs` until `there`. Errors: when it ended, or did not get there in `timeoutMs`. */
export async function until(
  proxy: KubeProxy,
  there: () => boolean | Promise<boolean>,
  timeoutMs: number,
  everyMs = 5,
): Promise<number> {
  const last = performance.now() + timeoutMs
  for (;;) {
    if (await there()) return performance.now()
    if (!proxy.alive() || performance.now() > last) {
      const why = proxy.alive() ? `was not there within ${timeoutMs} ms` : 'ended'
      throw new Error(`kube-proxy ${why}:\n${proxy.tail()}`)
    }
    await delay(everyMs)
  }
}
