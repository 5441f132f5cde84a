// Where things stand in the shared store, relative to its prefix:
//   format                         {"version":1,"id":"<uuid>"}: this is a store of ours, and which one
//   objects/<kind>/<scope or ->/<name>   the JSON document; objects/node/-/h1
//   alloc/<pool>/<value>           {"owner":...}; alloc/node-ipv4/10.244.1.0-24
//   live/<node>                    a leased key of a node that runs
// Look: etcdctl get --prefix /warren/ --keys-only; or below <dir>/.warren of a file store.
import type { Metadata } from './object.js'

export const formatKey = 'format'
export const formatVersion = 1
export const objectsPrefix = 'objects/'
export const allocPrefix = 'alloc/'
export const livePrefix = 'live/'

/** The pools whose records are blocks of nodes. */
export const nodePools = ['node-ipv4', 'node-ipv6'] as const
/** Cluster IPs and ports of nodes, by Service: `service/namespace/name` is the owner. */
export const servicePools = ['service-ipv4', 'service-ipv6', 'nodeport'] as const
/** VNIs, owner `network/tenant/name`; addresses and MACs of ports by network, owner `port/tenant/name`. */
export const tenantPools = ['vni', 'port-ip', 'port-mac'] as const
/** The pools that the model shows. */
export const pools: readonly string[] = [...nodePools, ...servicePools, ...tenantPools]

export function objectKey(object: { readonly kind: string; readonly metadata: Metadata }): string {
  const scope = object.metadata.tenant ?? object.metadata.namespace ?? '-'
  return `${objectsPrefix}${object.kind.toLowerCase()}/${scope}/${object.metadata.name}`
}

/** `node/h1` of `objects/node/-/h1`; undefined when it is no key of an object. */
export function refOfKey(key: string): string | undefined {
  if (!key.startsWith(objectsPrefix)) return undefined
  const [, kind, scope, name, more] = key.split('/')
  if (!kind || !scope || !name || more !== undefined) return undefined
  // join: a string of its own, that holds no longer one in memory.
  return (scope === '-' ? [kind, name] : [kind, scope, name]).join('/')
}

/** The key of an object by its reference; undefined when `ref` is none. */
export function keyOfRef(ref: string): string | undefined {
  const [kind, first, second, ...more] = ref.split('/')
  if (!kind || !first || second === '' || more.length > 0) return undefined
  return second === undefined
    ? `${objectsPrefix}${kind}/-/${first}`
    : `${objectsPrefix}${kind}/${first}/${second}`
}

/** `node-ipv4/10.244.1.0-24`: pool and value of a node's block, as the maps of allocations are keyed. */
export function blockKey(block: string): string {
  return `${block.includes(':') ? 'node-ipv6' : 'node-ipv4'}/${block.replace('/', '-')}`
}

/** `service-ipv4/10.0.0.1`, `service-ipv6/fd00::1`. */
export function clusterIpKey(address: string): string {
  return `${address.includes(':') ? 'service-ipv6' : 'service-ipv4'}/${address}`
}

/** `nodeport/tcp-31234`. */
export function nodePortKey(protocol: string, port: number): string {
  return `nodeport/${protocol.toLowerCase()}-${port}`
}

/** `vni/1001`. */
export const vniKey = (vni: number): string => `vni/${vni}`

/** In the place of `tenant/name` in the keys of addresses of routed networks: one namespace for all of them. */
export const routedSpace = 'routed/-'

/** `port-ip/red/a/10.0.1.11`, `port-ip/routed/-/203.0.113.5`: `network` is `tenant/name`, the address canonical. */
export const portAddressKey = (network: string, address: string): string => `port-ip/${network}/${address}`

/** `port-mac/red/a/0a:12:34:56:78:9a`. */
export const portMacKey = (network: string, mac: string): string => `port-mac/${network}/${mac}`
