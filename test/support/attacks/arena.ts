// Where attacks take place: ports of two tenants by name, each with a raw socket on its link, so that one process is
// attacker and victims. What the arena is made of (a test's lab, scripts/lab.sh) is its maker's business.
import { randomBytes } from 'node:crypto'
import type { Bytes } from './frames.js'
import { type Wire, whoHears } from './wire.js'

export interface Addresses {
  readonly mac: string
  readonly ip: string
  readonly ip6: string
  readonly linkLocal: string
}

export interface Arena {
  /** By "red/a1", and "router/red/h1/a": the router's link to network a, "underlay/host/h1" and "underlay/stranger". */
  readonly wires: ReadonlyMap<string, Wire>
  at(port: string): Addresses
  readonly gatewayMac: string
  /** Of a network: "red/a" and "red/b" are a /24 and a /64 each; nobody has addresses from .200 on. */
  gateway(network: string): { readonly ip: string; readonly ip6: string }
  vni(network: string): number
  /** Of "host/h1", "host/h2" and "stranger", who is no member, on the wire between the hosts. */
  underlay(place: string): { readonly mac: string; readonly ip: string }
  /** Shell in the namespace of a port, or of "host/h1", "fabric/h1", "router/red/h1"; what it prints. */
  sh(place: string, script: string): string
}

/** A guard by the text in its table that goes and what takes its place, to show what happens without it. */
export interface Guard {
  readonly table: 'bridge' | 'state' | 'router' | 'arp' | 'host'
  readonly from: string
  readonly to: string
}

export interface Attack {
  readonly name: string
  /** All of them gone, the attack works. */
  readonly guards: readonly Guard[]
  /** True: it worked. */
  run(arena: Arena): Promise<boolean>
}

/** Addresses of a network that no port has: the `i`th of 50, and one of IPv6 that `word` tells from those before. */
export function unused(
  arena: Arena,
  network: string,
  i: number,
  word = 'bad',
): { readonly ip: string; readonly ip6: string } {
  const { ip, ip6 } = arena.gateway(network)
  return { ip: ip.replace(/\d+$/, String(200 + i)), ip6: ip6.replace(/::1$/, `::${word}:${i + 1}`) }
}

/** 16 bytes that are in no other frame. */
export function token(): Buffer {
  return randomBytes(16)
}

export function wireOf(arena: Arena, name: string): Wire {
  const wire = arena.wires.get(name)
  if (wire === undefined) throw new Error(`no wire "${name}"`)
  return wire
}

/** Which of `victims` (all wires, when none are named) heard a frame with `mark` that `attacker` sent. */
export function hearing(
  arena: Arena,
  attacker: string,
  frames: readonly Bytes[],
  mark: Buffer,
  victims?: readonly string[],
): Promise<readonly string[]> {
  const ears = victims?.map(name => [name, wireOf(arena, name)] as const) ?? [...arena.wires]
  const wire = wireOf(arena, attacker)
  return whoHears(new Map(ears.filter(([name]) => name !== attacker)), mark, () => wire.send(...frames))
}

/** Every victim heard it. */
export async function reaches(
  arena: Arena,
  attacker: string,
  frames: readonly Bytes[],
  mark: Buffer,
  victims: readonly string[],
): Promise<boolean> {
  return (await hearing(arena, attacker, frames, mark, victims)).length > 0
}

/**
 * Asks up to five times while less was heard than should be: a busy machine is late. What should not be heard is asked for
 * once only.
 */
export async function patiently<T extends boolean | readonly (boolean | string)[]>(
  wanted: T,
  look: () => Promise<T>,
): Promise<T> {
  const missing = (seen: T): boolean => {
    if (typeof seen === 'boolean' || typeof wanted === 'boolean') return wanted === true && seen === false
    const late = (value: boolean | string, i: number): boolean =>
      typeof value === 'boolean' ? value && seen[i] === false : !seen.includes(value)
    return wanted.some(late)
  }
  for (let tries = 1; ; tries += 1) {
    const seen = await look()
    if (tries === 5 || !missing(seen)) return seen
  }
}
