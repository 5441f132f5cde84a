// What one port may use up of what all share: connections held and begun, in the recipe's lab with the limits of the product. Costs
// are CPU time of this process: a frame's whole way through both hosts is part of the call that sends it.
import t from 'tap'
import { defaultLimits } from '../../agent/compute/tenant/fabric-marks.js'
import type { DropKeys } from '../../agent/compute/tenant/port-accounts.js'
import { portDrops } from '../../agent/dataplane/port-drops.js'
import { datagram } from '../support/attacks/flow-attacks.js'
import * as f from '../support/attacks/frames.js'
import { pause } from '../support/attacks/wire.js'
import { createTenantLab } from '../support/tenant-lab.js'
import { arenaOf } from '../support/tenant-lab-arena.js'
import { fabricPort, hosts, linksOf } from '../support/tenant-lab-model.js'
import { loadGuards, loadRules } from '../support/tenant-lab-rules.js'

t.setTimeout(180_000)
const lab = createTenantLab()
t.teardown(() => lab.close())
const arena = arenaOf(lab)
await loadRules(lab)
const payload = Buffer.from('0123456789abcdef')

interface Burst {
  /** Of its datagrams. */
  readonly heard: number
  /** us of CPU for each. */
  readonly us: number
}

/** `count` new flows of UDP from a1, to a2 on the other host unless said otherwise; `first` of 64,000. */
async function burst(
  tenant: 'red' | 'blue',
  first: number,
  count: number,
  to = `${tenant}/a2`,
): Promise<Burst> {
  const from = `${tenant}/a1`
  const wire = arena.wires.get(from)
  const ear = arena.wires.get(to)
  if (wire === undefined || ear === undefined) throw new Error(`no wire of ${from} or ${to}`)
  const frames = Array.from({ length: count }, (_, i) =>
    datagram(arena, { from, to, dport: 8080, sport: 1024 + ((first + i) % 64_000) }, 4, payload),
  )
  ear.heard()
  let heard = 0
  let spent = 0
  const listen = (): void => {
    heard += ear.heard().filter(frame => frame.includes(payload)).length
  }
  for (let at = 0; at < count; at += 500) {
    const before = process.cpuUsage()
    wire.send(...frames.slice(at, at + 500))
    const { user, system } = process.cpuUsage(before)
    spent += user + system
    listen()
  }
  await pause(30)
  listen()
  return { heard, us: spent / count }
}

/** Entries of conntrack with the port as their origin, on a host. */
function held(host: 'h1' | 'h2', zone: number): number {
  return Number(lab.hosts[host].fabric.sh(`conntrack -L -w ${zone} 2>/dev/null | grep -c '^udp' || :`))
}

function forget(): void {
  for (const host of hosts) {
    lab.hosts[host].fabric.sh('conntrack -F 2>/dev/null')
    // Flows of the test's 30 s are not to end while it counts them.
    lab.hosts[host].fabric.sh('sysctl -qw net.netfilter.nf_conntrack_udp_timeout=300')
  }
}

t.test("a tenant's flood: bounded, cheap, and nothing that the other tenant sees", async t => {
  const { connections, begun } = defaultLimits
  forget()
  const cost = new Map<number, number>()
  // The first run of this code is slower than what it sends.
  await burst('blue', 60_000, 300)
  const others: Burst[] = [await burst('blue', 0, 300)]
  const alone = others[0]?.us ?? 0
  let sent = 0
  let passed = 0
  const flood = async (upTo: number): Promise<void> => {
    while (sent < upTo) {
      const count = Math.min(begun / 5, upTo - sent)
      passed += (await burst('red', sent, count)).heard
      sent += count
      await pause(220)
    }
  }
  for (const mark of [0, 8000, 24_000]) {
    await flood(mark)
    const first = passed
    const { us, heard } = await burst('red', sent, 500)
    sent += 500
    passed += heard
    cost.set(first, us)
    others.push(await burst('blue', others.length * 300, 300))
  }
  const [empty = 0, busy = 0, full = 0] = cost.values()
  t.comment(
    [...cost].map(([flows, us]) => `new flow at ${flows} held: ${us.toFixed(1)} us of CPU`).join('; '),
  )
  t.comment(`blue's: ${others.map(({ us }) => us.toFixed(1)).join(', ')} us`)
  t.ok(passed <= connections, `${passed} of ${sent} passed`)
  t.ok(passed > 0.9 * connections, 'and not much less than the limit')
  t.ok(held('h1', 1) <= connections, 'as many are held')
  t.ok(busy < 4 * empty + 20, `at 8,000: ${busy} us, at none ${empty} us`)
  t.ok(full < 4 * empty + 20, `at the limit: ${full} us`)
  for (const { heard, us } of others) {
    t.equal(heard, 300, "all of blue's new flows arrive")
    t.ok(us < 3 * alone + 20, `blue's new flow: ${us} us, before ${alone} us`)
  }
  forget()
  t.equal((await burst('red', 0, 300)).heard, 300, 'when they have ended, others may begin')
})

t.test('of 6,000 flows that no rule lets in not one comes through, whatever its share', async t => {
  forget()
  t.equal((await burst('red', 0, 6000, 'red/a3')).heard, 0, 'a stranger on the same host')
  forget()
  t.equal((await burst('red', 0, 500, 'red/a7')).heard, 500, 'while its neighbour hears all')
})

t.test('new connections at once: as many as the burst, then the rate', async t => {
  const limits = { ...defaultLimits, begun: 200 }
  const guard = {
    table: 'state',
    from: 'counter drop comment "too many connections out"',
    to: 'counter',
  } as const
  const inward = { ...guard, from: 'counter drop comment "too many connections in"' }
  forget()
  await loadGuards(lab, [], ['state'], { limits })
  const { heard } = await burst('red', 0, 2000)
  t.ok(heard >= 400 && heard < 900, `${heard} of 2,000`)
  t.equal((await burst('blue', 0, 300)).heard, 300, 'the other port has an account of its own')
  await pause(1100)
  const later = (await burst('red', 2000, 150)).heard
  t.equal(later, 150, 'a second later 200 may begin again')
  await loadGuards(lab, [guard, inward], ['state'], { limits })
  t.equal((await burst('red', 4000, 2000)).heard, 2000, 'without the guard all pass')
  await loadGuards(lab, [], ['state'])
  forget()
})

t.test('what is dropped of a port is counted by reason, for that port alone', async t => {
  const { netns } = lab.hosts.h1.fabric
  const keysOf = (ref: string): DropKeys => {
    const port = fabricPort(ref)
    return { link: port.link, bridge: linksOf(port.network).bridge, macs: [port.mac] }
  }
  const drops = async (ref: string): Promise<Readonly<Record<string, number>>> =>
    Object.fromEntries((await portDrops(netns, keysOf(ref))).map(({ reason, packets }) => [reason, packets]))
  // Elements that the floods left go with their tables.
  for (const family of ['bridge', 'inet'] as const) await lab.hosts.h1.nft.fabric.remove(family, 'warren')
  await loadRules(lab)
  t.same(await drops('red/a7'), {}, 'nothing was: no element')
  const me = arena.at('red/a7')
  const other = arena.at('red/a1')
  const wire = arena.wires.get('red/a7')
  if (wire === undefined) throw new Error('no wire of red/a7')
  const ask = f.arp({
    operation: 'request',
    senderMac: me.mac,
    sender: other.ip,
    targetMac: '00:00:00:00:00:00',
    target: '10.0.1.1',
  })
  const spoofed = datagram(
    arena,
    { from: 'red/a7', to: 'red/a2', dport: 8080, as: { ip: other.ip } },
    4,
    payload,
  )
  const ends = { src: me.linkLocal, dst: 'ff02::1' }
  const advert = f.neighborAdvert(ends, other.ip6, me.mac)
  const na = f.ethernet(
    { src: me.mac, dst: f.groupMac('ff02::1') },
    f.etherType.ip6,
    f.ip6(ends, f.protocol.icmp6, advert),
  )
  const stray = { src: me.ip, dst: arena.at('red/a2').ip, sport: 4600, dport: 8080 }
  const segment = f.tcp(stray, { flags: f.tcpFlag.syn | f.tcpFlag.ack, seq: 1, ack: 1 }, payload)
  const ofNoFlow = f.ethernet(
    { src: me.mac, dst: arena.at('red/a2').mac },
    f.etherType.ip,
    f.ip(stray, f.protocol.tcp, segment),
  )
  const rows: readonly (readonly [number, f.Bytes])[] = [
    [3, f.ethernet({ src: me.mac, dst: f.broadcast }, f.etherType.arp, ask)],
    [4, spoofed],
    [5, na],
    [6, f.ethernet({ src: me.mac, dst: other.mac }, 0x88b5, payload)],
    [2, ofNoFlow],
    // a7's group lets all out; a3's group lets nothing in.
    [7, datagram(arena, { from: 'red/a7', to: 'red/a3', dport: 9999 }, 4, payload)],
  ]
  for (const [times, frame] of rows) for (let i = 0; i < times; i += 1) wire.send(frame)
  const lone = datagram(arena, { from: 'red/a6', to: 'red/a3', dport: 9999 }, 4, payload)
  for (let i = 0; i < 8; i += 1) arena.wires.get('red/a6')?.send(lone)
  t.same(await drops('red/a7'), { arp: 3, address: 4, nd: 5, type: 6, state: 2 })
  t.same(await drops('red/a3'), { rulesIn: 7 })
  t.same(await drops('red/a6'), { rulesOut: 8 })
  t.same(await drops('red/a1'), {}, 'nothing of who was pretended to be')
  t.same(await drops('blue/a7'), {}, 'nor of the other tenant, with the same MAC')
})
