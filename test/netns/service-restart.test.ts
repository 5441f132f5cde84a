// kill -9 of warrend right after Services were deleted: the model on its disk still has them. What has gone stays gone: a
// fresh agent writes nothing, in any mode, not even for the moment until it has read its store.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { buildPrograms, createNetwork, killAgents, startAgent } from '../support/agents.js'
import { until } from '../support/netns-world.js'

t.setTimeout(240_000)
const programs = await buildPrograms()
const open: { close(): void }[] = []
t.teardown(() => {
  killAgents()
  for (const one of open) one.close()
  programs.remove()
})
process.once('exit', killAgents)

const names = Array.from({ length: 5 }, (_, i) => `gone-${i}`)
const service = (name: string, i: number): string => `---
{apiVersion: warren/v1, kind: Service, metadata: {name: ${name}}, spec: {clusterIPs: [10.0.9.${i + 1}], ports: [{port: 80}]}}
---
{apiVersion: warren/v1, kind: Endpoints, metadata: {name: ${name}}, spec: {service: ${name}, endpoints: [{addresses: [10.244.9.${i + 1}]}], ports: [{port: 8080}]}}
`

const looks = {
  nftables: 'nft list map ip warren-services eps',
  iptables: 'iptables-nft-save -t nat; iptables-legacy-save -t nat',
} as const

for (const mode of ['nftables', 'iptables'] as const)
  t.test(`${mode}: killed right after Services were deleted`, async t => {
    const net = createNetwork(programs.dir, `restart-${mode}`, 1)
    open.push(net)
    net.writeCluster(
      `{ podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.0.0.0/16], proxyMode: ${mode}, backend: { type: host-gw } }`,
    )
    const [host] = net.hosts
    if (host === undefined) throw new Error('no host')
    // A lock of its own for iptables-legacy.
    const env = { XTABLES_LOCKFILE: join(host.dir, 'xtables.lock') }
    const standing = (): number => ((host.attempt(looks[mode]) ?? '').match(/10\.0\.9\.\d+/g) ?? []).length
    const saved = join(host.dir, 'state', 'snapshot.json')
    const onDisk = (): boolean =>
      existsSync(saved) && readFileSync(saved, 'utf8').includes('service/default/gone-4')

    const agent = startAgent(programs, host, { env })
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
      events.filter(({ table }) => table.startsWith('service')).map(({ verb, key }) => `${verb} ${key}`),
      [],
      'a fresh agent writes none of them',
      // The model that it starts from is up to a second old, and absence is believed after 300 ms alone.
      { todo: 'the model on disk says since when it is, and the store what has gone since' },
    )
    t.equal(standing(), 0)
    await again.stop()
  })
