// The other end of a port's or a gateway's veth: in a container, or in another namespace of ours.
import { WarrenError } from '../../../lib/errors.js'
import type { LinkInfo } from '../../../lib/netlink/types.js'
import { type Netns, openNetns } from '../../../lib/netns/netns.js'
import type { FabricLink } from '../../model/desired.js'
import type { VethPeer } from '../../model/fabric.js'
import { isNamespace, type Spaces } from '../spaces.js'

/** A veth whose other end is born in that namespace. */
export function peerInfo({ name, mac, mtu }: VethPeer, { fd }: Netns): LinkInfo {
  return { kind: 'veth', peer: { name, address: mac, mtu, netnsFd: fd } }
}

/** Another namespace of ours. */
export function ownNamespace(link: FabricLink, space: string, spaces: Spaces): Netns {
  const found = spaces.get(space)
  if (found !== undefined) return found.netns
  throw new WarrenError(`Cannot make link "${link.name}": namespace "${space}" is not there`, {
    code: 'NETNS',
  })
}

/** A container's namespace, to be closed by the caller. */
export function openContainer(link: FabricLink, peer: VethPeer): Netns {
  const path = peer.path ?? ''
  // A name that is just being made, or whose namespace did not survive, is an empty file.
  if (!isNamespace(path)) throw notThere(link, peer)
  try {
    return openNetns({ path })
  } catch (cause) {
    throw notThere(link, peer, cause)
  }
}

function notThere(link: FabricLink, peer: VethPeer, cause?: unknown): WarrenError {
  return new WarrenError(`Cannot plug "${link.name}" into "${peer.path}": it is not there`, {
    code: 'NO_NETNS',
    cause,
    hint: 'is the container running? see "ip netns list"',
  })
}

/** Why the kernel would not make a link with that end: looked at only then, as most are made. */
export function peerRefused(link: FabricLink, error: WarrenError): WarrenError {
  const { peer } = link
  if (peer?.path === undefined || !['EEXIST', 'EINVAL'].includes(error.code)) return error
  if (!isNamespace(peer.path)) return notThere(link, peer, error)
  try {
    const netns = openNetns({ path: peer.path })
    try {
      if (netns.linkIndex(peer.name) === undefined) return error
    } finally {
      netns.close()
    }
  } catch {
    return error
  }
  return new WarrenError(
    `Cannot plug "${link.name}" into "${peer.path}": it has a link "${peer.name}" already`,
    {
      code: 'DEVICE_EXISTS',
      cause: error,
      hint: 'give the port another device name (warren port attach --name), or delete that link',
    },
  )
}
