// How we know what is ours (docs/ownership.md): every name, number and alias that we put on kernel objects, in one place.

/** RTPROT of our routes and rules; iproute2 shows "proto 87". Not in rt_protos, so nobody else's. */
export const routeProtocol = 87

/** The same of routes in a container behind a port: an agent of its own may run in there, and sweeps what is marked as ours. */
export const guestRouteProtocol = 88

export interface Names {
  /** Prefix of link and namespace names. */
  readonly prefix: string
  /** What the names of our own namespaces begin with, before a "-". */
  readonly spaces: string
  readonly podBridge: string
  /** The overlay's VXLAN device. */
  readonly overlay: string
  /** Our table in nft family inet. */
  readonly nftTable: string
  /** iptables chains; iptables allows 28 characters. */
  readonly forwardChain: string
  readonly inputChain: string
  /** What the chains of Services begin with. */
  readonly serviceChains: string
}

export const defaultPrefix = 'wrn'

export function namesOf(prefix: string, podBridge: string | undefined, spaces = prefix): Names {
  const suffix = prefix === defaultPrefix ? '' : `-${prefix}`
  return {
    prefix,
    spaces,
    podBridge: podBridge ?? `${prefix}0`,
    overlay: `${prefix}-ovl`,
    nftTable: `warren${suffix}`,
    forwardChain: `WRN${suffix.toUpperCase()}-FORWARD`,
    inputChain: `WRN${suffix.toUpperCase()}-INPUT`,
    serviceChains: `WRN${suffix.toUpperCase()}-SVC-`,
  }
}

/** The link alias that marks a link as ours: "warren:h1:overlay". */
export function aliasOf(node: string, what: string): string {
  return `warren:${node}:${what}`
}

export const aliasPrefix = 'warren:'

/** First line of every file that we write for others: readers of flannel's format skip it. */
export const fileMark = '# written by warrend'
