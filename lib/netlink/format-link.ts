// Link operations as `ip link` and `bridge link` commands, in the order in which codec/link.ts sends the same changes.
import { mtuComesLater } from './codec/link.js'
import type { Link, LinkInfo, RtnlOp } from './types.js'

/** An alias is the one free text among them. */
function quote(word: string): string {
  return /^[A-Za-z0-9_.,:/@%+=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

function onOff(value: boolean): string {
  return value ? 'on' : 'off'
}

function netnsWord(fd: number): string {
  return `/proc/${process.pid}/fd/${fd}`
}

function infoWords(info: LinkInfo, change: boolean): string[] {
  switch (info.kind) {
    case 'bridge':
      return [
        ...(info.nfCallIptables === undefined ? [] : ['nf_call_iptables', info.nfCallIptables ? '1' : '0']),
        ...(info.nfCallIp6tables === undefined
          ? []
          : ['nf_call_ip6tables', info.nfCallIp6tables ? '1' : '0']),
        ...(change || info.multicastSnooping === undefined
          ? []
          : ['mcast_snooping', info.multicastSnooping ? '1' : '0']),
        ...(change || info.vlanDefaultPvid === undefined
          ? []
          : ['vlan_default_pvid', String(info.vlanDefaultPvid)]),
      ]
    case 'vxlan':
      return [
        'id',
        String(info.vni),
        ...(info.local === undefined ? [] : ['local', info.local]),
        info.learning ? 'learning' : 'nolearning',
        ...(change ? [] : ['dstport', String(info.port)]),
        ...(change || info.udpCsum === undefined ? [] : [info.udpCsum ? 'udpcsum' : 'noudpcsum']),
      ]
    case 'macvlan':
      return ['mode', info.mode]
    case 'veth': {
      const peer = change ? undefined : info.peer
      if (peer === undefined) return []
      return [
        'peer',
        ...(peer.address === undefined ? [] : ['address', peer.address]),
        ...(peer.mtu === undefined ? [] : ['mtu', String(peer.mtu)]),
        'name',
        peer.name,
        ...(peer.netnsFd === undefined ? [] : ['netns', netnsWord(peer.netnsFd)]),
      ]
    }
    case 'tun':
      return ['mode', info.mode]
    case 'other':
      return []
  }
}

function kindOf(info: LinkInfo): string {
  return info.kind === 'other' ? info.name : info.kind
}

function changeWords(link: Link, created: boolean): string[] {
  const words: string[] = []
  if (!created && link.address !== undefined) words.push('address', link.address)
  if ((!created || mtuComesLater(link)) && link.mtu !== undefined) words.push('mtu', String(link.mtu))
  if (link.alias !== undefined) words.push('alias', quote(link.alias))
  if (link.master === '') words.push('nomaster')
  else if (link.master !== undefined) words.push('master', link.master)
  if (link.addrGenMode !== undefined) words.push('addrgenmode', link.addrGenMode)
  return words
}

/** By itself: in a change the kernel refuses an MTU beside VXLAN's own attributes. */
function kindWords(info: LinkInfo): string[] {
  const words = info.kind === 'other' || info.kind === 'tun' ? [] : infoWords(info, true)
  return words.length === 0 ? [] : ['type', kindOf(info), ...words]
}

function portWords(port: NonNullable<Link['port']>): string[] {
  return [
    ...(port.hairpin === undefined ? [] : ['hairpin', onOff(port.hairpin)]),
    ...(port.learning === undefined ? [] : ['learning', onOff(port.learning)]),
    ...(port.flood === undefined ? [] : ['flood', onOff(port.flood)]),
    ...(port.isolated === undefined ? [] : ['isolated', onOff(port.isolated)]),
    ...(port.neighSuppress === undefined ? [] : ['neigh_suppress', onOff(port.neighSuppress)]),
  ]
}

function createWords(verb: string, link: Link): string[] {
  return [
    'ip',
    'link',
    verb,
    link.name,
    ...(link.info.kind === 'macvlan' ? ['link', link.info.link] : []),
    ...(link.address === undefined ? [] : ['address', link.address]),
    ...(link.mtu === undefined || mtuComesLater(link) ? [] : ['mtu', String(link.mtu)]),
    ...(link.netnsFd === undefined ? [] : ['netns', netnsWord(link.netnsFd)]),
    'type',
    kindOf(link.info),
    ...infoWords(link.info, false),
  ]
}

export function formatLink(op: RtnlOp, link: Link): string {
  if (op.verb === 'delete') return `ip link del ${link.name}`
  const created = op.verb !== 'set'
  const name = op.rename ?? link.name
  const commands: string[][] = created ? [createWords(op.verb === 'replace' ? 'replace' : 'add', link)] : []
  if (!created && link.up === false) commands.push(['ip', 'link', 'set', 'dev', link.name, 'down'])
  if (name !== link.name) commands.push(['ip', 'link', 'set', 'dev', link.name, 'name', name])
  if (link.netnsFd !== undefined) {
    if (!created) commands.push(['ip', 'link', 'set', 'dev', link.name, 'netns', netnsWord(link.netnsFd)])
    return commands.map(words => words.join(' ')).join(' && ')
  }
  const changes = changeWords(link, created)
  if (changes.length > 0) commands.push(['ip', 'link', 'set', 'dev', name, ...changes])
  const kind = created ? [] : kindWords(link.info)
  if (kind.length > 0) commands.push(['ip', 'link', 'set', 'dev', name, ...kind])
  const port = link.port === undefined ? [] : portWords(link.port)
  if (port.length > 0) commands.push(['bridge', 'link', 'set', 'dev', name, ...port])
  if (link.up === true) commands.push(['ip', 'link', 'set', 'dev', name, 'up'])
  return commands.map(words => words.join(' ')).join(' && ')
}

export function linkWords(link: Link): string[] {
  return [link.name, 'type', kindOf(link.info) || 'none']
}
