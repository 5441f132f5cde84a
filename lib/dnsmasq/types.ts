// What one dnsmasq serves: one link with its subnets, on which every client is known by its MAC and gets exactly the
// addresses that are its own. All values are checked where they become lines (config.ts).
import type { AddressFamily } from '../net/address.js'

export interface DnsmasqRoute {
  /** Prefix. */
  readonly destination: string
  readonly nextHop: string
}

export interface DnsmasqSubnet {
  readonly cidr: string
  readonly family: AddressFamily
  /** False: nothing is told about it, neither by DHCP nor by router advertisements. */
  readonly dhcp: boolean
  /** Told as the router; undefined: none. */
  readonly gateway: string | undefined
  /**
   * What dnsmasq itself has on the interface: server of DHCP and DNS. undefined: the gateway. IPv6: an address of the subnet
   * (the subnet's own, "fd00::", will do). IPv4: any of the interface ("169.254.169.253"); clients are told a route to it.
   */
  readonly server: string | undefined
  /** IPv6: clients make their addresses of their MACs (EUI-64); false: DHCPv6. */
  readonly slaac: boolean
  /** Empty: the server, which knows the names of this link and asks nobody. */
  readonly dnsServers: readonly string[]
  /** Told to clients (options 121 and 249); IPv4 only, as DHCPv6 has no such option. */
  readonly hostRoutes: readonly DnsmasqRoute[]
}

export interface DnsmasqClient {
  readonly mac: string
  readonly addresses: readonly string[]
  /** Any text; see hostLabel. */
  readonly hostName: string
}

export interface DnsmasqName {
  readonly hostName: string
  readonly addresses: readonly string[]
}

export interface DnsmasqLink {
  readonly interface: string
  /** 1..2^32-1, the same on every host that serves this link: in the server's DHCPv6 identifier, so that a client that moved renews. */
  readonly id: number
  /** Bytes. */
  readonly mtu: number
  /** Any text, becomes one label: names are "web-1" and "web-1.DOMAIN". */
  readonly domain: string
  readonly subnets: readonly DnsmasqSubnet[]
  /** Who is served; anybody else gets no answer. */
  readonly clients: readonly DnsmasqClient[]
  /** False: DHCP and RA alone, as another has the same address for another link; clients are told no server of ours. */
  readonly dns?: false
  /** What DNS knows. */
  readonly names: readonly DnsmasqName[]
}

/** The texts that a dnsmasq runs with. */
export interface DnsmasqTexts {
  /** --conf-file: read at the start only. */
  readonly conf: string
  /** --dhcp-hostsfile: read again at SIGHUP. */
  readonly hosts: string
  /** --addn-hosts: read again at SIGHUP. */
  readonly names: string
}
