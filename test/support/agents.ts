// Hosts on one switch, each a namespace of its own, and real agents on them: child processes that end with the test.
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { type Client, createClient } from '../../agent/api/client.js'
import type { Status } from '../../agent/api/control.js'
import { childArgv } from '../../lib/netns/child.js'
import { createWorld, until, type World } from './netns-world.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

export interface Programs {
  /** Holds the bundles and everything else that the test makes. */
  readonly dir: string
  readonly warrend: string
  readonly warren: string
  remove(): void
}

/** warrend and warren as bundles: ts-node would take a second longer per start. */
export async function buildPrograms(): Promise<Programs> {
  const dir = mkdtempSync(join(tmpdir(), 'wt-agent-'))
  chmodSync(dir, 0o755)
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'))
  await build({
    absWorkingDir: root,
    entryPoints: {
      warrend: 'agent/main.ts',
      warren: 'agent/cli/main.ts',
      'proxy-worker': 'lib/proxy/worker.ts',
    },
    outdir: dir,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    external: ['koffi', 'netlink'],
    define: { 'import.meta.url': 'importMetaUrl', WARREN_VERSION: '"test"' },
    banner: { js: "const importMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
    logLevel: 'error',
    logOverride: { 'empty-import-meta': 'silent' },
  })
  return {
    dir,
    warrend: join(dir, 'warrend.cjs'),
    warren: join(dir, 'warren.cjs'),
    remove: () => rmSync(dir, { recursive: true, force: true }),
  }
}

export interface Host extends World {
  readonly name: string
  readonly number: number
  /** stateDir, socket, subnet.env. */
  readonly dir: string
  readonly config: string
  readonly socket: string
  /** Writes the host's warrend.yaml again, with these lines changed or added. */
  configure(more: Readonly<Record<string, string>>): void
}

export interface Network {
  readonly hosts: readonly Host[]
  /** The shared store's directory. */
  readonly store: string
  writeCluster(spec: string): void
  close(): void
}

/**
 * `count` hosts h1, h2 ... with eth0 at 192.0.2.11, .12 ... and 2001:db8::11 ... on one switch. No duplicate address
 * detection, so that an address is there at once.
 */
export function createNetwork(dir: string, name: string, count: number): Network {
  const base = join(dir, name)
  const store = join(base, 'store')
  mkdirSync(store, { recursive: true })
  const net = createWorld('ip link add br0 type bridge; ip link set br0 up')
  const hosts = Array.from({ length: count }, (_, i): Host => {
    const number = i + 1
    const world = createWorld('sysctl -qw net.ipv6.conf.default.accept_dad=0; ip link set lo up')
    net.sh(`ip link add p${number} type veth peer name eth0 netns /proc/${process.pid}/fd/${world.netns.fd}
ip link set p${number} master br0; ip link set p${number} up`)
    world.sh(`ip link set eth0 up; ip addr add 192.0.2.${10 + number}/24 dev eth0
ip addr add 2001:db8::${10 + number}/64 dev eth0 nodad`)
    const own = join(base, `h${number}`)
    mkdirSync(own)
    const host: Host = {
      ...world,
      name: `h${number}`,
      number,
      dir: own,
      config: join(own, 'warrend.yaml'),
      socket: join(own, 'warrend.sock'),
      configure(more) {
        const lines: Record<string, string> = {
          node: `h${number}`,
          store: `{ file: ${store} }`,
          underlay: '{ interface: eth0 }',
          socket: host.socket,
          stateDir: join(own, 'state'),
          subnetFile: join(own, 'subnet.env'),
          log: '{ level: debug }',
          ...more,
        }
        writeFileSync(
          host.config,
          Object.entries(lines)
            .map(([key, value]) => `${key}: ${value}\n`)
            .join(''),
        )
      },
    }
    host.configure({})
    return host
  })
  return {
    hosts,
    store,
    writeCluster(spec) {
      const draft = join(base, 'cluster.yaml')
      writeFileSync(
        draft,
        `apiVersion: warren/v1\nkind: Cluster\nmetadata: { name: default }\nspec: ${spec}\n`,
      )
      writeFileSync(join(store, 'cluster.yaml'), readFileSync(draft))
    },
    close() {
      for (const host of hosts) host.close()
      net.close()
    },
  }
}

export interface Agent {
  readonly host: Host
  readonly client: Client
  readonly pid: number
  /** Resolves with the exit status, or the signal's name. */
  readonly ended: Promise<number | string>
  log(): string
  /** Sends it and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<number | string>
  /** Waits until it has converged with that many peers that are up; rejects naming what is missing. */
  converged(peers: number, ms?: number): Promise<Status>
}

export interface AgentSettings {
  readonly env?: Readonly<Record<string, string>>
  /** Put before the program: setpriv and the like. */
  readonly wrapper?: readonly string[]
  readonly config?: string
}

const running = new Set<ChildProcess>()

/** Ends whatever still runs; for a teardown. */
export function killAgents(): void {
  for (const child of running) child.kill('SIGKILL')
}

/** Starts warrend on the host; the kernel ends it when this process ends in whatever way. */
export function startAgent(programs: Programs, host: Host, settings: AgentSettings = {}): Agent {
  const [program, ...args] = childArgv(host.netns, [
    'setpriv',
    '--pdeathsig',
    'KILL',
    ...(settings.wrapper ?? []),
    process.execPath,
    programs.warrend,
    '--config',
    settings.config ?? host.config,
  ])
  let log = ''
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_OPTIONS: '', ...settings.env },
  })
  running.add(child)
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
  const ended = new Promise<number | string>(resolve => {
    child.once('close', (code, signal) => {
      running.delete(child)
      resolve(code ?? signal ?? 'unknown')
    })
  })
  const client = createClient({ socket: host.socket, timeoutMs: 5000 })
  return {
    host,
    client,
    pid: child.pid ?? 0,
    ended,
    log: () => log,
    stop(signal = 'SIGTERM') {
      child.kill(signal)
      return ended
    },
    async converged(peers, ms = 15_000) {
      let last: Status | undefined
      return until(
        async () => {
          last = await client.status().catch(() => undefined)
          const up = last?.peers.filter(({ state }) => state === 'up').length
          return last?.converged === true && up === peers && child.exitCode === null ? last : undefined
        },
        ms,
        () => `${host.name} converged with ${peers} peers: ${JSON.stringify(last)}\n${log.slice(-1500)}`,
      )
    },
  }
}

/** Runs `warren ARGS` on the host. */
export async function warren(
  programs: Programs,
  host: Host,
  ...args: readonly string[]
): Promise<{ readonly code: number; readonly text: string }> {
  const [program, ...argv] = childArgv(host.netns, [process.execPath, programs.warren, ...args])
  const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
  const code = await new Promise<number>(resolve => child.once('close', status => resolve(status ?? 128)))
  return { code, text }
}

/** What changes by itself, or says nothing about the state. */
const noise = new Set([
  'valid_life_time',
  'preferred_life_time',
  'handle',
  'packets',
  'bytes',
  'ifindex',
  'index',
  'state',
  'used',
  'confirmed',
  'updated',
  'probes',
  'refcnt',
  'stats64',
  'stats',
  'expires',
  'hello_timer',
  'tcn_timer',
  'topology_change_timer',
  'gc_timer',
  'metainfo',
  'ifi_index',
  'link_index',
  'link_netnsid',
  'tentative',
])

function calm(value: unknown): unknown {
  if (Array.isArray(value)) {
    const items = value.map(calm)
    return items.every(item => typeof item === 'object' && item !== null)
      ? items
          .map(item => JSON.stringify(item))
          .filter(item => item !== '{}')
          .sort()
      : items
  }
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !noise.has(key))
      .map(([key, part]) => [key, calm(part)]),
  )
}

const looks: Readonly<Record<string, string>> = {
  link: 'ip -d -j link show',
  address: 'ip -d -j address show',
  route4: 'ip -d -j route show table all',
  route6: 'ip -d -j -6 route show table all',
  neighbor: 'ip -d -j neigh show nud permanent',
  fdb: 'bridge -d -j fdb show',
  rule4: 'ip -d -j rule show',
  rule6: 'ip -d -j -6 rule show',
  nft: 'nft -j list ruleset',
}

/** The whole host as text: `ip -d -j`, `bridge -j`, `nft -j`, iptables-save and sysctls, without what changes by itself. */
export function stateOf(host: World): Record<string, string> {
  const separator = '=-=-='
  const script = [
    ...Object.values(looks),
    '(iptables-nft-save; ip6tables-nft-save) 2>/dev/null | sed -e "s/\\[[0-9:]*\\]//" -e "/^#/d"',
    'sysctl -a -r "^net[.]ipv[46][.](conf[.]|ip_forward|neigh)" 2>/dev/null | grep -v -e stable_secret -e base_reachable',
  ].join(`; echo; echo '${separator}'; `)
  const parts = host.sh(script).split(`${separator}\n`)
  const result: Record<string, string> = {}
  Object.keys(looks).forEach((name, i) => {
    const text = parts[i]?.trim() ?? ''
    result[name] = JSON.stringify(calm(JSON.parse(text === '' ? '[]' : text)), undefined, 1)
  })
  const [iptables = '', sysctls = ''] = parts.slice(-2)
  return { ...result, iptables, sysctls }
}
