// Device names and indexes by direct calls into a namespace: 5 us each.
import { WarrenError } from '../errors.js'
import type { Netns } from '../netns/netns.js'
import type { DeviceNames } from './codec/text.js'

/**
 * For the length of one call. Nothing is kept beyond it: a device that was made again under its old name, or renamed, can
 * therefore never be mistaken for another.
 */
export function resolveNames(netns: Netns): DeviceNames {
  const byName = new Map<string, number>()
  return {
    nameOf: nameOfIndex(netns, new Map()),
    indexOf: name => {
      let index = byName.get(name)
      if (index === undefined) {
        index = netns.linkIndex(name)
        if (index === undefined)
          throw new WarrenError(`Cannot find device "${name}": ENODEV`, {
            code: 'ENODEV',
            hint: 'see "ip link"',
          })
        byName.set(name, index)
      }
      return index
    },
  }
}

/** Asks for those that are not in `known`, and keeps them there; "if7" for a device that is gone. */
export function nameOfIndex(netns: Netns, known: Map<number, string>): DeviceNames['nameOf'] {
  return index => {
    let name = known.get(index)
    if (name === undefined) {
      name = netns.linkName(index) ?? `if${index}`
      known.set(index, name)
    }
    return name
  }
}
