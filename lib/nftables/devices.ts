// Rules that name a device by its index ("iif eth0", "dup to vx1001") and chains that hang on one (family netdev) only
// compile where the device is. So a bridge of the same name and index stands in for it in the scratch namespace.

import { exec } from '../exec.js'
import { childArgv } from '../netns/child.js'
import type { Netns } from '../netns/netns.js'
import type { NftTableSpec } from './types.js'

export interface Device {
  readonly name: string
  readonly index: number
}

const name = '"?([A-Za-z0-9_][A-Za-z0-9_.:-]{0,14})"?'
const single = new RegExp(
  `(?:^|[\\s{;])(?:device|iif|oif|(?:dup|fwd)(?: ip6?)?(?: to)?)(?: (?:!=|==))? ${name}`,
  'g',
)
const several = /(?:^|[\s{;])(?:devices =|(?:iif|oif)(?: !=)?) \{([^}]*)\}/g

/** Words that may stand where a device does; only those that are links of `netns` count. */
export function devicesOf(spec: NftTableSpec, netns: Netns): Device[] {
  const words = new Set<string>()
  for (const [, word] of spec.text.matchAll(single)) words.add(word ?? '')
  for (const [, list] of spec.text.matchAll(several))
    for (const word of list?.split(',') ?? []) words.add(word.trim().replace(/"/g, ''))
  const devices: Device[] = []
  for (const word of words) {
    if (word === '' || word === 'lo') continue // lo has index 1 everywhere
    const index = netns.linkIndex(word)
    if (index !== undefined) devices.push({ name: word, index })
  }
  return devices
}

export async function standIn(devices: readonly Device[], scratch: Netns): Promise<void> {
  if (devices.length === 0) return
  const lines = devices.map(device => `link add name ${device.name} index ${device.index} type bridge\n`)
  await exec(childArgv(scratch, ['ip', '-batch', '-']), { input: lines.join('') })
}
