// What becomes of TCP when a port goes on at another host, whose conntrack never saw the connection: segments in its midst are
// judged as new, in the direction of the first that comes, as in Neutron. In the recipe's lab, segment by segment.
import t, { type Test } from 'tap'
import type { FabricGroup, GroupRule } from '../../agent/model/fabric.js'
import { patiently, reaches, token } from '../support/attacks/arena.js'
import * as f from '../support/attacks/frames.js'
import { createTenantLab } from '../support/tenant-lab.js'
import { arenaOf } from '../support/tenant-lab-arena.js'
import { allGroups, loadGuards, loadRules } from '../support/tenant-lab-rules.js'

t.setTimeout(120_000)
const lab = createTenantLab()
t.teardown(() => lab.close())
const arena = arenaOf(lab)
await loadRules(lab)
// The test is both ends: their own stacks would answer with resets.
for (const ref of ['red/a1', 'red/a2'])
  lab.ports
    .get(ref)
    ?.sh(
      'nft "table inet mute { chain in { type filter hook input priority -300; meta l4proto tcp drop; }; }"',
    )

const { syn, ack, psh, rst } = f.tcpFlag

/** One connection, from red/a1 on h1 to red/a2 on h2, in one family. */
class Connection {
  readonly family: 4 | 6
  readonly sport: number
  #client = 1000
  #server = 5000

  constructor(family: 4 | 6, sport: number) {
    this.family = family
    this.sport = sport
  }

  /** Sends a segment; did the other end hear it? */
  async send(from: 'client' | 'server', flags: number, size = 16): Promise<boolean> {
    const [me, you] = from === 'client' ? ['red/a1', 'red/a2'] : ['red/a2', 'red/a1']
    const mine = arena.at(me as string)
    const other = arena.at(you as string)
    const mark = token()
    const ports = from === 'client' ? { sport: this.sport, dport: 8080 } : { sport: 8080, dport: this.sport }
    const ends =
      this.family === 4
        ? { src: mine.ip, dst: other.ip, ...ports }
        : { src: mine.ip6, dst: other.ip6, ...ports }
    const [seq, acked] = from === 'client' ? [this.#client, this.#server] : [this.#server, this.#client]
    const data = (flags & (syn | rst)) !== 0 ? mark : Buffer.concat([mark, Buffer.alloc(size - 16)])
    const segment = f.tcp(ends, { flags, seq, ack: (flags & ack) === 0 ? 0 : acked }, data)
    const packet =
      this.family === 4 ? f.ip(ends, f.protocol.tcp, segment) : f.ip6(ends, f.protocol.tcp, segment)
    const type = this.family === 4 ? f.etherType.ip : f.etherType.ip6
    const frame = f.ethernet({ src: mine.mac, dst: other.mac }, type, packet)
    const heard = await reaches(arena, me as string, [frame], mark, [you as string])
    if (heard) {
      const next = data.length + ((flags & syn) === 0 ? 0 : 1)
      if (from === 'client') this.#client += next
      else this.#server += next
    }
    return heard
  }

  /** It goes on where neither host of the lab sees it. */
  elsewhere(bytes: number): void {
    this.#client += bytes
    this.#server += bytes
  }

  async open(): Promise<boolean> {
    return (
      (await this.send('client', syn)) &&
      (await this.send('server', syn | ack)) &&
      (await this.send('client', ack))
    )
  }

  /** Data both ways; `first` speaks first. */
  async talk(first: 'client' | 'server'): Promise<readonly boolean[]> {
    const then = first === 'client' ? 'server' : 'client'
    return [await this.send(first, ack | psh), await this.send(then, ack | psh)]
  }
}

/** To the new host the server's connection is one that it never saw. */
function moved(host: 'h1' | 'h2'): void {
  lab.hosts[host].fabric.sh('conntrack -F 2>/dev/null')
}

let port = 20_000
function fresh(family: 4 | 6): Connection {
  port += 1
  return new Connection(family, port)
}

async function opened(t: Test, family: 4 | 6): Promise<Connection> {
  for (let i = 0; i < 5; i += 1) {
    const connection = fresh(family)
    if (await connection.open()) return connection
  }
  t.fail('no connection')
  return fresh(family)
}

/** `red/web` and `red/def` with other rules than the lab's. */
async function load(
  change: (rules: readonly GroupRule[], group: FabricGroup) => readonly GroupRule[],
): Promise<void> {
  const groups = allGroups.map(group => ({ ...group, rules: change(group.rules, group) }))
  await loadGuards(lab, [], ['state'], { groups })
}

for (const family of [4, 6] as const) {
  t.test(`IPv${family}: the server moves, and the connection goes on, whoever speaks first`, async t => {
    for (const first of ['client', 'server'] as const) {
      const connection = await opened(t, family)
      t.same(await patiently([true, true], () => connection.talk(first)), [true, true])
      moved('h2')
      t.same(await connection.talk(first), [true, true], `${first} first`)
      t.ok(
        await connection.send('client', ack | psh, 1200),
        'and is tracked from then on, large segments too',
      )
      t.ok(await connection.send('server', ack | psh, 1200))
    }
  })

  t.test(`IPv${family}: a port that comes back finds what its host remembers out of date`, async t => {
    const { fabric } = lab.hosts.h2
    const liberal = 'net.netfilter.nf_conntrack_tcp_be_liberal'
    for (const first of ['client', 'server'] as const) {
      const connection = await opened(t, family)
      connection.elsewhere(50_000_000)
      fabric.sh(`sysctl -qw ${liberal}=0`)
      t.not(
        (await connection.talk(first)).join(),
        'true,true',
        `${first} first: out of window, without the sysctl`,
      )
      fabric.sh(`sysctl -qw ${liberal}=1`)
      t.same(await connection.talk(first), [true, true], `${first} first`)
    }
  })

  t.test(`IPv${family}: what is in the midst of nothing needs a rule of its own direction`, async t => {
    // The server's groups let nothing out that it begins: what the client sends first still finds its rule.
    await load((rules, { ref }) =>
      ref.startsWith('red/')
        ? rules.filter(({ direction, remoteGroup }) => direction === 'ingress' && remoteGroup === undefined)
        : rules,
    )
    const silent = fresh(family)
    t.notOk(await silent.open(), 'no rule lets the client out')
    await load((rules, { ref }) =>
      ref === 'red/def' ? rules.filter(({ remoteGroup }) => remoteGroup === undefined) : rules,
    )
    const connection = await opened(t, family)
    t.same(await connection.talk('client'), [true, true])
    moved('h2')
    t.same(await connection.talk('client'), [true, true], '8080 is let in, in its midst, too')
    // The client's end moves, and the server speaks: nobody lets 8080 in there, until the client has spoken.
    moved('h1')
    t.notOk(await connection.send('server', ack | psh), 'what the server sends first')
    t.ok(await connection.send('client', ack | psh), 'what the client sends finds its rule')
    t.ok(await connection.send('server', ack | psh), 'and then the server goes on')
    await load((rules, { ref }) =>
      ref === 'red/web' ? [] : rules.filter(({ remoteGroup }) => remoteGroup === undefined),
    )
    t.same(await connection.talk('client'), [true, true], 'a host that saw it goes on until it is revoked')
    moved('h2')
    t.notOk(await connection.send('client', ack | psh), 'one that did not lets in what rules let in now')
    await loadGuards(lab, [], ['state'])
  })

  t.test(`IPv${family}: neither an answer nor a reset begins a connection`, async t => {
    const connection = fresh(family)
    t.notOk(await connection.send('server', syn | ack))
    t.notOk(await connection.send('client', rst | ack))
    t.notOk(await connection.send('client', rst))
  })
}
