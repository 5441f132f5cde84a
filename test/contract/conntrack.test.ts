// One suite for the fake and the kernel: what Conntrack promises, with flows that packets made.
import t from 'tap'
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import { type FakePacket, fakeConntrack } from '../../lib/conntrack/fake.js'
import { formatDelete } from '../../lib/conntrack/format.js'
import { type Conntrack, type Flow, type FlowFilter, flowStatus } from '../../lib/conntrack/types.js'
import { WarrenError } from '../../lib/errors.js'
import { createWorld } from '../support/netns-world.js'
import { sendPacket } from '../support/packets.js'

type Tap = Pick<typeof t, 'equal' | 'same' | 'match' | 'ok' | 'notOk' | 'rejects' | 'comment'>

interface Subject {
  readonly conntrack: Conntrack
  /** To port 7000: tracked in zone 7; 7001: so only the original direction; 7002: only the reply; 7003: with a mark. */
  packet(packet: FakePacket): void
  /** Whoever really got the packet answers it. */
  answer(packet: FakePacket): void
  /** Undefined: there is nothing to run a shell on. */
  sh(script: string): string | undefined
  close(): void
}

// 192.0.2.1 answers; everything else goes to a gateway that is not there.
const setup = `
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
ip addr add 192.0.2.1/32 dev v0
ip addr add 2001:db8::1/128 dev v0 nodad
ip neigh add 192.0.2.254 lladdr 02:00:00:00:00:fe dev v0 nud permanent
ip neigh add fe80::fe lladdr 02:00:00:00:00:fe dev v0 nud permanent
ip route add default via 192.0.2.254 dev v0 onlink
ip -6 route add default via fe80::fe dev v0
nft -f - <<'EOT'
table inet t {
	chain zones {
		type filter hook output priority raw
		udp dport 7000 ct zone set 7
		udp dport 7001 ct original zone set 7
		udp dport 7002 ct reply zone set 7
		udp dport 7003 meta mark set 0x45
	}
	chain marks {
		type filter hook output priority filter
		udp dport 7003 ct mark set meta mark
	}
	chain output {
		type nat hook output priority -105
		ip daddr 10.0.0.1 udp dport 53 dnat ip to 192.0.2.1:8053
		ip daddr 10.0.0.1 tcp dport 80 dnat ip to 192.0.2.7:8080
		ip daddr 10.0.0.1 meta l4proto sctp th dport 99 dnat ip to 192.0.2.7:9900
		ip6 daddr fd00::1 udp dport 53 dnat ip6 to [2001:db8::7]:8053
	}
}
EOT
`

function kernelSubject(): Subject {
  const world = createWorld(setup)
  const conntrack = openConntrack(world.netns)
  return {
    conntrack,
    packet: packet => sendPacket(world.netns, packet),
    answer: ({ protocol, src, sport }) =>
      sendPacket(world.netns, { protocol, src: '192.0.2.1', sport: 8053, dst: src, dport: sport }),
    sh: script => world.sh(script),
    close() {
      conntrack.close()
      world.close()
    },
  }
}

function fakeSubject(): Subject {
  const conntrack = fakeConntrack()
  conntrack.rules
    .set('10.0.0.1 udp 53', { address: '192.0.2.1', port: 8053 })
    .set('10.0.0.1 tcp 80', { address: '192.0.2.7', port: 8080 })
    .set('10.0.0.1 sctp 99', { address: '192.0.2.7', port: 9900 })
    .set('fd00::1 udp 53', { address: '2001:db8::7', port: 8053 })
  return {
    conntrack,
    packet: packet => {
      const zoneOf = ({ 7000: 'both', 7001: 'original', 7002: 'reply' } as const)[packet.dport]
      const mark = packet.dport === 7003 ? { mark: 0x45 } : {}
      conntrack.packet(packet, { ...(zoneOf === undefined ? {} : { zone: 7, zoneOf }), ...mark })
    },
    answer: packet => void conntrack.answer(packet),
    sh: () => undefined,
    close: () => conntrack.close(),
  }
}

const udp: FakePacket = { protocol: 'udp', src: '192.0.2.1', sport: 4000, dst: '10.0.0.1', dport: 53 }
const udp6: FakePacket = { protocol: 'udp', src: '2001:db8::1', sport: 4000, dst: 'fd00::1', dport: 53 }
const tcp: FakePacket = { protocol: 'tcp', src: '192.0.2.1', sport: 4001, dst: '10.0.0.1', dport: 80 }
const sctp: FakePacket = { protocol: 'sctp', src: '192.0.2.1', sport: 4002, dst: '10.0.0.1', dport: 99 }
const plain: FakePacket = { protocol: 'udp', src: '192.0.2.1', sport: 4003, dst: '198.51.100.9', dport: 53 }

const inet: FlowFilter = { family: 'inet' }
const ports = (flows: readonly Flow[]): number[] => flows.map(flow => flow.original.sport).sort()

for (const [name, create] of [
  ['fake', fakeSubject],
  ['kernel', kernelSubject],
] as const) {
  t.test(name, async t => {
    const each = (title: string, test: (t: Tap, subject: Subject) => Promise<void>): void =>
      void t.test(title, async t => {
        const subject = create()
        t.teardown(() => subject.close())
        await test(t, subject)
      })

    each('nothing at first', async (t, { conntrack }) => {
      t.same(await conntrack.list(inet), [])
      const { flows, max } = await conntrack.count()
      t.equal(flows, 0)
      t.ok(max > 0)
    })

    each('a translated flow says where it goes', async (t, { conntrack, packet }) => {
      packet(udp)
      const [flow] = await conntrack.list(inet)
      t.match(flow, {
        family: 'inet',
        protocol: 'udp',
        original: { src: '192.0.2.1', dst: '10.0.0.1', sport: 4000, dport: 53 },
        reply: { src: '192.0.2.1', dst: '192.0.2.1', sport: 8053, dport: 4000 },
        tcpState: undefined,
        mark: 0,
        zone: 0,
        zoneOf: 'both',
      })
      const { status = 0, timeout = 0 } = flow ?? {}
      t.ok(status & flowStatus.dstNat, 'translated')
      t.notOk(status & (flowStatus.seenReply | flowStatus.srcNat), 'and nothing else')
      t.ok(timeout > 0 && timeout <= 30, `${timeout} s`)
      t.equal((await conntrack.count()).flows, 1)
    })

    each('an answer shows, and a second packet makes no second flow', async (t, subject) => {
      subject.packet(udp)
      subject.answer(udp)
      subject.packet(udp)
      const flows = await subject.conntrack.list(inet)
      t.equal(flows.length, 1)
      t.ok((flows[0]?.status ?? 0) & flowStatus.seenReply)
      t.same(await subject.conntrack.list({ ...inet, unreplied: true }), [])
    })

    each('IPv6, TCP and SCTP', async (t, { conntrack, packet }) => {
      for (const one of [udp, udp6, tcp, sctp]) packet(one)
      t.match(await conntrack.list({ family: 'inet6' }), [
        {
          family: 'inet6',
          original: { src: '2001:db8::1', dst: 'fd00::1', sport: 4000, dport: 53 },
          reply: { src: '2001:db8::7', dst: '2001:db8::1', sport: 8053, dport: 4000 },
        },
      ])
      t.match(await conntrack.list({ ...inet, protocol: 'tcp' }), [
        { protocol: 'tcp', tcpState: 'syn-sent', reply: { src: '192.0.2.7', sport: 8080 } },
      ])
      t.match(await conntrack.list({ ...inet, protocol: 'sctp' }), [
        { protocol: 'sctp', tcpState: undefined, reply: { src: '192.0.2.7', sport: 9900 } },
      ])
    })

    each('a filter leaves out the rest', async (t, { conntrack, packet, answer }) => {
      for (const one of [udp, tcp, sctp, plain, { ...udp, sport: 4010, dport: 54 }]) packet(one)
      const list = async (more: Omit<FlowFilter, 'family'>): Promise<number[]> =>
        ports(await conntrack.list({ ...inet, ...more }))
      t.same(await list({}), [4000, 4001, 4002, 4003, 4010])
      t.same(await list({ protocol: 'udp' }), [4000, 4003, 4010])
      t.same(await list({ protocol: 'udp', dport: 53 }), [4000, 4003])
      t.same(await list({ protocol: 'udp', dst: '10.0.0.1' }), [4000, 4010])
      t.same(await list({ protocol: 'udp', dst: '10.0.0.1', dport: 53 }), [4000])
      t.same(await list({ dst: '198.51.100.9' }), [4003])
      packet(udp6)
      packet({ ...udp6, sport: 4011, dst: 'fd00::2' })
      t.same(
        ports(await conntrack.list({ family: 'inet6', protocol: 'udp', dst: 'fd00::1', dport: 53 })),
        [4000],
      )
      answer(udp)
      t.same(await list({ protocol: 'udp', unreplied: true }), [4003, 4010])
    })

    each('a deleted flow is gone, and the others are not', async (t, { conntrack, packet }) => {
      for (const one of [udp, tcp, sctp, plain]) packet(one)
      const flows = await conntrack.list(inet)
      const [gone = flows[0] as Flow] = flows.filter(flow => flow.original.sport === 4000)
      t.same(await conntrack.delete([gone]), [undefined])
      t.same(ports(await conntrack.list(inet)), [4001, 4002, 4003])
      const [again] = await conntrack.delete([gone])
      t.ok(again instanceof WarrenError)
      t.equal(again?.code, 'ENOENT')
      t.equal(
        again?.message,
        'Cannot delete conntrack flow "-p udp -s 192.0.2.1 -d 10.0.0.1 --sport 4000 --dport 53": ENOENT',
      )
    })

    each('a flow that took the place of the deleted one is not deleted', async (t, { conntrack, packet }) => {
      packet(udp)
      const [old] = await conntrack.list(inet)
      await conntrack.delete([old as Flow])
      // The kernel's id comes of the place in memory: another flow first, so that it is another place.
      packet({ ...udp, sport: 4999 })
      packet(udp)
      const [result] = await conntrack.delete([old as Flow])
      t.equal(result?.code, 'ENOENT')
      t.same(ports(await conntrack.list(inet)), [4000, 4999])
    })

    each('a batch deletes what is there and names what is not', async (t, { conntrack, packet }) => {
      for (let sport = 5000; sport < 6000; sport += 1) packet({ ...udp, sport })
      const flows = await conntrack.list(inet)
      t.equal(flows.length, 1000)
      await conntrack.delete(flows.slice(0, 10))
      const results = await conntrack.delete(flows)
      t.same(
        results.map(error => error?.code),
        flows.map((_, i) => (i < 10 ? 'ENOENT' : undefined)),
      )
      t.equal((await conntrack.count()).flows, 0)
      t.same(await conntrack.delete([]), [])
    })

    each(
      'a mark is written on a flow that is there, in its zone, and makes none',
      async (t, { conntrack, packet }) => {
        packet(udp)
        packet({ ...plain, sport: 7000, dport: 7000 })
        const flows = await conntrack.listAll('inet')
        t.same(await conntrack.setMark(flows, 0xffff_ffff), [undefined, undefined])
        t.same(
          (await conntrack.listAll('inet')).map(({ mark }) => mark),
          [0xffff_ffff, 0xffff_ffff],
        )
        await conntrack.delete(flows)
        t.same(
          (await conntrack.setMark(flows, 1)).map(error => error?.code),
          ['ENOENT', 'ENOENT'],
        )
        t.equal((await conntrack.count()).flows, 0)
      },
    )

    each('IPv6 flows are deleted alike', async (t, { conntrack, packet }) => {
      packet(udp6)
      t.same(await conntrack.delete(await conntrack.list({ family: 'inet6' })), [undefined])
      t.same(await conntrack.list({ family: 'inet6' }), [])
    })

    each('zones and marks', async (t, { conntrack, packet }) => {
      for (const dport of [7000, 7001, 7002, 7003]) packet({ ...plain, sport: dport, dport })
      const flows = [...(await conntrack.list(inet))].sort((a, b) => a.original.dport - b.original.dport)
      t.same(
        flows.map(({ zone, zoneOf, mark }) => [zone, zoneOf, mark]),
        [
          [7, 'both', 0],
          [7, 'original', 0],
          [7, 'reply', 0],
          [0, 'both', 0x45],
        ],
      )
      t.same(await conntrack.delete(flows), [undefined, undefined, undefined, undefined])
      t.same(await conntrack.list(inet), [])
    })

    each('a signal stops a listing', async (t, { conntrack }) => {
      await t.rejects(conntrack.list(inet, AbortSignal.abort()), { name: 'AbortError' })
    })

    each('the line that is printed deletes the flow', async (t, { conntrack, packet, sh }) => {
      packet(udp)
      packet(udp6)
      packet({ ...plain, dport: 7000 })
      const flows = [...(await conntrack.list(inet)), ...(await conntrack.list({ family: 'inet6' }))]
      const lines = flows.map(formatDelete)
      t.ok(
        lines.includes(
          'conntrack -D -p udp -s 192.0.2.1 -d 10.0.0.1 --sport 4000 --dport 53 # to 192.0.2.1:8053',
        ),
        lines.join('\n'),
      )
      const program = sh('command -v conntrack || true')
      if (program === undefined) return
      if (program === '') return t.comment('no conntrack(8) here')
      for (const line of lines) t.match(sh(`{ ${line}\n} 2>&1`), '1 flow entries have been deleted', line)
      t.equal((await conntrack.count()).flows, 0)
    })
  })
}
