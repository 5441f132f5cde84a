// Many ports at once on a real kernel: each container is set up before its port goes up, each port's trouble is its own; of few
// each container comes last.
import t from 'tap'
import { linksFirst } from '../../agent/dataplane/links-first.js'
import type { Space, Spaces } from '../../agent/dataplane/spaces.js'
import { fabricLinkTable } from '../../agent/dataplane/tables/fabric-link.js'
import { guestTable, setUpGuest } from '../../agent/dataplane/tables/guest.js'
import type { FabricLink, Guest } from '../../agent/model/desired.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { anonymousNetns, type Netns } from '../../lib/netns/netns.js'
import { createWorld } from '../support/netns-world.js'

const { signal } = new AbortController()
const macOf = (n: number): string => `0a:00:00:00:01:${n.toString(16).padStart(2, '0')}`

function linkAt(n: number, path: string): FabricLink {
  return {
    kind: 'link',
    name: `p${n}`,
    info: { kind: 'veth' },
    addrGenMode: 'none',
    mtu: 1450,
    master: 'br1',
    port: { learning: false, flood: false },
    up: true,
    alias: `warren ${path} eth0`,
    peer: { space: undefined, path, name: 'eth0', mac: macOf(n), mtu: 1450 },
  }
}

function guestAt(n: number, path: string): Guest {
  return {
    port: `red/p${n}`,
    path,
    dev: 'eth0',
    mac: macOf(n),
    mtu: 1450,
    addresses: [{ address: `10.0.1.${n + 1}`, prefixLength: 24, family: 'inet' }],
    routes: [{ destination: '0.0.0.0/0', nextHop: '10.0.1.254' }],
  }
}

for (const [many, title] of [
  [70, 'ports: of many each container is set up while its port is down'],
  [10, 'ports: of few the container has its address when its port is up'],
] as const)
  t.test(title, async t => {
    const world = createWorld('ip link add br1 type bridge; ip link set br1 up')
    const rtnl = openRtnl(world.netns)
    const containers = Array.from({ length: many }, () => anonymousNetns())
    t.teardown(() => {
      rtnl.close()
      for (const netns of containers) netns.close()
      world.close()
    })
    const taken = containers[4] as Netns
    const inside = openRtnl(taken)
    await inside.apply([{ verb: 'add', object: { kind: 'link', name: 'eth0', info: { kind: 'bridge' } } }])
    inside.close()
    const paths = containers.map(({ fd }) => `/proc/${process.pid}/fd/${fd}`)
    paths[2] = '/run/netns/warren-none'
    const guests = paths.map((path, n) => guestAt(n, path))
    const early: string[] = []
    const ends = linksFirst(
      () => guests,
      async (guest, netns) => {
        const [link] = await rtnl.list('link', { dev: guest.port.slice(4) })
        early.push(`${guest.port} ${link?.up}`)
        return setUpGuest(guest, netns)
      },
    )
    const space = { name: 'fabric', netns: world.netns, rtnl } as unknown as Space
    const links = ends.links(
      fabricLinkTable(
        {
          host: { netns: world.netns, rtnl },
          spaces: {} as unknown as Spaces,
          plugged: end => ends.plugged(end),
        },
        space,
      ),
    )
    const made = await links.apply(
      paths.map((path, n) => ({ verb: 'add' as const, desired: linkAt(n, path) })),
      signal,
    )
    const troubles = (results: readonly ({ readonly code: string } | undefined)[]) =>
      results.flatMap((error, n) => (error === undefined ? [] : [[n, error.code]]))
    t.same(troubles(made), [
      [2, 'NO_NETNS'],
      [4, 'DEVICE_EXISTS'],
    ])
    const good = paths.flatMap((_, n) => (n === 2 || n === 4 ? [] : [n]))
    t.same(early.toSorted(), many < 64 ? [] : good.map(n => `red/p${n} false`).toSorted())
    const there = new Map((await rtnl.list('link')).map(link => [link.name, link]))
    for (const n of good) {
      const link = there.get(`p${n}`)
      t.match(link, { up: true, master: 'br1', alias: `warren ${paths[n]} eth0`, mtu: 1450 })
      t.match(link?.port, { learning: false, flood: false })
    }
    const table = ends.guests(guestTable)
    const written = await table.apply(
      guests.map(desired => ({ verb: 'add' as const, desired })),
      signal,
    )
    t.same(troubles(written), [
      [2, 'NO_LINK'],
      [4, 'NO_LINK'],
    ])
    const seen = new Map((await table.observe(signal)).map(each => [each.port, each]))
    for (const n of good) {
      const its = seen.get(`red/p${n}`)
      const guest = guests[n] as Guest
      t.ok(its !== undefined && table.equal(guest, its), guest.port)
    }
    t.equal(seen.size, good.length)
  })
