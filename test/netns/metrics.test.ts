// Metrics of real agents on real namespaces: what a scrape says after a join, a repair and a dropped packet; that nothing but
// /metrics is there; that an endpoint which cannot be opened ends nobody.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { familyGroups } from '../../agent/metrics/families.js'
import { childArgv } from '../../lib/netns/child.js'
import { dropCounters } from '../../lib/nftables/drop-counters.js'
import { buildPrograms, createNetwork, type Host, killAgents, startAgent } from '../support/agents.js'
import { parseExposition } from '../support/exposition.js'
import { createWorld, until } from '../support/netns-world.js'

t.setTimeout(120_000)
const dir = mkdtempSync(join(tmpdir(), 'wt-metrics-'))
t.teardown(() => {
  killAgents()
  rmSync(dir, { recursive: true, force: true })
})

interface Reply {
  readonly status: number
  readonly type: string
  readonly text: string
}

/** curl inside the host; `where` is its arguments. */
function ask(host: Host, ...where: readonly string[]): Reply {
  const [program, ...args] = childArgv(host.netns, [
    'curl',
    ...['-s', '-m', '10', '-w', '\n%{http_code} %{content_type}'],
    ...where,
  ])
  const { stdout } = spawnSync(program, args, { encoding: 'utf8' })
  const end = stdout.lastIndexOf('\n')
  const [status = '0', ...type] = stdout.slice(end + 1).split(' ')
  return { status: Number(status), type: type.join(' '), text: stdout.slice(0, end) }
}

const socketOf = (host: Host): string => join(host.dir, 'metrics.sock')

function scrape(host: Host) {
  const { status, type, text } = ask(host, '--unix-socket', socketOf(host), 'http://warren/metrics')
  if (status !== 200) throw new Error(`HTTP ${status}: ${text}`)
  return { type, text, families: parseExposition(text) }
}

/** One sample; undefined: there is none. */
function value(host: Host, sample: string): number | undefined {
  const name = sample.replace(/\{.*/, '')
  const { families } = scrape(host)
  const family = families.get(name) ?? families.get(name.replace(/_(bucket|sum|count)$/, ''))
  return family?.samples.get(sample)
}

/** Waits for a sample that is as wanted: a scrape of a moment ago may be given again. */
function sampled(
  host: Host,
  sample: string,
  wanted: (value: number | undefined) => boolean,
): Promise<number> {
  let last: number | undefined
  return until(
    () => {
      last = value(host, sample)
      return wanted(last) ? (last ?? 0) : undefined
    },
    15_000,
    () => `${sample}, last ${last}`,
  )
}

t.test('metrics of two hosts', async t => {
  const programs = await buildPrograms()
  const network = createNetwork(dir, 'n', 2)
  t.teardown(() => {
    killAgents()
    network.close()
    programs.remove()
  })
  network.writeCluster('{ podCIDRs: [10.244.0.0/16], serviceCIDRs: [10.96.0.0/16] }')
  const [h1, h2] = network.hosts as [Host, Host]
  h1.configure({ metrics: '{ address: "127.0.0.1:9487" }' })
  // Not an address of that host: it is told, and the rest runs.
  h2.configure({ metrics: '{ address: "192.0.2.99:9487" }' })
  const agents = [startAgent(programs, h1), startAgent(programs, h2)] as const
  for (const agent of agents) await agent.converged(1)
  await until(() => (value(h1, 'warren_ready') === 1 ? true : undefined), 10_000, 'h1 is ready')

  const { text, type, families } = scrape(h1)
  if (process.env['WARREN_SHOW_METRICS'] !== undefined) process.stderr.write(text)
  t.equal(type, 'text/plain; version=0.0.4; charset=utf-8')
  const wanted = familyGroups.flatMap(group => group.families)
  t.same(
    [...families.keys()],
    wanted.map(({ name }) => name),
    'every family, in order',
  )
  for (const { name, type: kind } of wanted) t.equal(families.get(name)?.type, kind, name)
  t.ok(text.split('\n').length < 500, 'a scrape is small')
  t.equal(statSync(socketOf(h1)).mode & 0o777, 0o660)

  await sampled(h1, 'warren_converged', found => found === 1)
  await sampled(h1, 'warren_store_lag_seconds', found => found === 0)
  t.equal(value(h1, 'warren_peers{state="up"}'), 1)
  t.equal(value(h1, 'warren_source_in_sync{source="store"}'), 1)
  t.equal(value(h1, 'warren_lease_held{family="ipv4"}'), 1)
  t.equal(value(h1, 'warren_lease_held{family="ipv6"}'), undefined, 'no IPv6 in podCIDRs')
  t.equal(value(h1, 'warren_blocks_leased{family="ipv4"}'), 2)
  t.equal(value(h1, 'warren_blocks{family="ipv4"}'), 256)
  t.equal(value(h1, 'warren_objects{kind="node"}'), 2)
  t.equal(value(h1, 'warren_table_objects{table="route"}'), 1)
  t.equal(value(h1, 'warren_bgp_speaker_up'), undefined, 'BGP is not spoken')
  t.equal(value(h1, 'warren_tenant_networks'), undefined, 'there are no tenants')
  t.ok((value(h1, 'warren_pass_duration_seconds_count') ?? 0) >= 1)
  t.ok((value(h1, 'warren_store_to_kernel_duration_seconds_count') ?? 0) >= 1, 'the join was measured')
  t.ok((value(h1, 'process_resident_memory_bytes') ?? 0) > 20e6)
  const now = Date.now() / 1000
  const good = value(h1, 'warren_pass_last_success_timestamp_seconds') ?? 0
  t.ok(good > now - 60 && good <= now + 1, 'a date of now')
  const saved = await sampled(h1, 'warren_snapshot_saved_timestamp_seconds', found => found !== undefined)
  t.ok(saved > now - 60)

  t.test('by TCP, and nothing else is there', async t => {
    const url = 'http://127.0.0.1:9487'
    t.equal(ask(h1, `${url}/metrics`).status, 200)
    t.same(
      [...parseExposition(ask(h1, `${url}/metrics`).text).keys()],
      wanted.map(({ name }) => name),
    )
    t.equal(ask(h1, `${url}/v1/status`).status, 404, 'the control API is not')
    t.equal(ask(h1, '-X', 'POST', '-d', 'x', `${url}/metrics`).status, 405)
    t.equal(ask(h1, `http://192.0.2.11:9487/metrics`).status, 0, 'on no other address')
    const head = ask(h1, '-I', `${url}/metrics`)
    t.match(head.text, /content-length: \d{4,}/i)
    t.match(agents[1].log(), /metrics are not served.*192\.0\.2\.99:9487.*EADDRNOTAVAIL/)
    t.equal(value(h2, 'warren_ready'), 1, 'its socket is there all the same')
  })

  t.test('a repair is counted with its author', async t => {
    h1.sh('ip link del wrn-ovl')
    await sampled(h1, 'warren_operations_by_cause_total{cause="drift"}', found => (found ?? 0) > 0)
    const all = scrape(h1).families.get('warren_repairs_total')
    const names = [...(all?.samples.keys() ?? [])]
    t.ok(names.length > 0)
    for (const name of names) t.match(name, /author="(ip|unknown|kernel)"/)
    t.equal(
      [...(all?.samples.values() ?? [])].reduce((sum, one) => sum + one, 0),
      value(h1, 'warren_repair_duration_seconds_count'),
    )
    await sampled(h1, 'warren_converged', found => found === 1)
  })

  t.test('what the guard drops is counted by its reason, and only grows', async t => {
    const sample = 'warren_dropped_packets_total{scope="host",reason="VXLAN from no member"}'
    const before = await sampled(h1, sample, found => found !== undefined)
    // VNI 1 from an address that is no member's: 8 bytes of header, I flag set (RFC 7348 §5).
    h2.sh(`ip addr add 192.0.2.77/24 dev eth0
printf '\\010\\000\\000\\000\\000\\000\\001\\000xxxxxxxxxxxxxxxxxxxx' | socat -u - UDP4-SENDTO:192.0.2.11:4789,bind=192.0.2.77`)
    const after = await sampled(h1, sample, found => found === before + 1)
    const rules = await dropCounters(h1.netns, [{ family: 'inet', name: 'warren' }])
    t.equal(rules.find(({ chain }) => chain === 'members')?.packets, after, 'as the kernel counts')
    t.same(await dropCounters(h1.netns, [{ family: 'inet', name: 'nobody' }]), [])
    h1.sh('nft delete table inet warren')
    await until(
      () => (h1.attempt('nft list chain inet warren members') === undefined ? undefined : true),
      10_000,
      'the table is back',
    )
    t.equal(await sampled(h1, sample, found => found !== undefined), after, 'a new table takes nothing back')
  })

  t.test('who asks in a loop is given what is there', async t => {
    const passes = value(h1, 'process_cpu_seconds_total') ?? 0
    const url = 'http://127.0.0.1:9487/metrics'
    const args = Array.from({ length: 200 }, () => ['-o', '/dev/null', url]).flat()
    t.equal(ask(h1, ...args).status, 200)
    const used = (value(h1, 'process_cpu_seconds_total') ?? 0) - passes
    t.comment(`200 scrapes in a row: ${Math.round(used * 1000)} ms of CPU`)
    t.ok(used < 2)
  })
})

t.test('rules that drop: comments, chains and rules without', async t => {
  const world = createWorld('ip link set lo up')
  t.teardown(() => world.close())
  const file = join(dir, 'rules.nft')
  writeFileSync(
    file,
    `table inet one {
  chain b { }
  chain a {
  type filter hook input priority 0;
  udp dport 7001 counter drop comment "first reason"
  udp dport 7002 counter drop
  udp dport 7003 counter accept
  udp dport 7004 drop
  udp dport 7005 counter jump b
  }
}
table bridge two {
  chain a { counter drop comment "bridged"; }
}
`,
  )
  world.sh(
    `nft -f ${file}; for p in 7001 7001 7002 7003; do echo x | socat -u - UDP4-SENDTO:127.0.0.1:$p; done`,
  )
  const all = await dropCounters(world.netns)
  t.same(
    all.map(({ family, table, chain, comment, packets }) => ({ family, table, chain, comment, packets })),
    [
      { family: 'inet', table: 'one', chain: 'a', comment: 'first reason', packets: 2 },
      { family: 'inet', table: 'one', chain: 'a', comment: undefined, packets: 1 },
      { family: 'bridge', table: 'two', chain: 'a', comment: 'bridged', packets: 0 },
    ],
  )
  t.equal((await dropCounters(world.netns, [{ family: 'inet', name: 'one' }])).length, 2)
  t.same(await dropCounters(world.netns, [{ family: 'ip', name: 'one' }]), [], 'of another family')
})
