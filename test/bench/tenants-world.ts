// Tenants' networks on hosts of a benchmark: their documents, and warrends with the role.
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { exec } from '../../lib/exec.js'
import { type Daemon, dist, forget, type StoreSpec, startDaemon } from './daemon.js'
import type { Place } from './place.js'

export interface PortSpec {
  readonly name: string
  readonly network: string
  readonly node: string
  readonly address: string
  /** Its container's namespace. */
  readonly netns: string
  readonly mac?: string
}

export interface NetworkSpec {
  readonly name: string
  readonly cidr: string
  readonly vni: number
  readonly dhcp: boolean
}

export function documents(networks: readonly NetworkSpec[], ports: readonly PortSpec[]): string {
  const objects = [
    { kind: 'Tenant', metadata: { name: 'red' }, spec: undefined },
    ...networks.map(({ name, cidr, vni, dhcp }) => ({
      kind: 'Network',
      metadata: { name, tenant: 'red' },
      spec: { type: 'vxlan', vni, subnets: [{ cidr, dhcp }] },
    })),
    ...ports.map(({ name, network, node, address, netns, mac }) => ({
      kind: 'Port',
      metadata: { name, tenant: 'red' },
      spec: { network, node, fixedIPs: [address], mac, device: { kind: 'veth', netns, name: 'eth0' } },
    })),
  ]
  return objects.map(object => `---\n${JSON.stringify({ apiVersion: 'warren/v1', ...object })}\n`).join('')
}

function roles(place: Place, host: number): readonly string[] {
  return ['roles: [fabric]', `netnsPrefix: ${place.ns(`h${host}`)}`]
}

/** Without a store: the file store of the place. */
export function fabric(
  place: Place,
  host: number,
  store: StoreSpec = { file: join(place.dir, 'store') },
): Daemon {
  return startDaemon(place, host, store, roles(place, host))
}

/** As a user would: everything of ours goes. */
export async function cleanUp(place: Place, host: number): Promise<void> {
  const config = join(place.dir, `h${host}`, 'warrend.yaml')
  const argv: [string, ...string[]] = [
    'nsenter',
    `--net=${place.path(`h${host}`)}`,
    dist('warren'),
    '--config',
    config,
    'cleanup',
  ]
  await exec(argv, { ok: [0, 1], timeout: 240_000 })
}

/** Errors: what the model or the daemon says. */
export async function apply(daemon: Daemon, text: string): Promise<void> {
  for (let i = 0; i < 500; i += 1) {
    const there = await daemon.client.ping().then(
      () => true,
      () => false,
    )
    if (there) break
    await delay(20)
  }
  const { problems } = await daemon.client.apply(text, 'bench')
  const bad = problems.find(({ level }) => level === 'error')
  if (bad !== undefined) throw new Error(bad.message)
}

export async function gone(
  place: Place,
  daemons: readonly Daemon[],
  hosts: readonly number[],
): Promise<void> {
  for (const daemon of daemons) await daemon.end()
  for (const host of hosts) {
    await cleanUp(place, host)
    await place.removeHost(host)
    forget(place, host)
  }
}

/** Networks of `each` ports on a host of that number. */
export function many(
  place: Place,
  networks: number,
  each: number,
  host = 1,
): { readonly networks: NetworkSpec[]; readonly ports: PortSpec[] } {
  const all = Array.from({ length: networks }, (_, n) => n)
  return {
    networks: all.map(n => ({
      name: `n${n}`,
      cidr: `10.${n >> 8}.${n & 255}.0/24`,
      vni: 2000 + n,
      dhcp: false,
    })),
    ports: all.flatMap(n =>
      Array.from({ length: each }, (_, i) => ({
        name: `p${n}-${i}`,
        network: `n${n}`,
        node: `h${host}`,
        address: `10.${n >> 8}.${n & 255}.${10 + i}`,
        netns: place.ns(host === 1 ? `c${n}-${i}` : `d${n}-${i}`),
      })),
    ),
  }
}

/** ping itself ends where there is no address yet. */
export async function answers(ns: string, target: string): Promise<void> {
  const until = Date.now() + 20_000
  for (;;) {
    const { code } = await exec(['nsenter', `--net=${ns}`, 'ping', '-nqc1', '-W1', target], { ok: [0, 1, 2] })
    if (code === 0) return
    if (Date.now() > until) throw new Error(`${target} does not answer`)
    await delay(50)
  }
}
