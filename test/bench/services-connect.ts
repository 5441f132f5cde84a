// The first packet: how long connect() takes to the last of N Services, against the only one. One namespace for each N with
// the rules of all N in it, all cabled to one server that has every endpoint's address; turns of a few connects each.
//
//   s0 | s1 | s2 ... (rules; connect() from here)  --veth--  srv: 10.128.0.0/9 is local, listens on 8080
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createCompute } from '../../agent/compute/compute.js'
import { orderedStages } from '../../agent/dataplane/order.js'
import type { TableName } from '../../agent/model/desired.js'
import type { Self } from '../../agent/model/self.js'
import { type Netns, openNetns } from '../../lib/netns/netns.js'
import { names, runLoop, self } from './cold.js'
import { connects, sockaddr } from './connects.js'
import { ip, type Place } from './place.js'
import { median, percentile, type Row, row } from './row.js'
import { openKernel } from './services-cold.js'
import { clusterIp, port, serviceSnapshot, targetPort } from './services-fleet.js'

export type Mode = NonNullable<Self['proxyMode']>

const serverText = `
  const server = require('node:net').createServer(socket => socket.on('error', () => {}).destroy())
  server.listen({ port: ${targetPort}, host: '0.0.0.0', backlog: 4096 }, () => process.stdout.write('.'))`

/** A server on every endpoint's address, in that namespace. */
export async function startServer(place: Place, what: string): Promise<ChildProcess> {
  await ip(['route add local 10.128.0.0/9 dev lo'], place.ns(what))
  const server = spawn('nsenter', [`--net=${place.path(what)}`, process.execPath, '-e', serverText], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  place.onEnd(() => void server.kill('SIGKILL'))
  await once(server.stdout, 'data')
  return server
}

/** Cables namespace `what`, the i-th, to the server. */
async function cable(place: Place, what: string, i: number): Promise<void> {
  const [near, far] = [`198.19.${i}.1`, `198.19.${i}.2`]
  await ip([`link add up0 type veth peer name ${what} netns ${place.ns('srv')}`], place.ns(what))
  await ip([`address add ${far}/24 dev ${what}`, `link set ${what} up`], place.ns('srv'))
  const lines = [`address add ${near}/24 dev up0`, 'link set up0 up', `route add default via ${far}`]
  await ip(lines, place.ns(what))
}

/** Programs `services` Services with one endpoint each there, by the agent's tables of `mode`. */
export async function program(path: string, mode: Mode, services: number): Promise<void> {
  const kernel = openKernel(path)
  const desired = createCompute()(serviceSnapshot({ services, endpoints: 1 }), { ...self, proxyMode: mode })
  const all = orderedStages({
    kernel,
    names,
    node: 'h1',
    stateDir: '/nonexistent',
    subnetFile: 'none',
    desired: () => desired,
  })
  const others: readonly TableName[] = [
    'sysctl',
    'link',
    'link-sysctl',
    'address',
    'jump',
    'route',
    'file',
    'record',
  ]
  const loop = runLoop(all.filter(stage => !others.includes(stage.name)))
  const report = await loop.pass(desired)
  await loop.stop()
  kernel.close()
  if (report.failed > 0 || report.ops < services)
    throw new Error(`${mode}: ${report.failed} of ${report.ops} entries failed`)
}

/** `counts`: the first one is what the others are compared with; `goal` of the last one's median. */
export async function serviceConnectRows(
  place: Place,
  mode: Mode,
  counts: readonly number[],
  rounds: number,
  goal: number,
): Promise<Row[]> {
  const turn = 40
  const spaces = counts.map((_, i) => `s${i}`)
  await place.makeBare('srv', ...spaces)
  const server = await startServer(place, 'srv')
  const targets: { readonly netns: Netns; readonly to: Buffer; readonly times: number[] }[] = []
  const direct: number[] = []
  for (const [i, count] of counts.entries()) {
    const what = spaces[i] ?? ''
    await cable(place, what, i)
    await program(place.path(what), mode, count)
    const netns = openNetns({ path: place.path(what) })
    targets.push({ netns, to: sockaddr(clusterIp(count - 1), port), times: [] })
  }
  const [only] = targets
  for (let round = -2; round < rounds; round += 1) {
    // Each begins as often as any other.
    const order = targets
      .map((_, i) => targets[(i + round + 2) % targets.length])
      .filter(each => each !== undefined)
    for (const { netns, to, times } of order) {
      const found = connects(netns, to, turn)
      // The first of a turn finds cold caches that the turn before left.
      if (round >= 0) times.push(...found.slice(5))
    }
    const plain = only === undefined ? [] : connects(only.netns, sockaddr('10.128.0.0', targetPort), turn)
    if (round >= 0) direct.push(...plain.slice(5))
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  for (const { netns } of targets) netns.close()
  server.kill('SIGKILL')
  await place.removeBare(...spaces, 'srv')
  const against = (p: number) => ({ name: 'the only Service', value: percentile(only?.times ?? [], p) })
  const name = mode === 'nftables' ? 'services-connect' : `services-connect-${mode}`
  return targets.flatMap(({ times }, i) => [
    row(`${name}-${counts[i]}-p50`, median(times), 'us', {
      ...(i === 0 ? { against: { name: 'direct', value: median(direct) } } : { against: against(50) }),
      ...(i > 0 && i === targets.length - 1 ? { goal: { atMost: goal } } : {}),
      note: `connect() to the last of ${counts[i]?.toLocaleString('en')}, ${times.length} of them`,
    }),
    row(`${name}-${counts[i]}-p99`, percentile(times, 99), 'us', i === 0 ? {} : { against: against(99) }),
  ])
}
