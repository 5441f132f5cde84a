// All Services at once, from a snapshot in memory to the kernel: the agent's own compute, reconciler and tables, in turns
// with `nft -f` of the very same ruleset (as `nft list ruleset` prints it) in the next namespace.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createCompute } from '../../agent/compute/compute.js'
import { serviceSets } from '../../agent/compute/services/sets.js'
import type { Kernel } from '../../agent/dataplane/boundary.js'
import { orderedStages } from '../../agent/dataplane/order.js'
import type { TableName } from '../../agent/model/desired.js'
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import { exec } from '../../lib/exec.js'
import { openIptables } from '../../lib/iptables/iptables.js'
import { openIptablesText } from '../../lib/iptables/restore.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { openNetns } from '../../lib/netns/netns.js'
import { openNft } from '../../lib/nftables/nft.js'
import type { NftSetRef } from '../../lib/nftables/types.js'
import { runChild, startFlags } from './child.js'
import { names, runLoop, self } from './cold.js'
import type { Place } from './place.js'
import { median, type Row, row, spread } from './row.js'
import { type Size, serviceSnapshot, sizeName } from './services-fleet.js'

interface Order {
  readonly size: Size
  readonly rounds: number
  /** Namespaces by path, and where the ruleset goes. */
  readonly ours: string
  readonly theirs: string
  readonly file: string
}

interface Figures {
  readonly ours: readonly number[]
  readonly compute: readonly number[]
  readonly theirs: readonly number[]
  readonly elements: number
}

const stages: readonly TableName[] = ['filter', 'element', 'service']

export function openKernel(path: string): Kernel & { close(): void } {
  const netns = openNetns({ path })
  const kernel: Kernel = {
    netns,
    rtnl: openRtnl(netns),
    nft: openNft(netns),
    iptables: openIptables(netns, { prefix: 'WRN-' }),
    conntrack: openConntrack(netns),
    iptablesText: openIptablesText(netns),
  }
  return {
    ...kernel,
    close() {
      kernel.conntrack.close()
      kernel.rtnl.close()
      kernel.nft.close()
      netns.close()
    },
  }
}

/** A table that grows while it is read gives some elements twice and others not at all: read until it says the same again. */
async function countOf(kernel: Kernel, set: NftSetRef): Promise<number> {
  for (let last = -1; ; await delay(50)) {
    let count = 0
    await kernel.nft.scan(set, () => {
      count += 1
      return true
    })
    if (count === last) return count
    last = count
  }
}

/** Elements of the sets that entry points fill here, by name. */
async function counts(path: string): Promise<Readonly<Record<string, number>>> {
  const kernel = openKernel(path)
  const { vip, clusterIps } = serviceSets('inet', names)
  const found: Record<string, number> = {}
  for (const set of [...vip.size, vip.eps, vip.noEndpoints, clusterIps])
    found[set.set] = await countOf(kernel, set)
  kernel.close()
  return found
}

/** The kernel frees what a flush left in the background: not in the next measurement's time. */
async function flush(path: string): Promise<void> {
  await exec(['nsenter', `--net=${path}`, 'nft', 'flush', 'ruleset'], { timeout: 60_000 })
  await delay(300)
}

export async function coldChild({ size, rounds, ours, theirs, file }: Order): Promise<Figures> {
  const snapshot = serviceSnapshot(size)
  const figures = { ours: [] as number[], compute: [] as number[], theirs: [] as number[], elements: 0 }
  let expected = ''
  for (let i = 0; i < rounds; i += 1) {
    await flush(ours)
    // All of it new each time: an agent that has just started, with empty mirrors.
    const kernel = openKernel(ours)
    const all = orderedStages({
      kernel,
      names,
      node: 'h1',
      stateDir: '/nonexistent',
      subnetFile: 'none',
      desired: () => desired,
    })
    const loop = runLoop(all.filter(stage => stages.includes(stage.name)))
    const started = performance.now()
    const desired = createCompute()(snapshot, self)
    figures.compute.push(performance.now() - started)
    const report = await loop.pass(desired)
    figures.ours.push(performance.now() - started)
    await loop.stop()
    kernel.close()
    if (report.failed > 0 || report.ops < size.services)
      throw new Error(`${report.failed} of ${report.ops} entries failed`)
    if (expected === '') {
      const found = await counts(ours)
      expected = JSON.stringify(found)
      figures.elements = Object.values(found).reduce((sum, count) => sum + count, 0)
      if (found['eps'] !== size.services * size.endpoints) throw new Error(`it made ${expected}`)
      const list = await exec(['nsenter', `--net=${ours}`, 'nft', 'list', 'ruleset'], { timeout: 120_000 })
      writeFileSync(file, list.stdout)
    }
    await flush(theirs)
    const began = performance.now()
    await exec(['nsenter', `--net=${theirs}`, 'nft', '-f', file], { timeout: 120_000 })
    figures.theirs.push(performance.now() - began)
    if (i > 0) continue
    const got = JSON.stringify(await counts(theirs))
    if (got !== expected) throw new Error(`nft -f made ${got}, warren ${expected}`)
  }
  await flush(ours)
  await flush(theirs)
  return figures
}

const goal = { atMost: 0.5 }

export async function serviceColdRows(
  place: Place,
  sizes: readonly Size[],
  processes: number,
  rounds: number,
): Promise<Row[]> {
  await place.makeBare('c1', 'c2')
  const rows: Row[] = []
  for (const size of sizes) {
    const file = join(place.dir, `ruleset-${sizeName(size)}.nft`)
    const order: Order = { size, rounds, ours: place.path('c1'), theirs: place.path('c2'), file }
    const runs: Figures[] = []
    for (let i = 0; i < processes; i += 1) runs.push(await runChild<Figures>('cold', order, startFlags))
    const all = (of: (figures: Figures) => readonly number[]): number[] => runs.flatMap(of)
    const ours = all(run => run.ours)
    const theirs = median(all(run => run.theirs))
    const first = all(run => run.ours.slice(0, 1))
    const lines = readFileSync(file, 'utf8').length
    rows.push(
      row(`services-cold-${sizeName(size)}`, median(ours), 'ms', {
        against: { name: 'nft -f', value: theirs },
        goal,
        note: `${runs[0]?.elements} elements, ${spread(ours, 'ms')}; compute ${Math.round(median(all(run => run.compute)) ?? 0)} ms of it; nft -f of ${Math.round(lines / 1e6)} MB ${spread(
          all(run => run.theirs),
          'ms',
        )}`,
      }),
      row(`services-cold-first-${sizeName(size)}`, median(first), 'ms', {
        against: { name: 'nft -f', value: theirs },
        note: `the first round of each process, whose code is not compiled yet: ${spread(first, 'ms', 'processes')}`,
      }),
    )
  }
  await place.removeBare('c1', 'c2')
  return rows
}
