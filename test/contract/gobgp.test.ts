// One contract, three speakers: lib/gobgp/fake, Debian's gobgpd (3.10), and GoBGP 3.37 where Go can build it.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { fakeGobgpd } from '../../lib/gobgp/fake.js'
import type { BgpLocalPath, Gobgp } from '../../lib/gobgp/types.js'
import { createSpeakers, type Gobgpd, gobgpdMissing, newerGobgpd } from '../support/gobgp.js'
import { type Bench, gobgpCases, ownGlobal, peerConfig, type Remote } from '../support/gobgp-cases.js'
import { until } from '../support/netns-world.js'

// A session takes GoBGP 3.10 5 to 10 s.
t.setTimeout(300_000)

function fakeBench(endOfRibEvents: boolean): Bench {
  const daemon = fakeGobgpd({ endOfRibEvents })
  const address = '192.0.2.2'
  const send = (paths: readonly BgpLocalPath[]): void =>
    daemon.receive(
      address,
      paths.map(path => ({ ...path, nextHop: address })),
    )
  const remote: Remote = {
    address,
    connect: async paths => {
      daemon.establish(address, { routerId: '10.0.0.2', restartTime: 20 })
      send(paths)
      daemon.endOfRib(address)
    },
    announce: async paths => send(paths),
    withdraw: async prefixes => daemon.withdraw(address, prefixes),
    got: async () => [...daemon.announced(address).keys()],
    cut: async () => daemon.lose(address, true),
    leave: async () => daemon.lose(address, false),
  }
  return {
    gobgp: daemon.client(),
    hasty: daemon.client(),
    remote: async () => remote,
    kill: async () => daemon.kill(),
    start: async () => daemon.start(),
    hang: daemon.hang,
    close: async () => daemon.kill(),
  }
}

async function realBench(binary: string): Promise<Bench> {
  const speakers = createSpeakers(binary)
  const own = await speakers.speaker(1)
  const clients = [own.client(), own.client({ timeoutMs: 500 })] as const
  const remotes: Gobgp[] = []
  return {
    gobgp: clients[0],
    hasty: clients[1],
    remote: async () => {
      const other = await speakers.speaker(2)
      const client = other.client()
      remotes.push(client)
      return realRemote(other, client)
    },
    kill: () => own.kill(),
    start: () => own.start(),
    hang: hanging => own.signal(hanging ? 'SIGSTOP' : 'SIGCONT'),
    close: async () => {
      for (const client of [...clients, ...remotes]) client.close()
      await speakers.close()
    },
  }
}

function realRemote(daemon: Gobgpd, client: Gobgp): Remote {
  let first = true
  return {
    address: daemon.address,
    connect: async paths => {
      const restarting = !first
      if (restarting) await daemon.start()
      first = false
      await client.start({ ...ownGlobal, routerId: '10.0.0.2', listenAddresses: [daemon.address] })
      await client.addPaths(paths)
      await client.addPeer(
        peerConfig('192.0.2.1', {
          localAddress: daemon.address,
          passive: true,
          gracefulRestart: { restartTime: 20, restarting, deferral: 5 },
        }),
      )
      await until(
        async () => ((await client.peers())[0]?.state.session === 'established' ? true : undefined),
        60_000,
        'the session',
      )
    },
    announce: async paths => void (await client.addPaths(paths)),
    withdraw: async prefixes => void (await client.deletePaths(prefixes)),
    got: async () => {
      const paths = await client.paths('adj-in', 'inet', { neighbor: '192.0.2.1' })
      return paths.map(({ prefix }) => prefix)
    },
    cut: () => daemon.kill(),
    leave: async () => {
      await client.deletePeer('192.0.2.1')
      await delay(0)
    },
  }
}

void t.test('fake', async t => gobgpCases(t, async () => fakeBench(false)))
void t.test('fake, End-of-RIB told', async t => gobgpCases(t, async () => fakeBench(true)))

const missing = gobgpdMissing()
void t.test("Debian's gobgpd", { skip: missing ?? false }, async t => {
  gobgpCases(t, () => realBench('gobgpd'))
})

const newer = newerGobgpd()
void t.test('GoBGP 3.37', { skip: 'missing' in newer ? newer.missing : false }, async t => {
  if ('path' in newer) gobgpCases(t, () => realBench(newer.path))
})
