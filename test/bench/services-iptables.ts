// Services in iptables mode, in both variants: from nothing, one endpoint changed, read back by a restarted agent, and the
// first packet. Against what iptables-restore itself needs for kube-proxy's layout of the very same Services (a chain for
// each Service and for each endpoint). Every round has a namespace of its own, which nobody else can name.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  type ServiceIptablesTable,
  serviceIptablesTable,
} from '../../agent/dataplane/tables/service-iptables.js'
import { familyBases } from '../../agent/model/service-base.js'
import type { ServiceEntry } from '../../agent/model/service-entry.js'
import { exec } from '../../lib/exec.js'
import { openIptablesText } from '../../lib/iptables/restore.js'
import type { IptablesVariant } from '../../lib/iptables/types.js'
import { childArgv } from '../../lib/netns/child.js'
import { bind, close, listen, nativeFunction, socket } from '../../lib/netns/libc.js'
import { anonymousNetns, type Netns } from '../../lib/netns/netns.js'
import { connects, sockaddr } from './connects.js'
import { type Goal, median, percentile, type Row, row, spread } from './row.js'

export interface IptablesBench {
  /** Default: both. */
  readonly variants?: readonly IptablesVariant[]
  readonly services: number
  readonly rounds: number
  /** Endpoints changed one by one in each variant. */
  readonly changes: number
  /** Numbers of Services for the first packet; the first one is what the others are compared with. */
  readonly connects: readonly number[]
  readonly turns: number
}

const all: readonly IptablesVariant[] = ['legacy', 'nft']
const goals: Readonly<Record<IptablesVariant, Goal>> = { legacy: { atMost: 1 }, nft: { atMost: 0.1 } }
const never = new AbortController().signal
const port = 80
const targetPort = 8080

const at = (net: number, n: number): string => `10.${net + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`
/** 10.0.0.0/10. */
const clusterIp = (n: number): string => at(0, n)
/** 10.128.0.0/10; one node in a hundred is this one. */
const endpointAddress = (n: number): string => at(128, n)

function entryOf(n: number, endpoints: number, moved = 0): ServiceEntry {
  const targets = Array.from({ length: endpoints }, (_, i) => {
    const number = n * endpoints + i + (i === endpoints - 1 ? moved << 18 : 0)
    return { address: endpointAddress(number), port: targetPort, local: number % 100 === 0 }
  })
  return {
    ...{ service: `default/svc-${n}`, portName: 'http', kind: 'cluster', family: 'inet', protocol: 'tcp' },
    ...{ address: clusterIp(n), port, targets, empty: 'refuse', outside: undefined },
    ...{ affinitySeconds: 0, sourceRanges: undefined },
  }
}

/** As kube-proxy's iptables mode lays out the same: table nat alone. */
function kubeProxyLayout(services: number, endpoints: number): string {
  const chains = [':KUBE-SERVICES - [0:0]', ':KUBE-MARK-MASQ - [0:0]']
  const rules = ['-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000', '-I PREROUTING 1 -j KUBE-SERVICES']
  const id = (n: number): string => n.toString(36).toUpperCase().padStart(16, 'A')
  for (let n = 1; n <= services; n += 1) {
    const service = `KUBE-SVC-${id(n)}`
    const match = `-m comment --comment "default/svc-${n}:http cluster IP" -m tcp -p tcp -d ${clusterIp(n)}/32 --dport ${port}`
    chains.push(`:${service} - [0:0]`)
    rules.push(`-A KUBE-SERVICES ${match} -j ${service}`)
    rules.push(`-A ${service} ${match} ! -s 10.128.0.0/10 -j KUBE-MARK-MASQ`)
    for (let i = 0; i < endpoints; i += 1) {
      const number = n * endpoints + i
      const endpoint = `KUBE-SEP-${id(number)}`
      const address = endpointAddress(number)
      const left = endpoints - i
      const draw = left > 1 ? `-m statistic --mode random --probability ${(1 / left).toFixed(10)} ` : ''
      chains.push(`:${endpoint} - [0:0]`)
      rules.push(
        `-A ${service} -m comment --comment "default/svc-${n}:http -> ${address}:${targetPort}" ${draw}-j ${endpoint}`,
      )
      rules.push(
        `-A ${endpoint} -m comment --comment "default/svc-${n}:http" -s ${address}/32 -j KUBE-MARK-MASQ`,
      )
      rules.push(
        `-A ${endpoint} -m comment --comment "default/svc-${n}:http" -m tcp -p tcp -j DNAT --to-destination ${address}:${targetPort}`,
      )
    }
  }
  return ['*nat', ...chains, ...rules, 'COMMIT', ''].join('\n')
}

const base = familyBases({
  families: ['inet'],
  serviceCidrs: ['10.0.0.0/10'],
  localPods: ['10.128.0.0/24'],
  nodePortAddresses: undefined,
})

interface Host {
  readonly netns: Netns
  readonly table: ServiceIptablesTable
  run(...argv: readonly [string, ...string[]]): Promise<string>
}

/** A namespace whose iptables is `variant`: somebody has a chain in it. */
async function makeHost(variant: IptablesVariant): Promise<Host> {
  const netns = anonymousNetns()
  const run: Host['run'] = async (...argv) => (await exec(childArgv(netns, argv), { timeout: 60_000 })).stdout
  await run('ip', 'link', 'set', 'lo', 'up')
  await run(`iptables-${variant}`, '-w', '-N', 'SOMEBODY')
  return { netns, run, table: serviceIptablesTable(openIptablesText(netns)) }
}

async function load(host: Host, entries: readonly ServiceEntry[]): Promise<number> {
  await host.table.observe(never)
  const ops = [...base, ...entries].map(desired => ({ verb: 'add', desired }) as const)
  const started = performance.now()
  const results = await host.table.apply(ops, never)
  const took = performance.now() - started
  const failure = results.find(error => error !== undefined)
  if (failure !== undefined) throw failure
  return took / 1000
}

async function restore(host: Host, variant: IptablesVariant, input: string): Promise<number> {
  const argv = childArgv(host.netns, [`iptables-${variant}-restore`, '--noflush'])
  const started = performance.now()
  await exec(argv, { input, timeout: 180_000 })
  return (performance.now() - started) / 1000
}

/** One endpoint of one Service after the other, all over the chains. */
async function change(host: Host, entries: readonly ServiceEntry[], count: number): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i += 1) {
    const n = Math.floor(((i + 0.5) * entries.length) / count)
    const observed = entries[n]
    if (observed === undefined) continue
    const desired = entryOf(n + 1, observed.targets.length, i + 1)
    const started = performance.now()
    const [error] = await host.table.apply([{ verb: 'change', desired, observed }], never)
    times.push((performance.now() - started) / 1000)
    if (error !== undefined) throw error
    await host.table.apply([{ verb: 'change', desired: observed, observed: desired }], never)
  }
  return times
}

/** What a restarted agent does first: seconds until it knows that there is nothing to write. */
async function adopt(host: Host, entries: readonly ServiceEntry[]): Promise<number> {
  const table = serviceIptablesTable(openIptablesText(host.netns))
  const started = performance.now()
  const found = await table.observe(never)
  const wanted = [...base, ...entries]
  const seen = new Set(found.map(object => table.key(object)))
  const same = wanted.every(object => seen.has(table.key(object)) && table.equal(object, object))
  const took = performance.now() - started
  if (!same || found.length !== wanted.length)
    throw new Error('a restarted agent does not find what it wrote')
  return took / 1000
}

async function sizeRows(
  { services, rounds, changes }: IptablesBench,
  variant: IptablesVariant,
): Promise<Row[]> {
  const endpoints = 2
  const size = `${services}x${endpoints}`
  const entries = Array.from({ length: services }, (_, i) => entryOf(i + 1, endpoints))
  const layout = kubeProxyLayout(services, endpoints)
  const figures = {
    ours: [] as number[],
    theirs: [] as number[],
    changes: [] as number[],
    adopt: [] as number[],
  }
  for (let i = 0; i < rounds; i += 1) {
    const ours = await makeHost(variant)
    figures.ours.push(await load(ours, entries))
    figures.adopt.push(await adopt(ours, entries))
    if (i === 0) figures.changes.push(...(await change(ours, entries, changes)))
    ours.netns.close()
    // iptables-nft takes half a minute for it: once is enough.
    if (variant === 'nft' && i > 0) continue
    const theirs = await makeHost(variant)
    figures.theirs.push(await restore(theirs, variant, layout))
    theirs.netns.close()
    await delay(500)
  }
  const program = `iptables-${variant}-restore`
  return [
    row(`services-iptables-${variant}-cold-${size}`, median(figures.ours), 's', {
      against: { name: `${program} of kube-proxy's layout`, value: median(figures.theirs) },
      goal: goals[variant],
      note: `${spread(figures.ours, 's')}; theirs ${spread(figures.theirs, 's')}`,
    }),
    row(`services-iptables-${variant}-change-${size}`, median(figures.changes), 's', {
      goal: { atMost: 0.4 },
      note: `one endpoint: ${spread(figures.changes, 's', 'changes')}`,
    }),
    row(`services-iptables-${variant}-restart-${size}`, median(figures.adopt), 's', {
      note: `read back and compared, 0 writes: ${spread(figures.adopt, 's')}`,
    }),
  ]
}

/**
 * The Service whose rules a packet meets last: its chain is the last in its tree, and its rules are the last there.
 * Chains are those of the low 5 bits of the address and of the 5 above, in the order of their names: "9-9".
 */
function lastOf(count: number): number {
  const bits = 9 + (9 << 5)
  return count <= bits ? count : count - ((count - bits) % 1024)
}

interface Target {
  readonly count: number
  readonly host: Host
  readonly fd: number
  readonly to: Buffer
  readonly times: number[]
}

/** `count` Services there; the last one's endpoint is on this very host, so that a connect() is all in one namespace. */
async function makeTarget(variant: IptablesVariant, count: number): Promise<Target> {
  const host = await makeHost(variant)
  await host.run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1')
  for (const name of ['up0', 'up1']) await host.run('ip', 'link', 'set', name, 'up')
  await host.run('ip', 'address', 'add', '192.0.2.11/24', 'dev', 'up0')
  await host.run('ip', 'route', 'add', 'default', 'dev', 'up0')
  await host.run('ip', 'route', 'add', 'local', '10.128.0.0/9', 'dev', 'lo')
  await load(
    host,
    Array.from({ length: count }, (_, i) => entryOf(i + 1, 1)),
  )
  const fd = host.netns.run(() => {
    const made = socket(2, 1, 0)
    bind(made, sockaddr('0.0.0.0', targetPort))
    listen(made, 4096)
    return made
  })
  return { count, host, fd, to: sockaddr(clusterIp(lastOf(count)), port), times: [] }
}

async function connectRows(
  { connects: counts, turns }: IptablesBench,
  variant: IptablesVariant,
): Promise<Row[]> {
  const targets: Target[] = []
  for (const count of counts) targets.push(await makeTarget(variant, count))
  const accept = nativeFunction('libc.so.6', 'int accept4(int, void *, void *, int)')
  for (let turn = -2; turn < turns; turn += 1) {
    for (let i = 0; i < targets.length; i += 1) {
      // Each begins as often as any other.
      const target = targets[(i + turn + 2) % targets.length]
      if (target === undefined) continue
      const found = connects(target.host.netns, target.to, 40)
      // The first ones find the caches as the turn before left them.
      if (turn >= 0) target.times.push(...found.slice(5))
      for (
        let fd = accept(target.fd, null, null, 0) as number;
        fd >= 0;
        fd = accept(target.fd, null, null, 0) as number
      )
        close(fd)
    }
    await delay(5)
  }
  for (const { fd, host } of targets) {
    close(fd)
    host.netns.close()
  }
  const [only] = targets
  const against = (p: number) => ({ name: 'the only Service', value: percentile(only?.times ?? [], p) })
  return targets.flatMap(({ count, times }, i) => [
    row(`services-iptables-${variant}-connect-${count}-p50`, median(times), 'us', {
      ...(i > 0 ? { against: against(50) } : {}),
      ...(i > 0 && i === targets.length - 1 ? { goal: { atMost: 3 } } : {}),
      note: `connect() to the last of ${count.toLocaleString('en')}, ${times.length} of them`,
    }),
    row(
      `services-iptables-${variant}-connect-${count}-p99`,
      percentile(times, 99),
      'us',
      i > 0 ? { against: against(99) } : {},
    ),
  ])
}

export const iptablesBench: IptablesBench = {
  services: 10_000,
  rounds: 5,
  changes: 20,
  connects: [1, 1_000, 10_000, 30_000],
  turns: 60,
}

/** Errors: of the programs, where iptables-legacy or iptables-nft cannot run. */
export async function serviceIptablesRows(bench: IptablesBench = iptablesBench): Promise<Row[]> {
  const scratch = mkdtempSync(join(tmpdir(), 'warren-bench-iptables-'))
  const lock = process.env['XTABLES_LOCKFILE']
  // Nobody else's iptables-legacy waits for ours, nor ours for theirs.
  process.env['XTABLES_LOCKFILE'] = join(scratch, 'xtables.lock')
  try {
    const rows: Row[] = []
    for (const variant of bench.variants ?? all) rows.push(...(await sizeRows(bench, variant)))
    for (const variant of bench.variants ?? all) rows.push(...(await connectRows(bench, variant)))
    return rows
  } finally {
    if (lock === undefined) delete process.env['XTABLES_LOCKFILE']
    else process.env['XTABLES_LOCKFILE'] = lock
    rmSync(scratch, { recursive: true })
  }
}
