// Entry of `npm run bench -- overlay`, `-- services`, `-- tenants` and `-- bgp`: runs the sections one after the other, prints the rows as they come.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus, loadavg, release, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { bgpScaleRows } from './bgp-fleet.js'
import { bgpRibRows } from './bgp-rib.js'
import { type ChildMain, childMain } from './child.js'
import { coldRows } from './cold.js'
import { faultRows } from './faults.js'
import { joinRows } from './join.js'
import { labRows } from './lab.js'
import { largeRows } from './large.js'
import { makePlace, type Place } from './place.js'
import { sessionPlot } from './plot.js'
import { raceRows } from './races.js'
import { repairRows } from './repair.js'
import { formatRows, type Row } from './row.js'
import { serviceApplyRows } from './services-apply.js'
import { coldChild, serviceColdRows } from './services-cold.js'
import { serviceConnectRows } from './services-connect.js'
import { iptablesBench, serviceIptablesRows } from './services-iptables.js'
import { kubeProxyProgram, kubeProxyRows } from './services-kube-proxy.js'
import { serviceFileRows, serviceLiveRows } from './services-live.js'
import { proxyChild, proxyRows } from './services-proxy.js'
import { serviceStreamRows } from './services-stream.js'
import { tenantColdRows, tenantStreamRows } from './tenants.js'
import { tenantPortRows } from './tenants-live.js'
import { tenantPathRows } from './tenants-path.js'
import { tenantRemoteRows } from './tenants-remote.js'

type Section = (place: Place, quick: boolean) => Promise<Row[]>

const nodes = 5_000

type Sections = Readonly<Record<string, Section>>

const overlay: Sections = {
  cold: (place, quick) => coldRows(place, nodes, quick ? 3 : 9),
  large: (place, quick) => largeRows(place, { nodes, joins: quick ? 30 : 150, idleSeconds: quick ? 5 : 65 }),
  lab: (place, quick) => labRows(place, quick ? 5 : 30),
  'join-etcd': (place, quick) => joinRows(place, 'etcd', quick ? 3 : 5),
  'join-file': (place, quick) => joinRows(place, 'file', quick ? 3 : 5),
  repair: (place, quick) => repairRows(place, quick ? 5 : 25),
  faults: (place, quick) => faultRows(place, quick ? 3 : 5),
  races: place => raceRows(place, 100),
}

const coldSizes = [
  { services: 44_125, endpoints: 1 },
  { services: 10_000, endpoints: 10 },
  { services: 5_000, endpoints: 50 },
]

const services: Sections = {
  cold: (place, quick) => serviceColdRows(place, coldSizes, quick ? 1 : 2, quick ? 2 : 3),
  // The same at a tenth: what a change costs should not depend on it.
  'live-1000x10': (place, quick) =>
    serviceLiveRows(place, {
      ...{ size: { services: 1_000, endpoints: 10 }, isolated: quick ? 50 : 150, burst: quick ? 100 : 300 },
      ...{ storm: quick ? 300 : 1_000, more: quick ? 1_000 : 10_000, restarts: 0 },
    }),
  'live-10000x2': (place, quick) =>
    serviceLiveRows(place, {
      ...{ size: { services: 10_000, endpoints: 2 }, isolated: quick ? 50 : 300, burst: quick ? 100 : 600 },
      ...{ storm: quick ? 300 : 1_000, more: quick ? 1_000 : 10_000, restarts: 0 },
    }),
  'live-10000x10': (place, quick) =>
    serviceLiveRows(place, {
      ...{ size: { services: 10_000, endpoints: 10 }, isolated: quick ? 50 : 300, burst: quick ? 100 : 600 },
      ...{ storm: quick ? 300 : 1_000, more: quick ? 1_000 : 10_000, restarts: quick ? 1 : 3 },
    }),
  file: (place, quick) =>
    serviceFileRows(place, { services: 10_000, endpoints: 10 }, quick ? 20 : 100, quick ? 100 : 300),
  apply: (place, quick) => serviceApplyRows(place, quick ? 1_000 : 10_000),
  connect: (place, quick) =>
    serviceConnectRows(place, 'nftables', [1, 1_000, 10_000, 30_000], quick ? 20 : 60, 1.1),
  stream: (place, quick) =>
    serviceStreamRows(
      place,
      [{ mode: 'nftables', goal: 0.97 }, { mode: 'iptables', goal: 0.97 }, { mode: 'userspace' }],
      quick ? 2 : 7,
    ),
  // iptables-nft-restore of kube-proxy's layout takes half a minute each time.
  iptables: (_place, quick) =>
    serviceIptablesRows({
      ...iptablesBench,
      ...{ rounds: quick ? 1 : 2, changes: quick ? 5 : 20, turns: quick ? 20 : 60 },
    }),
  proxy: (_place, quick) => proxyRows(quick ? 2 : 5),
  'kube-proxy': (place, quick) =>
    kubeProxyRows(place, {
      modes: ['nftables', 'iptables'],
      ...(quick
        ? { size: { services: 1_000, endpoints: 2 }, changes: 5, restarts: 1, turns: 20, streams: 2 }
        : { size: { services: 10_000, endpoints: 2 }, changes: 20, restarts: 2, turns: 60, streams: 7 }),
    }),
}

/** Sections that run only when what they measure is there. */
const missing = (name: string): boolean => name === 'kube-proxy' && kubeProxyProgram() === undefined

const tenants: Sections = {
  stream: (place, quick) => tenantStreamRows(place, quick ? 2 : 9),
  cold: (place, quick) => (quick ? tenantColdRows(place, 10, 20, 1) : tenantColdRows(place, 100, 20, 5)),
  path: (place, quick) => tenantPathRows(place, 10, quick ? 10 : 100, 20, quick ? 10 : 40),
  remote: (place, quick) => tenantRemoteRows(place, 10, 1_000, quick ? 1 : 3, quick ? 20 : 50),
  port: (place, quick) => (quick ? tenantPortRows(place, 10, 20, 10) : tenantPortRows(place, 100, 20, 50)),
}

const bgp: Sections = {
  rib: (place, quick) => bgpRibRows(place, quick ? 500 : 5_000, quick ? 20 : 200),
  scale: (place, quick) => bgpScaleRows(place, quick ? [2, 4] : [4, 8, 16, 32]),
}

const benches: Readonly<Record<string, Sections>> = { overlay, services, tenants, bgp }

const children: Readonly<Record<string, ChildMain>> = { cold: coldChild, proxy: proxyChild }

const usage = `Usage: npm run bench -- overlay|services|tenants|bgp [--quick] [--json FILE] [--plot FILE] [--only SECTION,...]

  --quick    fewer rounds: a look, not a measurement
  KUBE_PROXY=/path  in the environment of \`services\`: the rows of that kube-proxy, too (section kube-proxy)
  --plot     of bgp, section scale: sessions and memory by the number of nodes, as SVG
  --json     the rows as [{name, value, unit, against, ratio, goal, holds}] (docs/reference/bench.md)
${Object.entries(benches)
  .map(([name, sections]) => `  --only     of ${name}: ${Object.keys(sections).join(', ')}`)
  .join('\n')}
`

function version(program: string, ...args: readonly string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8' }).split('\n')[0]?.trim() ?? program
  } catch {
    return `no ${program}`
  }
}

function header(quick: boolean): string {
  const [cpu] = cpus()
  const load = loadavg().map(value => value.toFixed(1))
  const commit = version('git', 'describe', '--always', '--dirty')
  return [
    `# ${cpu?.model.trim() ?? process.arch}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, kernel ${release()}`,
    `# node ${process.version}, ${version('ip', '-V')}, ${version('nft', '--version')}, ${version('etcd', '--version')}, warren ${commit}`,
    `# ${new Date().toISOString()}, load ${load.join(' ')}${quick ? ', --quick: a look, not a measurement' : ''}`,
  ].join('\n')
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean' },
      json: { type: 'string' },
      plot: { type: 'string' },
      only: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  const sections = benches[positionals[0] ?? '']
  const only = values.only?.split(',') ?? Object.keys(sections ?? {}).filter(name => !missing(name))
  const unknown = only.filter(name => sections?.[name] === undefined)
  if (values.help === true || sections === undefined || unknown.length > 0) {
    process.stderr.write(usage)
    return values.help === true ? 0 : 2
  }
  const quick = values.quick === true
  const rows: Row[] = []
  process.stdout.write(`${header(quick)}\n`)
  const place = await makePlace()
  const stop = (): void => void place.end().then(() => process.exit(130))
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  let failed = false
  try {
    for (const name of only) {
      process.stderr.write(`${name} ...\n`)
      try {
        rows.push(...((await sections[name]?.(place, quick)) ?? []))
      } catch (error) {
        // What the other sections found is worth having.
        failed = true
        report(error)
        await place.clear()
      }
    }
  } finally {
    await place.end()
  }
  const colour = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined
  process.stdout.write(`${formatRows(rows, colour)}\n`)
  const missed = rows.filter(({ holds }) => holds === false)
  process.stdout.write(
    `${rows.filter(({ holds }) => holds === true).length} goals hold, ${missed.length} missed${missed.length === 0 ? '' : `: ${missed.map(({ name }) => name).join(', ')}`}\n`,
  )
  if (values.json !== undefined) {
    const plain = rows.map(({ name, value, unit, against, ratio, goal, holds, note }) => ({
      ...{ name, value, unit, against, ratio, goal, holds },
      ...(note === undefined ? {} : { note }),
    }))
    writeFileSync(values.json, `${JSON.stringify(plain, undefined, 2)}\n`)
  }
  if (values.plot !== undefined) writeFileSync(values.plot, sessionPlot(rows))
  return failed ? 1 : 0
}

function report(error: unknown): void {
  for (let each = error; each !== undefined; each = each instanceof Error ? each.cause : undefined)
    process.stderr.write(`${each instanceof Error ? (each.stack ?? each.message) : String(each)}\n`)
}

const run = process.argv[2] === 'child' ? childMain(children).then(() => 0) : main()

run.then(
  code => {
    process.exitCode = code
  },
  (error: unknown) => {
    report(error)
    process.exitCode = 1
  },
)
