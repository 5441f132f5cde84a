// Device names and indexes for the length of one call. Nothing is kept: a direct call costs 5 us, and a device that was
// made again under its old name, or renamed, can therefore never be mistaken for another.
import { WarrenError } from '../errors.js'
import type { Netns } from '../netns/netns.js'
import type { DeviceNames } from './codec/text.js'

export function resolveNames(netns: Netns): DeviceNames {
  const byIndex = new Map<number, string>()
  const byName = new Map<string, number>()
  return {
    nameOf: index => {
      let name = byIndex.get(index)
      if (name === undefined) {
        name = netns.linkName(index) ?? `if${index}`
        byIndex.set(index, name)
      }
      return name
    },
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
