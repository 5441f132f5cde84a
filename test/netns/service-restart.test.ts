// kill -9 of warrend right after Services were deleted: the model on its disk still has them. What has gone stays gone: a
// fresh agent writes nothing, in any mode, not even for the moment until it has read its store.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { childArgv } from '../../lib/netns/child.js'
import { buildPrograms, createNetwork, type Host, killAgents, startAgent } from '../support/agents.js'
import { etcdMissing } from '../support/etcd.js'
import { until } from '../support/netns-world.js'

t.setTimeout(400_000)
const programs = await buildPrograms()
const ends: (() => void)[] = [() => programs.remove()]
t.teardown(() => {
  killAgents()
  for (const end of ends.reverse()) end()
})
process.once('exit', killAgents)

const names = Array.from({ length: 5 }, (_, i) => `gone-${i}`)
const service = (name: string, i: number): string => `---
{apiVersion: warren/v1, kind: Service, metadata: {name: ${name}}, spec: {clusterIPs: [10.0.9.${i + 1}], ports: [{port: 80}]}}
---
{apiVersion: warren/v1, kind: Endpoints, metadata: {name: ${name}}, spec: {service: ${name}, endpoints: [{addresses: [10.244.9.${i + 1}]}], ports: [{port: 8080}]}}
`
const cluster = (mode: string): string =>
  `{ podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.0.0.0/16], proxyMode: ${mode}, backend: { type: host-gw } }`

const looks = {
  nftables: 'nft list map ip warren-services eps',
  iptables: 'iptables-nft-save -t nat; iptables-legacy-save -t nat',
} as const

/** On the host's own loopback; the kernel ends it with this process. */
function startEtcd(host: Host): void {
  const data = join(host.dir, 'etcd')
  const argv = ['setpriv', '--pdeathsig', 'KILL', 'etcd', '--data-dir', data, '--unsafe-no-fsync'] as const
  const [program, ...args] = childArgv(host.netns, [...argv, '--log-level', 'error'])
  const child = spawn(program, args, { stdio: 'ignore' })
  ends.push(() => void child.kill('SIGKILL'))
}

async function killedAfterDeletes(t: Test, mode: keyof typeof looks, store: 'file' | 'etcd'): Promise<void> {
  const net = createNetwork(programs.dir, `${mode}-${store}`, 1)
  ends.push(() => net.close())
  const [host] = net.hosts
  if (host === undefined) throw new Error('no host')
  if (store === 'file') net.writeCluster(cluster(mode))
  else {
    startEtcd(host)
    host.configure({ store: '{ etcd: { endpoints: ["http://127.0.0.1:2379"], prefix: /warren } }' })
  }
  // A lock of its own for iptables-legacy.
  const env = { XTABLES_LOCKFILE: join(host.dir, 'xtables.lock') }
  const standing = (): number => ((host.attempt(looks[mode]) ?? '').match(/10\.0\.9\.\d+/g) ?? []).length
  const saved = join(host.dir, 'state', 'snapshot.json')
  const onDisk = (): boolean => existsSync(saved) && readFileSync(saved, 'utf8').includes('default/gone-4')

  const agent = startAgent(programs, host, { env })
  const first = `apiVersion: warren/v1\nkind: Cluster\nmetadata: { name: default }\nspec: ${cluster(mode)}\n`
  if (store === 'etcd')
    await until(
      () => agent.client.apply(first, 'cluster.yaml').catch(() => undefined),
      20_000,
      () => agent.log(),
    )
  await agent.converged(0)
  await agent.client.apply(names.map(service).join(''), 'services.yaml')
  const found = await until(
    async () => (standing() >= 5 ? standing() : undefined),
    10_000,
    () => agent.log(),
  )
  t.ok(found >= 5, 'they are served')
  await until(
    async () => (onDisk() ? true : undefined),
    // Saving takes a fiftieth of the time at most: on a busy machine it is rare.
    70_000,
    () => 'the model is on disk',
  )

  await Promise.all(
    names.flatMap(name => [
      agent.client.delete(`service/default/${name}`),
      agent.client.delete(`endpoints/default/${name}`),
    ]),
  )
  await until(
    async () => (standing() === 0 ? true : undefined),
    5_000,
    () => `${standing()} still stand`,
  )
  const stale = onDisk()
  await agent.stop('SIGKILL')
  t.comment(`the model on disk ${stale ? 'is older than that' : 'has been written meanwhile'}`)

  const again = startAgent(programs, host, { env })
  await again.converged(0)
  const events = await again.client.events()
  t.strictSame(
    // What the killed one had not taken away yet is taken away.
    events
      .filter(({ table, verb }) => table.startsWith('service') && verb !== 'remove')
      .map(({ verb, key }) => `${verb} ${key}`),
    [],
    'a fresh agent writes none of them',
  )
  t.equal(standing(), 0)
  await again.stop()
}

for (const mode of ['nftables', 'iptables'] as const)
  for (const store of ['file', 'etcd'] as const) {
    const skip = store === 'etcd' ? etcdMissing() : undefined
    t.test(`${mode}, ${store} store: killed right after Services were deleted`, { skip: skip ?? false }, t =>
      killedAfterDeletes(t, mode, store),
    )
  }
