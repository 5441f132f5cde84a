// What real gobgpd do on the wire and to a host: bits of the OPEN, End-of-RIB, the prefix limit, listeners, many paths at
// once, a wrong password. docs/bgp-gobgp.md says it in words; each block runs with 3.10 and, where Go is, with 3.37.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { unansweredIn } from '../../agent/dataplane/bgp-tcp.js'
import { lacksRestartBits } from '../../lib/gobgp/compare.js'
import type { BgpPeerState, Gobgp } from '../../lib/gobgp/types.js'
import { childArgv } from '../../lib/netns/child.js'
import { createSpeakers, gobgpdMissing, newerGobgpd, type Speakers } from '../support/gobgp.js'
import { ownGlobal, peerConfig, record } from '../support/gobgp-cases.js'
import { createWorld, until } from '../support/netns-world.js'

t.setTimeout(300_000)

interface Line {
  readonly ms: number
  readonly type: string
  readonly [field: string]: unknown
}

/** test/support/bgp-speaker.mjs at 192.0.2.N. */
interface Raw {
  readonly lines: readonly Line[]
  say(line: string): void
  wait(type: string, fits?: (line: Line) => boolean): Promise<Line>
}

const script = fileURLToPath(new URL('../support/bgp-speaker.mjs', import.meta.url))

function raw(t: Test, speakers: Speakers, n: number, options: object): Raw {
  const [program, ...args] = childArgv(speakers.world.netns, [
    process.execPath,
    script,
    'listen',
    `192.0.2.${n}`,
    JSON.stringify({ routerId: `10.9.9.${n}`, ...options }),
  ])
  const child: ChildProcess = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => void child.kill('SIGKILL'))
  const lines: Line[] = []
  createInterface({ input: child.stdout! }).on('line', line => lines.push(JSON.parse(line) as Line))
  return {
    lines,
    say: line => void child.stdin!.write(`${line}\n`),
    wait: (type, fits = () => true) =>
      until(
        () => lines.find(line => line.type === type && fits(line)),
        40_000,
        () => `${type} at 192.0.2.${n}: ${JSON.stringify(lines)}`,
      ),
  }
}

const isEnd = (line: Line): boolean => line['endOfRib'] === 'inet'
const restart = { restartTime: 20, restarting: true, deferral: 6, longLived: 30, notification: true }

async function begin(speakers: Speakers, n: number): Promise<Gobgp> {
  const gobgp = (await speakers.speaker(n)).client()
  await gobgp.start({ ...ownGlobal, routerId: `10.0.0.${n}`, listenAddresses: [`192.0.2.${n}`] })
  return gobgp
}

const stateOf = async (gobgp: Gobgp, address: string): Promise<BgpPeerState> =>
  (await gobgp.peers({ address }))[0]!.state

const established = (gobgp: Gobgp, address: string): Promise<true> =>
  until(
    async () => ((await stateOf(gobgp, address)).session === 'established' ? true : undefined),
    60_000,
    `session with ${address}`,
  )

function cases(t: Test, binary: string, waitsForAbsent: boolean): void {
  const world = async (_: Test, f: (speakers: Speakers) => Promise<void>): Promise<void> => {
    const speakers = createSpeakers(binary)
    try {
      await f(speakers)
    } finally {
      await speakers.close()
    }
  }

  void t.test('restarting: R and F bits in the OPEN, End-of-RIB when all peers have sent theirs', t =>
    world(t, async speakers => {
      const gobgp = await begin(speakers, 1)
      const [first, second] = [8, 9].map(n => raw(t, speakers, n, { restartTime: 60, forwarding: true })) as [
        Raw,
        Raw,
      ]
      await Promise.all([first.wait('listening'), second.wait('listening')])
      await gobgp.addPaths([{ prefix: '10.1.2.0/24', nextHop: '0.0.0.0' }])
      const config = (n: number) =>
        peerConfig(`192.0.2.${n}`, { localAddress: '192.0.2.1', gracefulRestart: restart })
      await gobgp.addPeer(config(8))
      await gobgp.addPeer(config(9))
      for (const peer of [first, second])
        t.match(await peer.wait('open'), {
          asn: 64512,
          routerId: '10.0.0.1',
          gracefulRestart: {
            restarting: true,
            notification: true,
            time: 20,
            families: [
              { afi: 1, safi: 1, forwarding: true },
              { afi: 2, safi: 1, forwarding: true },
            ],
          },
          longLived: [
            { afi: 1, forwarding: true, time: 30 },
            { afi: 2, forwarding: true, time: 30 },
          ],
        })
      await Promise.all([established(gobgp, '192.0.2.8'), established(gobgp, '192.0.2.9')])
      first.say('eor')
      first.say('eor6')
      await until(
        async () => ((await stateOf(gobgp, '192.0.2.8')).endOfRib.length === 2 ? true : undefined),
        5000,
        'End-of-RIB of the first',
      )
      await delay(300)
      for (const peer of [first, second])
        t.notOk(
          peer.lines.some(({ type }) => type === 'update'),
          'held back',
        )
      t.equal((await stateOf(gobgp, '192.0.2.8')).localRestarting, true)
      second.say('eor')
      second.say('eor6')
      for (const peer of [first, second]) {
        await peer.wait('update', isEnd)
        // Which family is first is by chance; within one, End-of-RIB is last.
        const updates = peer.lines.filter(line => line.type === 'update' && line['endOfRib'] !== 'inet6')
        t.match(updates, [{ prefixes: ['10.1.2.0/24'] }, { endOfRib: 'inet' }])
      }
      t.equal((await stateOf(gobgp, '192.0.2.8')).localRestarting, false)
    }),
  )

  void t.test('restarting: a peer that is not there', t =>
    world(t, async speakers => {
      const gobgp = await begin(speakers, 1)
      const peer = raw(t, speakers, 8, { restartTime: 60, forwarding: true })
      await peer.wait('listening')
      const config = (n: number) =>
        peerConfig(`192.0.2.${n}`, { localAddress: '192.0.2.1', gracefulRestart: restart })
      await gobgp.addPeer(config(8))
      await gobgp.addPeer(config(9))
      const open = await peer.wait('open')
      peer.say('eor')
      peer.say('eor6')
      const end = await peer.wait('update', isEnd)
      if (waitsForAbsent) t.ok(end.ms - open.ms > 5000, `${end.ms - open.ms} ms: the deferral time`)
      else t.ok(end.ms - open.ms < 4000, `${end.ms - open.ms} ms: not waited for`)
      // The one that comes late shall have the bits all the same.
      const [listed] = await gobgp.peers({ address: '192.0.2.9' })
      t.equal(lacksRestartBits(listed!, config(9)), !waitsForAbsent)
      t.equal(await gobgp.updatePeer(config(9)), !waitsForAbsent, 'added anew where they are gone')
      const late = raw(t, speakers, 9, { restartTime: 60, forwarding: true })
      t.match(await late.wait('open'), {
        gracefulRestart: { restarting: true, families: [{ forwarding: true }, {}] },
      })
    }),
  )

  void t.test('the prefix limit ends the session, and it stays down', t =>
    world(t, async speakers => {
      const [gobgp, other] = [await begin(speakers, 1), await begin(speakers, 2)]
      await other.addPaths([1, 2, 3, 4].map(n => ({ prefix: `10.1.${n}.0/24`, nextHop: '0.0.0.0' })))
      await gobgp.addPeer(peerConfig('192.0.2.2', { localAddress: '192.0.2.1', maxPrefixes: 3 }))
      await other.addPeer(peerConfig('192.0.2.1', { localAddress: '192.0.2.2', passive: true }))
      const state = await until(
        async () => {
          const state = await stateOf(gobgp, '192.0.2.2')
          // It says why before it has ended the session.
          return state.admin === 'prefix-limit' && state.session === 'idle' ? state : undefined
        },
        60_000,
        'the limit',
      )
      t.equal(state.notifications.sent, 1)
      await until(
        async () => ((await gobgp.paths('global', 'inet')).length === 0 ? true : undefined),
        30_000,
        'none of its paths',
      )
      await other.deletePaths(['10.1.4.0/24'])
      t.equal((await stateOf(gobgp, '192.0.2.2')).admin, 'prefix-limit')
    }),
  )

  void t.test(
    'a password: the right one works, with TTL security; a wrong one is no session, and the kernel counts',
    t =>
      world(t, async speakers => {
        const [gobgp, right, wrong] = [
          await begin(speakers, 1),
          await begin(speakers, 2),
          await begin(speakers, 3),
        ]
        for (const n of [2, 3])
          await gobgp.addPeer(
            peerConfig(`192.0.2.${n}`, { localAddress: '192.0.2.1', password: 'right', ttlSecurity: 255 }),
          )
        await right.addPeer(
          peerConfig('192.0.2.1', {
            localAddress: '192.0.2.2',
            password: 'right',
            ttlSecurity: 255,
            passive: true,
          }),
        )
        await wrong.addPeer(peerConfig('192.0.2.1', { localAddress: '192.0.2.3', password: 'wrong' }))
        await established(gobgp, '192.0.2.2')
        const failures = (): number =>
          Number(
            /TcpExtTCPMD5Failure\s+(\d+)/.exec(speakers.world.sh('nstat -asz TcpExtTCPMD5Failure'))?.[1] ?? 0,
          )
        await until(() => (failures() > 0 ? true : undefined), 30_000, 'TcpExtTCPMD5Failure')
        t.not((await stateOf(gobgp, '192.0.2.3')).session, 'established')
      }),
  )

  void t.test('listens on its BGP port alone, and 10,000 paths at once come by a watch', t =>
    world(t, async speakers => {
      const [gobgp, other] = [await begin(speakers, 1), await begin(speakers, 2)]
      t.same(
        speakers.world
          .sh('ss -H -tuln')
          .trim()
          .split('\n')
          .map(line => line.split(/\s+/)[4])
          .sort(),
        ['192.0.2.1:179', '192.0.2.2:179'],
        'nothing on :50051 nor :6060',
      )
      const many = Array.from({ length: 10_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`)
      t.ok(
        (await other.addPaths(many.map(prefix => ({ prefix, nextHop: '0.0.0.0' })))).every(
          e => e === undefined,
        ),
      )
      const watch = record(gobgp, 'adj-in')
      await gobgp.addPeer(peerConfig('192.0.2.2', { localAddress: '192.0.2.1' }))
      await other.addPeer(peerConfig('192.0.2.1', { localAddress: '192.0.2.2', passive: true }))
      await established(gobgp, '192.0.2.2')
      const before = process.cpuUsage()
      const told = (): number => watch.lines.filter(line => line.startsWith('+')).length
      await until(
        () => (told() >= many.length ? true : undefined),
        30_000,
        () => `${told()} paths`,
      )
      const { user, system } = process.cpuUsage(before)
      t.comment(
        `${Math.round((user + system) / 1000)} ms of CPU from established to the last of 10,000 paths`,
      )
      t.equal(new Set(watch.lines.filter(line => line.startsWith('+'))).size, many.length, 'each once')
      t.equal((await gobgp.paths('adj-in', 'inet', { neighbor: '192.0.2.2' })).length, many.length)
      t.equal(await watch.stop(), 'ended')
      // One message has them all.
      const late = record(gobgp, 'post-policy')
      await until(
        () => (late.lines.length >= many.length ? true : undefined),
        30_000,
        () => `${late.lines.length}`,
      )
      t.equal(await late.stop(), 'ended')
    }),
  )
}

const missing = gobgpdMissing()
void t.test("Debian's gobgpd", { skip: missing ?? false }, async t => cases(t, 'gobgpd', true))

const newer = newerGobgpd()
void t.test('GoBGP 3.37', { skip: 'missing' in newer ? newer.missing : false }, async t => {
  if ('path' in newer) cases(t, newer.path, false)
})

void t.test(
  'a SYN to port 179 that nobody answers is seen once it went again, another port is not',
  { skip: process.getuid?.() === 0 ? false : 'not root' },
  async t => {
    const silent = ['192.0.2.77', '192.0.2.78', '2001:db8::77']
    const world = createWorld(
      [
        'ip link set lo up',
        'ip link add e0 type veth peer name e1',
        'ip link set e0 up',
        'ip link set e1 up',
        'ip address add 192.0.2.1/24 dev e0',
        'ip address add 2001:db8::1/64 dev e0 nodad',
        // Of those without a link-layer address the kernel itself says that they are not there.
        ...silent.map(address => `ip neigh add ${address} lladdr 02:00:00:00:00:77 dev e0 nud permanent`),
      ].join('\n'),
    )
    t.teardown(() => world.close())
    const dial = silent.map(address => `echo >/dev/tcp/${address}/${address.endsWith('78') ? 80 : 179} &`)
    const [program, ...args] = childArgv(world.netns, [
      'timeout',
      '--foreground',
      '20',
      'bash',
      '-c',
      `${dial.join(' ')} while sleep 0.2; do cat /proc/net/tcp /proc/net/tcp6; echo; done`,
    ])
    // Those that dial have its output, too: as long as one of them lives we would wait for more.
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
    t.teardown(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      child.stdout.destroy()
    })
    let text = ''
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString()
    })
    const found = await until(
      () => {
        const seen = new Set(unansweredIn(text))
        return seen.size >= 2 ? [...seen].sort() : undefined
      },
      15_000,
      () => `two of them in ${text}`,
    )
    t.same(found, ['192.0.2.77', '2001:db8::77'])
  },
)
