// What holds of any BGP speaker behind the interface of lib/gobgp: the fake, GoBGP 3.10 and 3.37. One world a case.
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { codeOf } from '../../lib/errors.js'
import { peerDifferences, samePeerConfig } from '../../lib/gobgp/compare.js'
import type {
  BgpEvent,
  BgpGlobal,
  BgpLocalPath,
  BgpPath,
  BgpPeerConfig,
  BgpWatchFilter,
  Gobgp,
} from '../../lib/gobgp/types.js'
import { until } from './netns-world.js'

/** The other end of one session: iBGP, graceful restart 20 s, families inet and inet6. */
export interface Remote {
  readonly address: string
  /** Begins, announces that, then lets the session come up; resolves when it is established. */
  connect(paths: readonly BgpLocalPath[]): Promise<void>
  announce(paths: readonly BgpLocalPath[]): Promise<void>
  withdraw(prefixes: readonly string[]): Promise<void>
  /** Prefixes that it got from us. */
  got(): Promise<readonly string[]>
  /** Dies without a word. */
  cut(): Promise<void>
  /** Ends the session with a NOTIFICATION. */
  leave(): Promise<void>
}

export interface Bench {
  readonly gobgp: Gobgp
  /** A client whose calls have half a second. */
  readonly hasty: Gobgp
  remote(): Promise<Remote>
  kill(): Promise<void>
  start(): Promise<void>
  hang(hanging: boolean): void
  close(): Promise<void>
}

export const ownGlobal: BgpGlobal = {
  asn: 64512,
  routerId: '10.0.0.1',
  listenPort: 179,
  listenAddresses: ['192.0.2.1', '2001:db8::1'],
}

export const peerConfig = (address: string, more: Partial<BgpPeerConfig> = {}): BgpPeerConfig => ({
  address,
  asn: 64512,
  families: ['inet', 'inet6'],
  holdTime: 9,
  keepalive: 3,
  connectRetry: 1,
  gracefulRestart: { restartTime: 20, restarting: false, deferral: 5 },
  ...more,
})

const prefixesOf = (paths: readonly BgpPath[]): string[] => paths.map(({ prefix }) => prefix).sort()

async function code(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    return codeOf(error)
  }
}

/** Follows a watch into a list of lines. */
export function record(
  gobgp: Gobgp,
  filter: BgpWatchFilter,
): { readonly lines: string[]; readonly ended: Promise<string>; stop(): Promise<string> } {
  const abort = new AbortController()
  const lines: string[] = []
  const ended = (async () => {
    try {
      for await (const event of gobgp.watch(abort.signal, { filter })) lines.push(...describe(event))
      return 'ended'
    } catch (error) {
      return codeOf(error)
    }
  })()
  return {
    lines,
    ended,
    stop: () => {
      abort.abort()
      return ended
    },
  }
}

function describe(event: BgpEvent): string[] {
  if (event.type === 'peer') return [`${event.peer.address} ${event.peer.session}`]
  if (event.type === 'paths')
    return event.paths.map(
      p => `${p.withdrawn ? '-' : '+'}${p.prefix} ${p.neighbor ?? 'own'}${p.stale ? ' stale' : ''}`,
    )
  return event.type === 'peers-told' ? ['told'] : []
}

export function gobgpCases(t: Test, open: () => Promise<Bench>): void {
  const withBench = async (t: Test, f: (bench: Bench) => Promise<void>): Promise<void> => {
    const bench = await open()
    try {
      await f(bench)
    } catch (error) {
      t.fail(error instanceof Error ? (error.stack ?? error.message) : String(error))
    } finally {
      await bench.close()
    }
  }

  void t.test('begins with an AS, once; ends, and begins again with nothing', t =>
    withBench(t, async ({ gobgp }) => {
      await gobgp.check()
      t.equal(await gobgp.global(), undefined)
      t.same(await gobgp.peers(), [])
      t.equal(await code(gobgp.paths('global', 'inet')), 'GOBGP_NOT_STARTED')
      t.equal(await code(gobgp.addPeer(peerConfig('192.0.2.2'))), 'GOBGP_NOT_STARTED')
      await gobgp.start(ownGlobal)
      t.same(await gobgp.global(), ownGlobal)
      t.equal(await code(gobgp.start(ownGlobal)), 'GOBGP_PORT_TAKEN', 'by itself')
      t.same(await gobgp.global(), ownGlobal)
      await gobgp.addPeer(peerConfig('192.0.2.2'))
      await gobgp.addPaths([{ prefix: '10.1.1.0/24', nextHop: '0.0.0.0' }])
      t.same(prefixesOf(await gobgp.localPaths()), ['10.1.1.0/24'])
      await gobgp.stop()
      t.equal(await gobgp.global(), undefined)
      t.same(await gobgp.peers(), [])
      await gobgp.start({ ...ownGlobal, useMultiplePaths: true })
      t.same(await gobgp.global(), { ...ownGlobal, useMultiplePaths: true })
      t.same(await gobgp.localPaths(), [])
    }),
  )

  void t.test('refuses what the daemon would die of or cut short', t =>
    withBench(t, async ({ gobgp }) => {
      for (const wrong of [
        { asn: 0 },
        { asn: 2 ** 32 },
        { routerId: '0.0.0.0' },
        { routerId: 'fd00::1' },
        { listenPort: 0 },
        { listenAddresses: ['h1'] },
      ])
        t.equal(await code(gobgp.start({ ...ownGlobal, ...wrong })), 'GOBGP_REFUSED', JSON.stringify(wrong))
      await gobgp.start(ownGlobal)
      const restart = { restartTime: 20, restarting: false }
      for (const wrong of [
        { address: 'bogus' },
        { address: '192.0.2.300' },
        { asn: 0 },
        { asn: 2 ** 32 },
        { families: [] },
        { localAddress: '2001:db8::1' },
        { password: 'x'.repeat(81) },
        { reflectorClient: { clusterId: '1' } },
        { multihopTtl: 3, ttlSecurity: 255 },
        { holdTime: 2 },
        { keepalive: 10 },
        { maxPrefixes: 0 },
        { remotePort: 70_000 },
        { gracefulRestart: { ...restart, restartTime: 4096 } },
        { gracefulRestart: { ...restart, longLived: 2 ** 24 } },
      ])
        t.equal(
          await code(gobgp.addPeer({ ...peerConfig('192.0.2.2'), ...wrong })),
          'GOBGP_REFUSED',
          JSON.stringify(wrong),
        )
      t.same(await gobgp.peers(), [])
      t.same(
        (
          await gobgp.addPaths([
            { prefix: '10.1.1.1/24', nextHop: '0.0.0.0' },
            { prefix: '10.1.2.0/24', nextHop: '0.0.0.0' },
            { prefix: '10.1.3.0/33', nextHop: '0.0.0.0' },
          ])
        ).map(error => error?.code),
        ['GOBGP_REFUSED', undefined, 'GOBGP_REFUSED'],
      )
      t.same(prefixesOf(await gobgp.localPaths()), ['10.1.2.0/24'])
    }),
  )

  void t.test('a peer is listed as it was added, and changed when something differs', t =>
    withBench(t, async ({ gobgp }) => {
      await gobgp.start(ownGlobal)
      const wanted: readonly BgpPeerConfig[] = [
        peerConfig('192.0.2.2'),
        peerConfig('192.0.2.3', {
          asn: 4_200_000_001,
          localAsn: 64_999,
          localAddress: '192.0.2.1',
          password: 'sëcret',
          description: 'ToR 1',
          families: ['inet'],
          passive: true,
          multihopTtl: 3,
          maxPrefixes: 1000,
          remotePort: 1179,
          connectRetry: 7,
        }),
        peerConfig('192.0.2.4', {
          reflectorClient: { clusterId: '10.0.0.9' },
          ttlSecurity: 255,
          gracefulRestart: {
            restartTime: 4095,
            restarting: true,
            deferral: 30,
            longLived: 86_400,
            notification: true,
          },
        }),
        peerConfig('2001:db8::2', { families: ['inet6'] }),
      ]
      for (const config of wanted) await gobgp.addPeer(config)
      const listed = await gobgp.peers()
      t.equal(listed.length, wanted.length)
      for (const config of wanted) {
        const peer = listed.find(({ config: { address } }) => address === config.address)!
        t.same(peerDifferences(peer.config, config, ownGlobal.asn), [], config.address)
        t.equal(peer.state.localRestarting, config.gracefulRestart?.restarting ?? false)
        t.equal(peer.state.admin, 'up')
        t.equal(await gobgp.updatePeer(config), false, `${config.address}: nothing to change`)
      }
      t.equal(await code(gobgp.addPeer(wanted[0]!)), 'GOBGP_EXISTS')
      t.equal(await code(gobgp.updatePeer(peerConfig('192.0.2.9'))), 'GOBGP_NOT_FOUND')
      t.equal(await code(gobgp.deletePeer('192.0.2.9')), 'GOBGP_NOT_FOUND')
      t.equal(await code(gobgp.softReset('192.0.2.9', 'both')), 'GOBGP_NOT_FOUND')
      t.equal(await code(gobgp.paths('adj-in', 'inet', { neighbor: '192.0.2.9' })), 'GOBGP_NOT_FOUND')
      const changes: readonly Partial<BgpPeerConfig>[] = [
        { password: 'other' },
        { reflectorClient: { clusterId: '10.0.0.8' } },
        { ttlSecurity: 254 },
        { families: ['inet'] },
        { holdTime: 30, keepalive: 10 },
        { maxPrefixes: 5 },
        { gracefulRestart: { restartTime: 30, restarting: false } },
      ]
      for (const change of changes) {
        const config = { ...peerConfig('192.0.2.2'), ...change }
        t.equal(await gobgp.updatePeer(config), true, JSON.stringify(change))
        const [peer] = await gobgp.peers({ address: '192.0.2.2' })
        t.ok(samePeerConfig(peer!.config, config, ownGlobal.asn), JSON.stringify(change))
      }
      await gobgp.deletePeer('192.0.2.2')
      t.same((await gobgp.peers()).map(({ config: { address } }) => address).sort(), [
        '192.0.2.3',
        '192.0.2.4',
        '2001:db8::2',
      ])
    }),
  )

  void t.test('our own paths: many at once, replaced, taken back', t =>
    withBench(t, async ({ gobgp }) => {
      await gobgp.start(ownGlobal)
      const many = Array.from({ length: 2000 }, (_, i) => ({
        prefix: `10.${i >> 8}.${i & 255}.0/24`,
        nextHop: '0.0.0.0',
      }))
      const answers = await gobgp.addPaths([...many, { prefix: '2001:db8:1::/48', nextHop: '::' }])
      t.equal(answers.length, 2001)
      t.ok(answers.every(answer => answer === undefined))
      t.equal((await gobgp.localPaths()).length, 2001)
      const rich: BgpLocalPath = {
        prefix: '10.1.2.0/24',
        nextHop: '192.0.2.77',
        localPref: 200,
        med: 7,
        origin: 'incomplete',
        communities: [(64512 << 16) >>> 0, 0xffffff01],
      }
      await gobgp.addPaths([rich])
      const found = (await gobgp.localPaths()).filter(({ prefix }) => prefix === '10.1.2.0/24')
      t.equal(found.length, 1, 'replaced, not added')
      t.match(found[0], rich)
      const [v6] = await gobgp.paths('global', 'inet6')
      t.match(v6, { prefix: '2001:db8:1::/48', nextHop: '::', best: true, withdrawn: false, stale: false })
      t.equal(v6?.neighbor, undefined)
      t.same(prefixesOf(await gobgp.paths('global', 'inet', { prefixes: ['10.1.2.0/24', '10.99.0.0/24'] })), [
        '10.1.2.0/24',
      ])
      const gone = await gobgp.deletePaths([...many.map(({ prefix }) => prefix), '10.99.0.0/24'])
      t.ok(
        gone.every(answer => answer === undefined),
        'one that is not there is no error',
      )
      t.same(prefixesOf(await gobgp.localPaths()), ['2001:db8:1::/48'])
      await gobgp.deletePaths(['2001:db8:1::/48'])
      t.same(await gobgp.localPaths(), [])
    }),
  )

  void t.test('a session: what came before it, the guard, the loss, the return', { timeout: 120_000 }, t =>
    withBench(t, async bench => {
      const { gobgp } = bench
      await gobgp.start(ownGlobal)
      const remote = await bench.remote()
      const { address } = remote
      const guard = (...ranges: readonly [string, number, number][]) =>
        gobgp.setPolicies([
          {
            neighbor: address,
            import: ranges.map(([prefix, min, max]) => ({ prefix, min, max })),
            export: 'any',
          },
        ])
      t.ok((await guard(['10.0.0.0/8', 24, 24], ['10.1.0.0/16', 26, 28])).writes > 0)
      t.same(await guard(['10.1.0.0/16', 26, 28], ['10.0.0.0/8', 24, 24]), {
        writes: 0,
        reset: [],
        narrowed: [],
      })
      await gobgp.addPaths([{ prefix: '10.9.1.0/24', nextHop: '0.0.0.0' }])
      const early = record(gobgp, 'adj-in')
      const best = record(gobgp, 'best')
      const after = record(gobgp, 'post-policy')
      await until(() => early.lines.includes('told') || undefined, 5000, 'the watch')
      await gobgp.addPeer(peerConfig(address, { localAddress: '192.0.2.1' }))
      await remote.connect([
        { prefix: '10.1.2.0/24', nextHop: '0.0.0.0' },
        { prefix: '10.1.3.0/27', nextHop: '0.0.0.0' },
        { prefix: '10.2.0.0/16', nextHop: '0.0.0.0' },
        { prefix: '0.0.0.0/0', nextHop: '0.0.0.0' },
        { prefix: '2001:db8:2::/48', nextHop: '::' },
      ])
      const peer = async () => (await gobgp.peers({ address }))[0]!
      const state = await until(
        async () => {
          const { state } = await peer()
          return state.endOfRib.length === 2 ? state : undefined
        },
        10_000,
        'End-of-RIB of both families',
      )
      t.equal(state.session, 'established')
      t.equal(state.restartTime, 20)
      t.same(state.families, ['inet', 'inet6'])
      t.match(state.counts, { inet: { received: 4 }, inet6: { received: 1 } })
      t.ok(Math.abs((state.since ?? 0) - Date.now() / 1000) < 60)
      await until(
        async () => ((await remote.got()).includes('10.9.1.0/24') ? true : undefined),
        5000,
        'our path',
      )

      const accepted = ['10.1.2.0/24', '10.1.3.0/27']
      t.same(prefixesOf(await gobgp.paths('adj-in', 'inet', { neighbor: address })), [
        '0.0.0.0/0',
        ...accepted,
        '10.2.0.0/16',
      ])
      const global = await gobgp.paths('global', 'inet')
      t.same(prefixesOf(global), [...accepted, '10.9.1.0/24'])
      t.match(
        global.find(({ prefix }) => prefix === '10.1.2.0/24'),
        {
          neighbor: address,
          nextHop: address,
          localPref: 100,
          origin: 'igp',
          asPath: [],
          best: true,
          peerAsn: 64512,
        },
      )
      t.same(await gobgp.paths('global', 'inet6'), [])
      await until(
        () => after.lines.includes('-2001:db8:2::/48 192.0.2.2') || undefined,
        5000,
        'the refused one',
      )
      const at = early.lines.indexOf(`${address} established`)
      t.ok(at > early.lines.indexOf(`${address} idle`))
      t.ok(early.lines.slice(at).includes('+0.0.0.0/0 192.0.2.2'), 'adj-in has what is refused')
      t.ok(after.lines.includes('-0.0.0.0/0 192.0.2.2'), 'post-policy tells it as withdrawn')
      t.notOk(best.lines.some(line => line.includes('0.0.0.0/0')))
      for (const prefix of accepted) t.ok(best.lines.includes(`+${prefix} ${address}`), prefix)

      // A watch that begins now is told what stands.
      for (const [filter, expected] of [
        ['adj-in', ['+0.0.0.0/0', '+10.1.2.0/24', '+10.1.3.0/27', '+10.2.0.0/16', '+2001:db8:2::/48']],
        ['post-policy', ['+10.1.2.0/24', '+10.1.3.0/27', '+10.9.1.0/24']],
        ['best', ['+10.1.2.0/24', '+10.1.3.0/27', '+10.9.1.0/24']],
      ] as const) {
        const late = record(gobgp, filter)
        await until(() => late.lines.length >= expected.length + 2 || undefined, 5000, filter)
        t.equal(late.lines[0], `${address} established`)
        t.equal(late.lines[1], 'told')
        t.same(
          late.lines
            .slice(2)
            .map(line => line.split(' ')[0])
            .sort(),
          expected,
          filter,
        )
        t.equal(await late.stop(), 'ended')
      }

      best.lines.length = 0
      t.same((await guard(['10.0.0.0/8', 16, 24])).reset, [address])
      await until(() => best.lines.length >= 2 || undefined, 5000, 'the new guard')
      t.same(best.lines.sort(), [`+10.2.0.0/16 ${address}`, `-10.1.3.0/27 ${address}`])

      const within = [{ prefix: '10.0.0.0/8', min: 16, max: 24 }]
      const farther = (med?: number) =>
        gobgp.setPolicies([
          { neighbor: address, import: within, export: 'any', ...(med === undefined ? {} : { med }) },
        ])
      const medOf = async (table: 'global' | 'adj-in') =>
        (await gobgp.paths(table, 'inet', table === 'global' ? {} : { neighbor: address })).find(
          ({ prefix }) => prefix === '10.2.0.0/16',
        )?.med ?? 0
      for (const med of [7, 9, undefined]) {
        t.same((await farther(med)).reset, [address], `MED + ${med}`)
        t.equal((await farther(med)).writes, 0)
        await until(
          async () => (await medOf('global')) === (med ?? 0) || undefined,
          5000,
          `MED + ${med} in the table`,
        )
        t.equal(await medOf('adj-in'), 0, 'as it was sent')
      }

      early.lines.length = best.lines.length = 0
      await remote.withdraw(['10.1.2.0/24'])
      await until(
        () => (early.lines.length >= 1 && best.lines.length >= 1) || undefined,
        5000,
        'the withdrawal',
      )
      t.same(early.lines, [`-10.1.2.0/24 ${address}`])
      t.same(best.lines, [`-10.1.2.0/24 ${address}`])

      // It dies: its paths stay, stale, and adj-in says nothing of them.
      early.lines.length = best.lines.length = after.lines.length = 0
      await remote.cut()
      await until(() => early.lines.includes(`${address} idle`) || undefined, 10_000, 'the loss')
      await until(() => after.lines.includes(`${address} idle`) || undefined, 1000, 'the loss')
      t.ok(
        after.lines.indexOf(`${address} idle`) > after.lines.indexOf(`+10.2.0.0/16 ${address} stale`),
        'stale first',
      )
      t.notOk(early.lines.some(line => line.includes('/')))
      t.notOk(best.lines.some(line => line.includes('/')))
      t.same(
        (await gobgp.paths('global', 'inet'))
          .filter(p => p.neighbor !== undefined)
          .map(p => [p.prefix, p.stale]),
        [['10.2.0.0/16', true]],
      )
      t.same((await peer()).state.endOfRib, [])
      t.equal((await peer()).state.restartTime, 20, 'still known')

      // It comes back with less: what is missing goes at its End-of-RIB.
      await remote.connect([{ prefix: '10.3.0.0/16', nextHop: '0.0.0.0' }])
      await until(
        async () => ((await peer()).state.endOfRib.length === 2 ? true : undefined),
        10_000,
        'End-of-RIB',
      )
      t.same(
        (await gobgp.paths('global', 'inet'))
          .filter(p => p.neighbor !== undefined)
          .map(p => [p.prefix, p.stale]),
        [['10.3.0.0/16', false]],
      )

      // It leaves in order: that is not graceful, and paths go before the peer does.
      const gone = (line: string): boolean => line.startsWith('-10.2.0.0/16')
      await until(() => best.lines.includes(`+10.3.0.0/16 ${address}`) || undefined, 5000, 'the new one')
      await until(() => best.lines.some(gone) || undefined, 5000, 'the end of the stale one')
      best.lines.length = 0
      await remote.leave()
      await until(() => best.lines.includes(`${address} idle`) || undefined, 5000, 'the end')
      t.same(best.lines.slice(0, 2), [`-10.3.0.0/16 ${address}`, `${address} idle`])
      for (const watch of [early, best, after]) t.equal(await watch.stop(), 'ended')
    }),
  )

  void t.test('it dies, hangs and comes back empty, and the same client goes on', t =>
    withBench(t, async bench => {
      const { gobgp } = bench
      await gobgp.start(ownGlobal)
      await gobgp.addPeer(peerConfig('192.0.2.2'))
      await gobgp.addPaths([{ prefix: '10.1.1.0/24', nextHop: '0.0.0.0' }])
      const watch = record(gobgp, 'best')
      await until(() => watch.lines.some(line => line.includes('/')) || undefined, 5000, 'the watch')
      bench.hang(true)
      t.equal(await code(bench.hasty.check()), 'GOBGP_TIMEOUT')
      bench.hang(false)
      await bench.hasty.check()
      await bench.kill()
      t.equal(await watch.ended, 'GOBGP_UNREACHABLE')
      t.equal(await code(gobgp.check()), 'GOBGP_UNREACHABLE')
      t.same(
        (await gobgp.addPaths([{ prefix: '10.1.1.0/24', nextHop: '0.0.0.0' }]).catch(error => [error])).map(
          codeOf,
        ),
        ['GOBGP_UNREACHABLE'],
      )
      t.equal(await record(gobgp, 'best').ended, 'GOBGP_UNREACHABLE')
      await bench.start()
      t.equal(await gobgp.global(), undefined)
      await gobgp.start(ownGlobal)
      t.same(await gobgp.peers(), [])
      t.same(await gobgp.localPaths(), [])
      await delay(0)
    }),
  )
}
