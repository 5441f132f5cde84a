// What of a host's kernel the tables read and write, each a thin typed boundary with a fake beside it.
import type { Conntrack } from '../../lib/conntrack/types.js'
import type { Iptables } from '../../lib/iptables/iptables.js'
import type { IptablesText } from '../../lib/iptables/restore.js'
import type { Rtnl } from '../../lib/netlink/types.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { Nft } from '../../lib/nftables/client.js'

/** A host's kernel, as far as we write it. */
export interface Kernel {
  readonly netns: Netns
  readonly rtnl: Rtnl
  readonly nft: Nft
  readonly iptables: Iptables
  readonly conntrack: Conntrack
  readonly iptablesText: IptablesText
}
