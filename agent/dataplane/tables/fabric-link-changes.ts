// What makes a link in a namespace of ours as it should be: comparison, and the change from what is there.
import type { Link, LinkInfo } from '../../../lib/netlink/types.js'
import type { FabricLink } from '../../model/desired.js'

/** Else it takes a new device. */
export function sameKind(
  { info: desired, alias, peer }: FabricLink,
  { info: observed, alias: its }: Link,
): boolean {
  // Its alias says into which container it is plugged.
  if (peer?.path !== undefined && alias !== its) return false
  if (desired.kind === 'vxlan')
    return (
      observed.kind === 'vxlan' &&
      desired.vni === observed.vni &&
      desired.port === observed.port &&
      desired.learning === observed.learning &&
      desired.local === observed.local
    )
  return desired.kind === observed.kind
}

function sameFlags(desired: LinkInfo, observed: LinkInfo): boolean {
  if (desired.kind !== 'bridge' || observed.kind !== 'bridge') return true
  return (
    (desired.nfCallIptables ?? false) === (observed.nfCallIptables ?? false) &&
    (desired.nfCallIp6tables ?? false) === (observed.nfCallIp6tables ?? false)
  )
}

function samePort(desired: Link['port'], observed: Link['port']): boolean {
  if (desired === undefined) return true
  const names = Object.keys(desired) as (keyof typeof desired)[]
  return names.every(name => desired[name] === observed?.[name])
}

const attributes = ['address', 'mtu', 'master', 'addrGenMode', 'up'] as const

export function equalLink(desired: FabricLink, observed: FabricLink): boolean {
  return (
    sameKind(desired, observed) &&
    sameFlags(desired.info, observed.info) &&
    samePort(desired.port, observed.port) &&
    attributes.every(name => desired[name] === undefined || desired[name] === observed[name])
  )
}

/** What differs of a link that is there. `up` last, so that nothing passes a half-made port. */
export function changes(desired: FabricLink, observed: Link): Link {
  const { kind, name } = desired
  const out: Record<string, unknown> = {}
  for (const attribute of attributes)
    if (desired[attribute] !== undefined && desired[attribute] !== observed[attribute])
      out[attribute] = desired[attribute]
  if (!samePort(desired.port, observed.port) || out['master'] !== undefined)
    if (desired.port !== undefined) out['port'] = desired.port
  const info: LinkInfo =
    sameKind(desired, observed) && sameFlags(desired.info, observed.info)
      ? { kind: 'other', name: desired.info.kind }
      : desired.info
  return { kind, name, info, ...out }
}
