// The sets and maps of the Services' tables, with the layout of their elements; `nft list set ip warren-services size-2`.
// Those of the base (service-cidrs, local-pods, nodeport-addrs, hairpin-nets) are elements like others; all else belongs
// to the table of entries (agent/dataplane/tables/service-nft.ts), but `sticky`, which packets write.
import { containsPrefix, parsePrefix } from '../../../lib/net/prefix.js'
import type { Family } from '../../../lib/netlink/types.js'
import { nftElement } from '../../../lib/nftables/elements.js'
import type { NftElement, NftSetRef, NftType } from '../../../lib/nftables/types.js'
import type { ServiceBase } from '../../model/service-entry.js'

/** Slots of an entry point are below one of these. Ratio of two neighbours at most 1.5, so that most draws hit; twice above 1,024. */
export const sizes: readonly number[] = [
  1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192, 16384,
]
/** Of the 16 bytes of a connection's labels: nft 1.0.6 dies of their own type in a set. */
export const labelType: NftType = 'ipv6_addr'
/** Endpoints of one entry point: more get no connections. */
export const maxSlots = 16384
/** `numgen ... offset`: from here on the list for clients from outside (policy Local). */
export const slotOffset = 65536

export function serviceTableName({ nftTable }: { readonly nftTable: string }): string {
  return `${nftTable}-services`
}

/** Sets of entry points of one form: address.proto.port, or (names with `np-`) proto.port of a nodePort. */
export interface EntrySets {
  /** In the order of `sizes`. */
  readonly size: readonly NftSetRef[]
  readonly noEndpoints: NftSetRef
  readonly noLocal: NftSetRef
  readonly masq: NftSetRef
  readonly masqOwn: NftSetRef
  readonly eps: NftSetRef
  readonly outside: NftSetRef
  readonly affinity: NftSetRef
  /** The label of connections to it, for affinity: one for all entry points of a Service's port. */
  readonly labels: NftSetRef
  readonly live: NftSetRef
  readonly liveHere: NftSetRef
  readonly proxyPorts: NftSetRef
}

export interface ServiceSets {
  readonly family: Family
  readonly vip: EntrySets
  readonly np: EntrySets
  readonly restricted: NftSetRef
  readonly ranges: NftSetRef
  readonly npPorts: NftSetRef
  readonly clusterIps: NftSetRef
  readonly externalIps: NftSetRef
  readonly hairpin: NftSetRef
  readonly base: {
    readonly nodePortAddrs: NftSetRef
    readonly serviceCidrs: NftSetRef
    readonly localPods: NftSetRef
    readonly hairpinNets: NftSetRef
  }
}

export function serviceSets(family: Family, names: { readonly nftTable: string }): ServiceSets {
  const table = {
    family: family === 'inet' ? ('ip' as const) : ('ip6' as const),
    table: serviceTableName(names),
  }
  const address: NftType = family === 'inet' ? 'ipv4_addr' : 'ipv6_addr'
  const set = (name: string, fields: readonly NftType[], more: Partial<NftSetRef> = {}): NftSetRef => ({
    ...table,
    set: name,
    fields,
    ...more,
  })
  const endpoint: readonly NftType[] = [address, 'inet_service']
  const port: readonly NftType[] = ['inet_proto', 'inet_service']
  const entry: readonly NftType[] = [address, ...port]
  const keyed = (prefix: string, key: readonly NftType[]): EntrySets => ({
    size: sizes.map(size => set(`${prefix}size-${size}`, key)),
    noEndpoints: set(`${prefix}no-endpoints`, key),
    noLocal: set(`${prefix}no-local`, key),
    masq: set(`${prefix}masq`, key),
    masqOwn: set(`${prefix}masq-own`, key),
    eps: set(`${prefix}eps`, [...key, 'number'], { data: endpoint }),
    outside: set(`${prefix}outside`, key, { data: 'verdict' }),
    affinity: set(`${prefix}affinity`, key, { data: 'verdict' }),
    labels: set(`${prefix}labels`, key, { data: [labelType] }),
    live: set(`${prefix}live`, [...key, 'mark'], { data: endpoint }),
    liveHere: set(`${prefix}live-here`, [...key, 'mark'], { data: endpoint }),
    proxyPorts: set(`${prefix}proxy-ports`, key, { data: ['inet_service'] }),
  })
  return {
    family,
    vip: keyed('', entry),
    np: keyed('np-', port),
    restricted: set('restricted', entry),
    ranges: set('ranges', [...entry, address], { interval: true }),
    npPorts: set('np-ports', port),
    clusterIps: set('cluster-ips', [address]),
    externalIps: set('external-ips', [address]),
    hairpin: set('hairpin', [address, address]),
    base: {
      nodePortAddrs: set('nodeport-addrs', [address]),
      serviceCidrs: set('service-cidrs', [address], { interval: true }),
      localPods: set('local-pods', [address], { interval: true }),
      hairpinNets: set('hairpin-nets', [address, address], { interval: true }),
    },
  }
}

/** Canonical, sorted, none inside another: the kernel refuses a range inside one that stands. Errors: PREFIX. */
export function disjointPrefixes(texts: readonly string[]): readonly string[] {
  if (texts.length === 0) return texts
  const prefixes = texts.map(text => parsePrefix(text))
  const outer = prefixes.filter(
    (prefix, i) =>
      !prefixes.some(
        (other, j) => i !== j && containsPrefix(other, prefix) && (other.length < prefix.length || j < i),
      ),
  )
  return outer.map(prefix => prefix.text).sort()
}

/** Sets of `baseElements`, for the table of elements to keep. */
export function baseSets(
  family: Family,
  names: { readonly nftTable: string },
  options: { readonly nodePortAddresses: boolean },
): readonly NftSetRef[] {
  const { nodePortAddrs, serviceCidrs, localPods, hairpinNets } = serviceSets(family, names).base
  return [serviceCidrs, localPods, hairpinNets, ...(options.nodePortAddresses ? [nodePortAddrs] : [])]
}

/**
 * What all Services of a host have in common, in one family. `hairpinNets`: subnets whose pods reach each other over one
 * bridge that shows conntrack nothing, and are masqueraded for it.
 */
export function baseElements(
  family: Family,
  base: ServiceBase,
  names: { readonly nftTable: string },
  hairpinNets: readonly string[] = [],
): readonly NftElement[] {
  const sets = serviceSets(family, names).base
  const own = (texts: readonly string[]): readonly string[] =>
    texts.filter(text => text.includes(':') === (family === 'inet6'))
  return [
    ...disjointPrefixes(own(base.serviceCidrs)).map(cidr => nftElement(sets.serviceCidrs, [cidr])),
    ...disjointPrefixes(own(base.localPods)).map(cidr => nftElement(sets.localPods, [cidr])),
    ...own(base.nodePortAddresses ?? []).map(address => nftElement(sets.nodePortAddrs, [address])),
    ...disjointPrefixes(own(hairpinNets)).map(cidr => nftElement(sets.hairpinNets, [cidr, cidr])),
  ]
}
