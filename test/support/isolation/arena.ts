// The lab as the attacks' arena: a raw socket on every container's link, on the routers' links, the bridges and the underlay.
import type { Arena } from '../attacks/arena.js'
import { openWire, type Wire } from '../attacks/wire.js'
import { addressesOf } from '../tenant-lab-model.js'
import type { Lab } from './lab.js'
import { containers, gatewayMacOf, gatewayOf, hosts, placesOf, portAt, vnis } from './plan.js'

export interface LabArena extends Arena {
  readonly wires: Map<string, Wire>
  /** Name of a container's port in its host's fabric namespace. */
  linkOf(port: string): string
  close(): void
}

/** The hosts' underlay is of IPv6 alone. */
export function overSix(lab: Lab): boolean {
  return lab.sh('host/h1', 'ip -4 -o addr show dev eth0') === ''
}

/** `places`: of the wires that are not containers', which some attacks listen on. */
export function openArena(lab: Lab): LabArena {
  const wires = new Map<string, Wire>()
  for (const { ref } of containers) wires.set(ref, openWire(lab.netns(ref), 'eth0'))
  for (const host of hosts)
    for (const tenant of placesOf(host))
      for (const network of ['a', 'b']) {
        const vni = vnis[`${tenant}/${network}`]
        wires.set(`bridge/${tenant}/${host}/${network}`, openWire(lab.netns(`fabric/${host}`), `br${vni}`))
        wires.set(
          `router/${tenant}/${host}/${network}`,
          openWire(lab.netns(`router/${tenant}/${host}`), `n${vni}`),
        )
      }
  wires.set('underlay/stranger', openWire(lab.netns('stranger'), 'eth0'))
  for (const host of hosts) wires.set(`underlay/host/${host}`, openWire(lab.netns(`host/${host}`), 'eth0'))
  return {
    wires,
    at: addressesOf,
    gatewayMac: gatewayMacOf('red/a'),
    gateway: gatewayOf,
    vni: network => vnis[network] ?? 0,
    underlay(place) {
      const mac = / link\/ether (\S+)/.exec(lab.sh(place, 'ip link show eth0'))?.[1] ?? ''
      const number = place === 'stranger' ? '1' : `1${place.slice(-1)}`
      return { mac, ip: overSix(lab) ? `2001:db8::${number}` : `192.0.2.${number}` }
    },
    sh: (place, script) => lab.sh(place, script),
    linkOf(ref) {
      const index = /eth0@if(\d+)/.exec(lab.sh(ref, 'ip -o link show eth0'))?.[1]
      const link = lab.netns(`fabric/${portAt(ref).host}`).linkName(Number(index))
      if (link === undefined) throw new Error(`no link of ${ref} in the fabric`)
      return link
    },
    close() {
      for (const wire of wires.values()) wire.close()
    },
  }
}
