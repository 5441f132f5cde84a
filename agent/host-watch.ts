// Keeps the facts of the host current: looks again at every kick (a notice that concerns them), and every few seconds
// at iptables-legacy, which sends no notice.
import type { Clock } from '../lib/clock.js'
import { describeError } from '../lib/errors.js'
import type { Log } from '../lib/log.js'
import type { Kernel } from './dataplane/order.js'
import type { DropPolicy, HostFacts } from './model/self.js'
import { readHost, type UnderlayChoice } from './sources/host.js'

/** iptables-legacy is polled that often, ms. */
const pollMs = 5000

export interface HostWatch {
  /** undefined until the first look. */
  facts(): HostFacts | undefined
  kick(): void
  run(signal: AbortSignal): Promise<void>
}

export interface HostWatchOptions {
  readonly kernel: Kernel
  readonly choice: () => UnderlayChoice
  readonly clock: Clock
  readonly log: Log
  readonly onChange: () => void
}

export function createHostWatch(options: HostWatchOptions): HostWatch {
  const { kernel, clock, log } = options
  let facts: HostFacts | undefined
  let text = ''
  let again = true
  let wake: () => void = () => undefined

  async function policies(): Promise<readonly DropPolicy[]> {
    const found = await kernel.iptables.policies()
    return found.flatMap(({ variant, family, chain, policy }) =>
      policy === 'DROP' && chain !== 'OUTPUT' ? [{ variant, family, chain }] : [],
    )
  }

  async function look(signal: AbortSignal): Promise<void> {
    const next = await readHost(kernel.netns, kernel.rtnl, options.choice(), await policies(), signal)
    const nextText = JSON.stringify(next)
    if (nextText === text) return
    const before = facts?.underlay
    facts = next
    text = nextText
    const { underlay } = next
    if (JSON.stringify(before) !== JSON.stringify(underlay)) {
      const at = underlay?.addresses
        .map(({ address, prefixLength }) => `${address}/${prefixLength}`)
        .join(',')
      if (underlay === undefined) log.warn('no underlay interface', { reason: next.problems[0]?.message })
      else
        log.info('underlay interface', {
          interface: underlay.name,
          addresses: at,
          mtu: underlay.mtu,
          up: underlay.up,
        })
    }
    options.onChange()
  }

  return {
    facts: () => facts,
    kick() {
      again = true
      wake()
    },
    async run(signal) {
      let failed = ''
      while (!signal.aborted) {
        again = false
        try {
          await look(signal)
          failed = ''
        } catch (error) {
          if (signal.aborted) return
          const reason = describeError(error)
          if (reason !== failed) log.warn('cannot look at the host', { reason })
          failed = reason
        }
        if (again) continue
        const nap = new AbortController()
        wake = () => nap.abort()
        await clock.sleep(pollMs, AbortSignal.any([signal, nap.signal])).catch(() => undefined)
      }
    },
  }
}
