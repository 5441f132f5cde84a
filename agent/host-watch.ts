// Keeps the facts of the host current: looks again at every kick (a notice that concerns them), when the rules of
// iptables-legacy have changed (it sends no notice, so a digest is taken twice a second), and every minute for what no
// notice tells (another route to the store, a module loaded, a sysctl).
import { createAlarm, startTicks } from '../lib/alarm.js'
import type { Clock } from '../lib/clock.js'
import { describeError } from '../lib/errors.js'
import type { IptablesText } from '../lib/iptables/restore.js'
import type { Iptables } from '../lib/iptables/types.js'
import type { Log } from '../lib/log.js'
import type { Rtnl } from '../lib/netlink/types.js'
import type { Netns } from '../lib/netns/netns.js'
import type { Nft } from '../lib/nftables/client.js'
import type { DropPolicy, HostFacts } from './model/self.js'
import { foreignDrops, readHost, type UnderlayChoice } from './sources/host.js'

/** Everything is looked at that often, ms. */
const lookMs = 60_000
/** Half of the second in which a foreign hand is undone; longer where the rules are so many that it would cost 0.3% of a core. */
const pollMs = 500
const pollShare = 0.003

export interface HostWatch {
  /** undefined until the first look. */
  facts(): HostFacts | undefined
  kick(): void
  run(signal: AbortSignal): Promise<void>
}

export interface HostWatchOptions {
  /** What is looked at; nothing is written. */
  readonly kernel: {
    readonly netns: Netns
    readonly rtnl: Rtnl
    readonly nft: Nft
    readonly iptables: Iptables
    readonly iptablesText: Pick<IptablesText, 'moved'>
  }
  readonly choice: () => UnderlayChoice
  /** Name of our own nft table. */
  readonly ourTable: string
  readonly clock: Clock
  readonly log: Log
  readonly onChange: () => void
  /** Rules or policies of iptables-legacy changed. */
  readonly onLegacy: (table: 'jump' | 'service-iptables') => void
}

export function createHostWatch(options: HostWatchOptions): HostWatch {
  const { kernel, clock, log } = options
  let facts: HostFacts | undefined
  let text = ''
  let again = true
  const alarm = createAlarm(clock)

  async function policies(): Promise<readonly DropPolicy[]> {
    const found = await kernel.iptables.policies()
    return found.flatMap(({ variant, family, chain, policy }) =>
      policy === 'DROP' && chain !== 'OUTPUT' ? [{ variant, family, chain }] : [],
    )
  }

  async function look(signal: AbortSignal): Promise<void> {
    const seen = await readHost(kernel.netns, kernel.rtnl, options.choice(), await policies(), signal)
    const drops = foreignDrops(await kernel.nft.baseChains(), options.ourTable)
    const next: HostFacts = { ...seen, problems: [...seen.problems, ...drops] }
    const nextText = JSON.stringify(next)
    if (nextText === text) return
    const first = facts === undefined
    const before = facts?.underlay
    facts = next
    text = nextText
    const { underlay } = next
    if (first || JSON.stringify(before) !== JSON.stringify(underlay)) {
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

  let legacy: string | undefined
  /** ms of the last two looks: one that had to wait for a busy machine is no reason to be blind for long. */
  let costs: readonly [number, number] = [0, 0]

  /** Whether iptables-legacy has changed since the last call. */
  function legacyMoved(): boolean {
    const from = performance.now()
    const state = kernel.iptables.legacyState()
    costs = [performance.now() - from, costs[0]]
    const moved = legacy !== undefined && legacy !== state
    legacy = state
    return moved
  }

  function kick(): void {
    again = true
    alarm.ring()
  }

  /** Looks at iptables-legacy until the returned function is called. */
  function pollLegacy(): () => void {
    let notBefore = 0
    return startTicks(pollMs, () => {
      const now = performance.now()
      if (now < notBefore) return
      try {
        if (legacyMoved()) {
          options.onLegacy('jump')
          kick()
        }
        if (kernel.iptablesText.moved()) options.onLegacy('service-iptables')
      } catch {
        kick() // the look finds the same, and says it
      }
      notBefore = now + Math.min(...costs) / pollShare - pollMs
    })
  }

  return {
    facts: () => facts,
    kick,
    async run(signal) {
      let failed = ''
      const stopPoll = pollLegacy()
      while (!signal.aborted) {
        again = false
        try {
          if (legacyMoved()) options.onLegacy('jump')
          await look(signal)
          failed = ''
        } catch (error) {
          if (signal.aborted) break
          const reason = describeError(error)
          if (reason !== failed) log.warn('cannot look at the host', { reason })
          failed = reason
        }
        // What came during the look is looked at at once.
        if (!again) await alarm.wait(lookMs, signal)
      }
      stopPoll()
    },
  }
}
