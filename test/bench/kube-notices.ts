// When the kernel has what kube-proxy wrote for a Service: nf_tables' notices name it (its chains in nftables mode, the
// comments of its rules in iptables-nft), and they come once the transaction is done. iptables-legacy sends none: there it
// is the moment at which the size of its tables is another.
import { openIptablesText } from '../../lib/iptables/restore.js'
import { openNetlinkEvents } from '../../lib/netlink/events.js'
import { NETLINK_NETFILTER } from '../../lib/netlink/raw.js'
import { openNetns } from '../../lib/netns/netns.js'

const nfTables = 10
const group = 7

export interface KubeNotices {
  /** Resolves with when it changed, by performance.now(). Ask for one at a time. Errors: after `ms`. */
  changed(service: number, ms: number): Promise<number>
  close(): void
}

export function watchKubeRules(path: string): KubeNotices {
  const netns = openNetns({ path })
  const legacy = openIptablesText(netns)
  let names: readonly string[] = []
  let arrived: () => void = () => undefined
  const events = openNetlinkEvents(netns, NETLINK_NETFILTER, [group], {
    onMessage(bytes, start, end) {
      if (names.length === 0 || bytes.readUInt16LE(start + 4) >> 8 !== nfTables) return
      const message = bytes.subarray(start, end)
      if (names.some(name => message.includes(name))) arrived()
    },
    onLost: () => undefined,
  })
  return {
    changed: (service, ms) =>
      new Promise((resolve, reject) => {
        const before = legacy.shape()
        const end = (): void => {
          clearInterval(looks)
          clearTimeout(late)
          names = []
        }
        arrived = () => {
          end()
          resolve(performance.now())
        }
        const looks = setInterval(() => {
          if (legacy.shape() !== before) arrived()
        }, 1)
        const late = setTimeout(() => {
          end()
          reject(new Error(`kube-proxy wrote nothing for Service ${service} within ${ms} ms`))
        }, ms)
        // "default/svc-7/tcp/http" in nftables mode, "default/svc-7:http" in iptables'.
        names = [`default/svc-${service}/`, `default/svc-${service}:`]
      }),
    close() {
      events.close()
      netns.close()
    },
  }
}
