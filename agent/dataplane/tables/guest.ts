// What a container finds on its end of a port: addresses, routes, MTU, link up; `ip -n NETNS address show dev eth0`. The
// namespace is the container's: of all that is there only what a port says is looked at, and nothing else is removed.
import { asError, WarrenError } from '../../../lib/errors.js'
import { inLanes } from '../../../lib/lanes.js'
import { type RtnlOnce, writeOnceAside } from '../../../lib/netlink/once.js'
import type { Address, Link, Route, RtnlOp } from '../../../lib/netlink/types.js'
import type { Netns } from '../../../lib/netns/netns.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import type { Guest } from '../../model/desired.js'
import { guestRouteProtocol } from '../../model/marks.js'
import { inContainer, isNamespace, writeInContainer } from '../spaces.js'

const mainTable = 254
/** Namespaces between two turns of the event loop: a few milliseconds. */
const atOnce = 32
/**
 * Written to at a time, where they are many: all want RTNL, as do the kernel's workers for what has just come up, and one alone
 * gets little of it. One thread of libuv's four is left to others.
 */
const lanes = 3

function addressOf({ dev }: Guest, { address, prefixLength, family }: Guest['addresses'][number]): Address {
  return {
    kind: 'address',
    dev,
    family,
    address,
    prefixLength,
    scope: 'global',
    ...(family === 'inet6' ? { nodad: true } : {}),
  }
}

function routeOf({ dev }: Guest, { destination, nextHop }: Guest['routes'][number]): Route {
  return {
    kind: 'route',
    family: destination.includes(':') ? 'inet6' : 'inet',
    dst: destination,
    type: 'unicast',
    nextHops: [{ dev, via: nextHop }],
    table: mainTable,
    protocol: guestRouteProtocol,
    scope: 'global',
  }
}

function linkOf({ dev, mac, mtu }: Guest, before: Guest | undefined): Link {
  // A MAC written again costs the neighbours there are.
  const address = before?.mac === undefined || before.mac === mac ? {} : { address: mac }
  return { kind: 'link', name: dev, info: { kind: 'other', name: 'veth' }, ...address, mtu, up: true }
}

function messages(desired: Guest, before: Guest | undefined): RtnlOp[] {
  const goneAddress = (before?.addresses ?? []).filter(
    old => !desired.addresses.some(({ address }) => address === old.address),
  )
  const goneRoute = (before?.routes ?? []).filter(
    old => !desired.routes.some(({ destination }) => destination === old.destination),
  )
  // As it was born, or as it was: nothing to say of it.
  const same = before?.mac === desired.mac && before.mtu === desired.mtu
  return [
    ...(same ? [] : [{ verb: 'set' as const, object: linkOf(desired, before) }]),
    ...desired.addresses.map(each => ({ verb: 'replace' as const, object: addressOf(desired, each) })),
    ...goneRoute.map(each => ({ verb: 'delete' as const, object: routeOf(desired, each) })),
    ...goneAddress.map(each => ({ verb: 'delete' as const, object: addressOf(desired, each) })),
    ...desired.routes.map(each => ({ verb: 'replace' as const, object: routeOf(desired, each) })),
  ]
}

function look(guest: Guest, rtnl: RtnlOnce): Guest {
  const link = rtnl.link()
  const addresses = rtnl.addresses()
  const routes = rtnl.routes({ protocol: guestRouteProtocol })
  return {
    ...guest,
    mac: link?.address ?? '',
    mtu: link?.up === true ? (link.mtu ?? 0) : 0,
    addresses: addresses
      .filter(({ scope }) => scope === 'global')
      .map(({ address, prefixLength, family }) => ({ address, prefixLength, family })),
    routes: routes.map(({ dst, nextHops }) => ({ destination: dst, nextHop: nextHops[0]?.via ?? '' })),
  }
}

/** Undefined too where it cannot be looked into (EACCES at /proc/PID/ns/net): writing to it says so, of this port alone. */
function lookIn(guest: Guest): Guest | undefined {
  try {
    return inContainer(guest, rtnl => look(guest, rtnl))
  } catch {
    return undefined
  }
}

function equal(desired: Guest, observed: Guest): boolean {
  return (
    desired.path === observed.path &&
    desired.dev === observed.dev &&
    desired.mac === observed.mac &&
    desired.mtu === observed.mtu &&
    desired.addresses.every(own =>
      observed.addresses.some(
        ({ address, prefixLength }) => address === own.address && prefixLength === own.prefixLength,
      ),
    ) &&
    desired.routes.every(own =>
      observed.routes.some(
        ({ destination, nextHop }) => destination === own.destination && nextHop === own.nextHop,
      ),
    )
  )
}

/** Only what is wanted is looked for: `wanted` is what compute asks for now. */
export function guestTable(wanted: () => Iterable<Guest>): Table<Guest> {
  return {
    name: 'guest',
    key: ({ port }) => port,
    equal,
    async observe(signal) {
      const found: Guest[] = []
      await eachInTurns(wanted(), signal, guest => {
        const seen = lookIn(guest)
        if (seen !== undefined) found.push(seen)
      })
      return found
    },
    async apply(ops, signal) {
      const results: OpResult[] = new Array(ops.length).fill(undefined)
      await inLanes(lanes, ops.entries(), async ([i, op]) => {
        signal.throwIfAborted()
        try {
          results[i] = ops.length > atOnce ? await writeAside(op) : write(op)
        } catch (error) {
          results[i] = asError(error)
        }
      })
      return results
    },
    format(op) {
      // What a port no longer says goes with its link.
      if (op.verb === 'remove') return `# ${op.observed.port}: nothing more is wanted in ${op.observed.path}`
      const { path, dev, addresses, routes, mtu } = op.desired
      const inside = `nsenter --net=${path} ip`
      return [
        `${inside} link set dev ${dev} mtu ${mtu} up`,
        ...addresses.map(
          ({ address, prefixLength }) => `${inside} address replace ${address}/${prefixLength} dev ${dev}`,
        ),
        ...routes.map(
          ({ destination, nextHop }) => `${inside} route replace ${destination} via ${nextHop} dev ${dev}`,
        ),
      ].join('\n')
    },
  }
}

/** All of it is done by the time that the kernel answers; what else waits in the event loop gets its turn in between. */
async function eachInTurns<T>(items: Iterable<T>, signal: AbortSignal, f: (item: T) => void): Promise<void> {
  let n = 0
  for (const item of items) {
    f(item)
    n += 1
    if (n % atOnce !== 0) continue
    await new Promise<void>(resolve => setImmediate(resolve))
    signal.throwIfAborted()
  }
}

const ignored = ['ESRCH', 'EADDRNOTAVAIL']

function opsOf(op: TableOp<Guest> & { readonly verb: 'add' | 'change' }): RtnlOp[] {
  return messages(op.desired, op.verb === 'change' ? op.observed : undefined)
}

function write(op: TableOp<Guest>): OpResult {
  if (op.verb === 'remove') return undefined
  const there = inContainer(op.desired, rtnl => {
    rtnl.write(opsOf(op), ignored)
    return true
  })
  return there === true ? undefined : missing(op.desired)
}

async function writeAside(op: TableOp<Guest>): Promise<OpResult> {
  if (op.verb === 'remove') return undefined
  const there = await writeInContainer(op.desired, opsOf(op), ignored)
  return there === true ? undefined : missing(op.desired)
}

/** Writes to an end that was just made: down, bare, and with the MAC and MTU that it was born with. */
export async function setUpGuest(guest: Guest, netns: Netns): Promise<OpResult> {
  try {
    const bare: Guest = { ...guest, mtu: 0, addresses: [], routes: [] }
    const [up, ...rest] = messages(guest, bare)
    const { mtu: _born, ...link } = up?.object as Link
    const ops: RtnlOp[] = [{ verb: 'set', object: link }, ...rest]
    const there = await writeOnceAside(netns, guest.dev, ops, ignored)
    return there === true ? undefined : missing(guest)
  } catch (error) {
    return asError(error)
  }
}

/** Without its link, too: the table of links says why. */
function missing({ path, dev }: Guest): WarrenError {
  const [what, code] = isNamespace(path) ? ['the link', 'NO_LINK'] : ['the namespace', 'NO_NETNS']
  return new WarrenError(`Cannot set up "${dev}" in "${path}": ${what} is not there`, {
    code,
    hint: 'see the errors of table "fabric-link"',
  })
}
