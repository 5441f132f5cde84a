// The DHCP, RA and DNS server of one tenant network on this host.
import type { DnsmasqLink, DnsmasqTexts } from '../../lib/dnsmasq/types.js'

export interface DhcpServer extends DnsmasqLink {
  /** "red/a". */
  readonly network: string
  /** Its key; the same number as `id`. */
  readonly vni: number
  /** Name of the namespace that it runs in, below /run/netns: the router's, or a service namespace. */
  readonly netns: string
  /** Only of one that was found: what it is, whatever the fields of DnsmasqLink say. */
  readonly found?: FoundServer
}

export interface FoundServer {
  readonly texts: DnsmasqTexts
  /** undefined: there are only files. */
  readonly pid: number | undefined
  /** Why it has to be started again; undefined: it serves its texts where it was started. */
  readonly trouble: string | undefined
}
