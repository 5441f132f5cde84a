// The files of one dnsmasq, from plain values. Pure. man 8 dnsmasq; `dnsmasq --test --conf-file=FILE` checks one.
//
// - Only known clients are answered, each with its own addresses (ranges are "static"): others get nothing at all.
// - DNS knows the names of its own link and asks nobody else: no query of a client leaves the host.
// - Answers to clients without an address are broadcast: dnsmasq would else write the client's ARP entry itself, and what
//   was a permanent neighbour could age (seen on 6.18).
// - Leases last a day, so that clients outlive an agent that is away. A subnet without DHCP is in no advertisement either.
import { WarrenError } from '../errors.js'
import { addressToNumber, familyOf } from '../net/address.js'
import { eui64, isMac } from '../net/mac.js'
import { containsAddress, networkAddress, type Prefix, parsePrefix } from '../net/prefix.js'
import { hostLabel } from './names.js'
import type { DnsmasqClient, DnsmasqLink, DnsmasqRoute, DnsmasqSubnet, DnsmasqTexts } from './types.js'

/** Neutron's dhcp_lease_duration; also how long an advertised prefix is valid. */
const leaseTime = '24h'
/** Seconds between router advertisements that nobody asked for, and how long the router is believed (RFC 4861: 9000 at most). */
const raSeconds = { interval: 60, lifetime: 9000 }
/** Enterprise number of the server's DHCPv6 identifier: the one for examples (RFC 5612). It only has to differ on one link. */
const duidEnterprise = 32_473
/** Bytes of a DHCPv4 option (RFC 2132 §2): dnsmasq refuses a longer one, and with it the whole file. */
const optionBytes = 255
/** dnsmasq reads lines of 1,024 bytes (MAXDNAME): what is more would be a line of its own. */
const most = { addresses: 16, dnsServers: 16 }

export const fileNames = ['conf', 'hosts', 'names', 'leases', 'log', 'pid'] as const
export type FileName = (typeof fileNames)[number]

function refuse(what: string, text: string): never {
  throw new WarrenError(`Cannot write ${what} ${JSON.stringify(text)} for dnsmasq: not a valid one`, {
    code: 'DNSMASQ',
  })
}

/** Checked: nothing else may become part of a line. */
function address(text: string, family = familyOf(text)): string {
  return family === undefined || familyOf(text) !== family ? refuse('address', text) : text
}

interface Served {
  readonly subnet: DnsmasqSubnet
  readonly prefix: Prefix
  readonly tag: string
  readonly server: string | undefined
}

function servedSubnets(link: DnsmasqLink): readonly Served[] {
  return link.subnets
    .filter(({ dhcp }) => dhcp)
    .flatMap((subnet, i) => {
      const prefix = parsePrefix(subnet.cidr)
      if (prefix.family === 'inet6' && prefix.length < 64) return []
      const server = subnet.server ?? subnet.gateway
      for (const each of [server, subnet.gateway, ...subnet.dnsServers])
        if (each !== undefined) address(each, prefix.family)
      return [{ subnet, prefix, tag: `s${i}`, server }]
    })
}

/** What is wanted but cannot be told to clients, in words. */
export function untold(link: DnsmasqLink): readonly string[] {
  const found: string[] = []
  for (const { cidr, dhcp, hostRoutes } of link.subnets) {
    const { family, length } = parsePrefix(cidr)
    if (!dhcp) continue
    if (family === 'inet6' && length < 64)
      found.push(`subnet ${cidr}: dnsmasq serves IPv6 of /64 or longer only`)
    if (family === 'inet6' && hostRoutes.length > 0)
      found.push(`host routes of ${cidr}: DHCPv6 has no option for them`)
  }
  for (const served of servedSubnets(link)) {
    const { left } = routesOf(served, link)
    if (left > 0)
      found.push(`${left} host routes of ${served.prefix.text}: a DHCP option holds ${optionBytes} bytes`)
  }
  return found
}

/** RFC 3442: length of the prefix, its significant bytes, the next hop. */
function routeBytes({ destination }: DnsmasqRoute): number {
  return 1 + Math.ceil(parsePrefix(destination).length / 8) + 4
}

/** A client that is told routes takes no notice of the router's own option (RFC 3442): the default route is one of them. */
function routesOf(
  { subnet, prefix, server }: Served,
  { subnets }: DnsmasqLink,
): { readonly told: readonly DnsmasqRoute[]; readonly left: number } {
  if (prefix.family === 'inet6') return { told: [], left: 0 }
  const onLink = subnets
    .filter(other => other.family === 'inet' && other.cidr !== subnet.cidr)
    .map(({ cidr }) => ({ destination: cidr, nextHop: '0.0.0.0' }))
  if (server !== undefined && !containsAddress(prefix, server))
    onLink.unshift({ destination: `${server}/32`, nextHop: '0.0.0.0' })
  const own = subnet.hostRoutes.some(({ destination }) => destination === '0.0.0.0/0')
  const all = [...onLink, ...subnet.hostRoutes]
  if (all.length > 0 && subnet.gateway !== undefined && !own)
    all.unshift({ destination: '0.0.0.0/0', nextHop: subnet.gateway })
  let bytes = 0
  const told = all.filter(route => {
    const fits = bytes + routeBytes(route) <= optionBytes
    if (fits) bytes += routeBytes(route)
    return fits
  })
  return { told, left: all.length - told.length }
}

const option = (tag: string, name: string, values: readonly string[]): string =>
  `dhcp-option=${[`tag:${tag}`, name, ...values].join(',')}`

/** Those of the subnet, else the server itself. */
function dnsOf({ subnet, server }: Served, { dns }: DnsmasqLink): readonly string[] {
  if (subnet.dnsServers.length > 0) return subnet.dnsServers
  return server === undefined || dns === false ? [] : [server]
}

function inetLines(served: Served, link: DnsmasqLink): readonly string[] {
  const { subnet, prefix, tag, server } = served
  const network = networkAddress(prefix)
  const mask = maskOf(prefix.length)
  const dns = dnsOf(served, link)
  const routes = routesOf(served, link).told.flatMap(({ destination, nextHop }) => [
    parsePrefix(destination).text,
    address(nextHop, 'inet'),
  ])
  return [
    `dhcp-range=set:${tag},${network},static,${mask},${leaseTime}`,
    ...(server === undefined || containsAddress(prefix, server)
      ? []
      : [`shared-network=${link.interface},${network}`]),
    // Without a value: not dnsmasq's own default either.
    option(tag, 'option:router', subnet.gateway === undefined ? [] : [subnet.gateway]),
    option(tag, 'option:dns-server', dns.slice(0, most.dnsServers)),
    ...(routes.length === 0
      ? []
      : [option(tag, 'option:classless-static-route', routes), option(tag, '249', routes)]),
  ]
}

function maskOf(length: number): string {
  const bits = length === 0 ? 0 : (-1 << (32 - length)) >>> 0
  return [24, 16, 8, 0].map(shift => (bits >>> shift) & 255).join('.')
}

/** Clients that DHCPv6 has to give an address in a subnet of SLAAC: one that is not of their MAC. */
function needsDhcp({ prefix }: Served, clients: readonly DnsmasqClient[]): boolean {
  return clients.some(({ mac, addresses }) =>
    addresses.some(
      each => containsAddress(prefix, each) && addressToNumber(each) !== prefix.base + eui64(mac),
    ),
  )
}

const usesSlaac = ({ subnet, prefix }: Served): boolean => subnet.slaac && prefix.length === 64

function inet6Lines(served: Served, link: DnsmasqLink): readonly string[] {
  const { prefix, tag } = served
  const mode = !usesSlaac(served) ? 'static' : needsDhcp(served, link.clients) ? 'static,slaac' : 'ra-only'
  const dns = dnsOf(served, link)
  const told = dns.slice(0, most.dnsServers).map(each => `[${each}]`)
  return [
    `dhcp-range=set:${tag},${networkAddress(prefix)},${mode},${prefix.length},${leaseTime}`,
    option(tag, 'option6:dns-server', told),
  ]
}

/** `directory` is where the files are, see fileNames. Errors: DNSMASQ where a value cannot be written. */
export function dnsmasqConf(link: DnsmasqLink, directory: string): string {
  const name = link.interface
  // A star at its end would be a pattern; a comma, blank or line break another value.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$/.test(name)) refuse('interface', name)
  if (!/^\/[A-Za-z0-9._+@/-]*$/.test(directory)) refuse('directory', directory)
  if (!Number.isInteger(link.mtu) || link.mtu < 68 || link.mtu > 65_535) refuse('mtu', String(link.mtu))
  const served = servedSubnets(link)
  const inet6 = served.filter(({ prefix }) => prefix.family === 'inet6')
  const domain = hostLabel(link.domain)
  const lifetime = inet6.some(({ subnet }) => subnet.gateway !== undefined) ? raSeconds.lifetime : 0
  const duid = (link.id >>> 0)
    .toString(16)
    .padStart(8, '0')
    .replace(/..(?=.)/g, '$&:')
  return [
    `interface=${name}`,
    'except-interface=lo',
    'bind-interfaces',
    ...(link.dns === false ? ['port=0'] : []),
    'no-hosts',
    'no-resolv',
    `domain=${domain}`,
    `local=/${domain}/`,
    'bogus-priv',
    `addn-hosts=${directory}/names`,
    'dhcp-authoritative',
    'no-ping',
    'dhcp-broadcast',
    'dhcp-ignore=tag:!known',
    'dhcp-ignore-names',
    'dhcp-lease-max=65536',
    `dhcp-hostsfile=${directory}/hosts`,
    `dhcp-leasefile=${directory}/leases`,
    `pid-file=${directory}/pid`,
    `log-facility=${directory}/log`,
    'quiet-dhcp',
    'quiet-dhcp6',
    'quiet-ra',
    `dhcp-option-force=option:mtu,${link.mtu}`,
    ...served.flatMap(each =>
      each.prefix.family === 'inet' ? inetLines(each, link) : inet6Lines(each, link),
    ),
    ...(inet6.length === 0
      ? []
      : [
          'enable-ra',
          `ra-param=${name},mtu:${link.mtu},${raSeconds.interval},${lifetime}`,
          `dhcp-duid=${duidEnterprise},${duid}`,
        ]),
    '',
  ].join('\n')
}

/** One line a client: DHCP has one IPv4 address for it, its first, and all its IPv6 addresses. undefined: none of them is served. */
function hostLine(
  { mac, addresses, hostName }: DnsmasqClient,
  served: readonly Served[],
): string | undefined {
  if (!isMac(mac)) refuse('MAC', mac)
  const among = (family: Prefix['family']): readonly string[] =>
    addresses.filter(each =>
      served.some(({ prefix }) => prefix.family === family && containsAddress(prefix, address(each))),
    )
  const inet = among('inet').slice(0, 1)
  const inet6 = among('inet6').slice(0, most.addresses)
  if (inet.length + inet6.length === 0) return undefined
  return [mac, ...inet, ...inet6.map(each => `[${each}]`), hostLabel(hostName)].join(',')
}

/** Errors: DNSMASQ where a value cannot be written. */
export function dnsmasqHosts(link: DnsmasqLink): string {
  const served = servedSubnets(link)
  return link.clients
    .flatMap(client => hostLine(client, served) ?? [])
    .map(line => `${line}\n`)
    .join('')
}

/** hosts(5). Errors: DNSMASQ where a value cannot be written. */
export function dnsmasqNames({ names, domain }: DnsmasqLink): string {
  const suffix = hostLabel(domain)
  return names
    .flatMap(({ hostName, addresses }) => {
      const label = hostLabel(hostName)
      return addresses.map(each => `${address(each)} ${label}.${suffix} ${label}\n`)
    })
    .join('')
}

/** Errors: DNSMASQ where a value cannot be written. */
export function dnsmasqTexts(link: DnsmasqLink, directory: string): DnsmasqTexts {
  return { conf: dnsmasqConf(link, directory), hosts: dnsmasqHosts(link), names: dnsmasqNames(link) }
}
