// Addresses and MACs that two have: our own underlay address by ARP (and by the kernel's duplicate address detection for IPv6),
// those of peers on our L2, and what the nodes' records say. `arping -D -I eth0 192.0.2.11`, `ip -6 address show dadfailed`.
import { familyOf, formatAddress } from '../../../lib/net/address.js'
import { containsAddress, prefixOf } from '../../../lib/net/prefix.js'
import { whoHas } from '../../../lib/probe/arp.js'
import {
  bad,
  bySending,
  type Check,
  type DoctorContext,
  type Finding,
  noUnderlay,
  orOk,
  warn,
} from '../check.js'
import type { Peer } from '../daemon-facts.js'

export interface DuplicateFacts {
  readonly link: string
  readonly own: {
    readonly mac: string | undefined
    readonly addresses: readonly string[]
    readonly vtepMAC: string | undefined
  }
  /** Who answered ARP for an address. */
  readonly answers: ReadonlyMap<string, readonly string[]>
  /** IPv6 addresses of which the kernel found that another host has them. */
  readonly dadFailed: readonly string[]
  readonly peers: readonly Peer[]
}

function repeated(
  pairs: readonly (readonly [value: string, owner: string])[],
): readonly (readonly [string, readonly string[]])[] {
  const owners = new Map<string, Set<string>>()
  for (const [value, owner] of pairs) owners.set(value, (owners.get(value) ?? new Set()).add(owner))
  return [...owners]
    .filter(([, names]) => names.size > 1)
    .map(([value, names]) => [value, [...names].sort()] as const)
}

export function judgeDuplicates(facts: DuplicateFacts): readonly Finding[] {
  const { link, own, answers, peers } = facts
  const found: Finding[] = []
  for (const address of own.addresses)
    for (const mac of answers.get(address) ?? [])
      if (mac !== own.mac)
        found.push(
          bad('ADDRESS_TAKEN', `${mac} answers for our own underlay address ${address}: two hosts have it`, {
            about: address,
            fix: `find it: bridge fdb | grep ${mac}, or the switch's table; give one of the two another address`,
          }),
        )
  for (const address of facts.dadFailed)
    found.push(
      bad('ADDRESS_TAKEN', `the kernel found that another host has ${address}, and does not use it`, {
        about: address,
        fix: 'ip -6 address show dadfailed; give one of the two another address',
      }),
    )
  for (const { name, addresses } of peers)
    for (const address of addresses) {
      const macs = answers.get(address) ?? []
      if (macs.length > 1)
        found.push(
          bad(
            'ADDRESS_TWICE',
            `${macs.join(' and ')} both answer for ${address} of ${name}: two hosts have it, or one with two links on this network`,
            {
              about: address,
              fix: 'give one of the two another address; one host with two links: sysctl -w net.ipv4.conf.all.arp_ignore=1',
            },
          ),
        )
    }
  const everyone = [
    ...peers.map(({ name, addresses }) => ({ name, addresses })),
    { name: 'this node', addresses: own.addresses },
  ]
  for (const [address, names] of repeated(
    everyone.flatMap(({ name, addresses }) => addresses.map(one => [one, name] as const)),
  ))
    found.push(
      bad('ADDRESS_SHARED', `${names.join(' and ')} say that they have ${address}`, {
        about: address,
        fix: `warren get nodes; warren delete node/${names[0]}, if it is no more`,
      }),
    )
  const macs = peers.flatMap(({ name, addresses }) =>
    addresses.flatMap(address => {
      const all = answers.get(address) ?? []
      // Two of them are a finding of their own.
      return all.length === 1 ? all.map(mac => [mac, name] as const) : []
    }),
  )
  if (own.mac !== undefined) macs.push([own.mac, 'this node'])
  for (const [mac, names] of repeated(macs))
    found.push(
      warn(
        'MAC_TWICE',
        `${names.join(' and ')} have the MAC ${mac} on ${link}: copies of one VM, or a router that answers for them`,
        {
          about: mac,
          fix: `ip link show ${link}; give copied VMs a MAC and a machine-id of their own`,
        },
      ),
    )
  const vteps = peers.flatMap(({ name, vtepMAC }) =>
    vtepMAC === undefined ? [] : [[vtepMAC, name] as const],
  )
  if (own.vtepMAC !== undefined) vteps.push([own.vtepMAC, 'this node'])
  for (const [mac, names] of repeated(vteps))
    found.push(
      bad(
        'VTEP_MAC_TWICE',
        `${names.join(' and ')} have the VTEP MAC ${mac}: frames go to one of them alone`,
        { about: mac, fix: 'warren get nodes -o yaml; each node needs a name of its own' },
      ),
    )
  return orOk(found, "addresses and MACs are nobody else's")
}

/** /proc/net/if_inet6: address, index, prefix length, scope, flags (IFA_F_DADFAILED 0x08), name. */
export function dadFailed(text: string): readonly string[] {
  return text.split('\n').flatMap(line => {
    const [address = '', , , , flags = '0'] = line.trim().split(/\s+/)
    if (address.length !== 32 || (Number.parseInt(flags, 16) & 8) === 0) return []
    return [formatAddress(Buffer.from(address, 'hex'))]
  })
}

const wait = 500
/** ARP requests to more peers are a burst of broadcasts. */
const most = 64

async function facts(
  context: DoctorContext,
  link: string,
  index: number,
  mac: string | undefined,
): Promise<DuplicateFacts> {
  const mine = (await context.addresses()).filter(({ dev, scope }) => dev === link && scope === 'global')
  const own = mine.map(({ address }) => address)
  const four = mine.filter(({ family }) => family === 'inet')
  const near = context.peers
    .flatMap(({ addresses }) => addresses)
    .filter(
      address =>
        familyOf(address) === 'inet' &&
        four.some(one => containsAddress(prefixOf(one.address, one.prefixLength), address)),
    )
  const asked = [...new Set([...four.map(({ address }) => address), ...near.slice(0, most)])]
  const overlay = (await context.links()).find(({ name }) => name === context.names.overlay)
  return {
    link,
    own: { mac, addresses: own, vtepMAC: overlay?.address },
    answers:
      mac === undefined
        ? new Map()
        : await whoHas(context.kernel.netns, { index, mac }, asked, wait, context.signal),
    dadFailed: dadFailed(context.procNet('if_inet6') ?? ''),
    peers: context.peers,
  }
}

export const duplicatesCheck: Check = {
  id: 'duplicates',
  title: 'duplicate addresses and MACs',
  async run(context) {
    const underlay = await context.underlay()
    const link = (await context.links()).find(({ name }) => name === underlay?.name)
    if (link?.index === undefined) return [noUnderlay]
    const { name, index, address } = link
    return bySending('ARP', async () => judgeDuplicates(await facts(context, name, index, address)))
  },
}
