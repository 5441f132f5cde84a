// Removes everything of ours from this host, up the list of tables; needs no store and no daemon. What it finds by
// mark it removes, foreign things stay; `ip`, `nft`, iptables-save and sysctls are as they were before warrend.
import { openDnsmasqs } from '../../lib/dnsmasq/dnsmasq.js'
import { WarrenError } from '../../lib/errors.js'
import type { Config } from '../config.js'
import type { TableName } from '../model/desired.js'
import { namesOf } from '../model/marks.js'
import { openBgpTables } from './bgp-speaker.js'
import { fabricTables } from './fabric-stages.js'
import { openKernel } from './kernel.js'
import { acquireLock } from './lock.js'
import { orderedStages } from './order.js'
import { openSpaces } from './spaces.js'
import { dhcpTable } from './tables/dhcp.js'

/** Elements go with their table, values on our links with the link, all that is in a namespace of ours with that. */
const goesAlong: ReadonlySet<TableName> = new Set<TableName>([
  'element',
  'link-sysctl',
  'guest',
  ...fabricTables.filter(name => name !== 'fabric-link'),
])

export interface CleanupOptions {
  /** Also give the node's block and record back: needs the store. */
  readonly leave: boolean
}

/**
 * Errors: BUSY while warrend runs; FAILED when something could not be removed (all the rest is).
 */
export async function cleanup(
  config: Config,
  options: CleanupOptions,
  report: (line: string) => void,
): Promise<void> {
  const names = namesOf(config.namePrefix, config.podBridge, config.netnsPrefix)
  const kernel = openKernel(names)
  const spaces = openSpaces(names.spaces, kernel.netns)
  const signal = new AbortController().signal
  const bgp = openBgpTables(config.gobgp.socket, config.stateDir, {
    wanted: () => false,
    asn: () => 0,
    now: () => 0,
  })
  const failures: string[] = []
  const lock = await acquireLock(kernel.netns, config).catch((error: unknown) => {
    kernel.close()
    throw error
  })
  try {
    const stages = orderedStages({
      kernel,
      names,
      node: config.node,
      stateDir: config.stateDir,
      subnetFile: config.subnetFile,
      desired: () => undefined,
      fabric: { spaces, dhcp: dhcpTable(openDnsmasqs(`${config.stateDir}/dhcp`)) },
      bgp: bgp.tables,
    })
    for (const { name, table } of [...stages].reverse()) {
      if (goesAlong.has(name)) continue
      const ops = (await table.observe(signal)).map(observed => ({ verb: 'remove' as const, observed }))
      const results = ops.length === 0 ? [] : await table.apply(ops, signal)
      ops.forEach((op, i) => {
        const error = results[i]
        if (error === undefined) report(table.format(op))
        else failures.push(error.message)
      })
    }
  } finally {
    lock.release()
    bgp.close()
    spaces.close()
    kernel.close()
  }
  if (options.leave) {
    const { openKv } = await import('../open-kv.js')
    const { releaseNode } = await import('../lease.js')
    const kv = await openKv(config)
    try {
      await releaseNode(kv, config.node, AbortSignal.timeout(10_000))
      report(`# block and record of node ${config.node} given back`)
    } finally {
      await kv.close()
    }
  }
  if (failures.length > 0)
    throw new WarrenError(`Cannot remove everything: ${failures.join('; ')}`, { code: 'FAILED' })
}
