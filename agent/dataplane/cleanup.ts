// Removes everything of ours from this host, up the list of tables; needs no store and no daemon. What it finds by
// mark it removes, foreign things stay; `ip`, `nft`, iptables-save and sysctls are as they were before warrend.
import { WarrenError } from '../../lib/errors.js'
import type { Config } from '../config.js'
import { namesOf } from '../model/marks.js'
import { openKernel } from './kernel.js'
import { acquireLock } from './lock.js'
import { orderedStages } from './order.js'

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
  const names = namesOf(config.namePrefix, config.podBridge)
  const kernel = openKernel(names)
  const signal = new AbortController().signal
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
    })
    for (const { name, table } of [...stages].reverse()) {
      // Elements go with their table, values on our links with the link.
      if (name === 'element' || name === 'link-sysctl') continue
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
