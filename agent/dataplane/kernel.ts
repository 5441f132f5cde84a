// Opens the kernel of this host: our network namespace's rtnetlink, nftables, iptables and conntrack.
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import { openIptables } from '../../lib/iptables/iptables.js'
import { openIptablesText } from '../../lib/iptables/restore.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { openNetns } from '../../lib/netns/netns.js'
import { openNft } from '../../lib/nftables/nft.js'
import type { Names } from '../model/marks.js'
import type { Kernel } from './boundary.js'

/** Seconds. All tables wait with the one that waits for the xtables lock: soon given up, and tried again. */
const lockWait = 1

export function openKernel(names: Names): Kernel & { close(): void } {
  const netns = openNetns('self')
  const rtnl = openRtnl(netns)
  const nft = openNft(netns)
  const iptables = openIptables(netns, {
    prefix: names.forwardChain.replace(/FORWARD$/, ''),
    lockWait,
  })
  const conntrack = openConntrack(netns)
  const iptablesText = openIptablesText(netns, { prefix: names.serviceChains, lockWait })
  return {
    netns,
    rtnl,
    nft,
    iptables,
    conntrack,
    iptablesText,
    close() {
      conntrack.close()
      rtnl.close()
      nft.close()
      netns.close()
    },
  }
}
