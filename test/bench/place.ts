// Network namespaces for a benchmark: hosts on one switch, removed at the end whatever happens. This process itself
// stands in the switch's namespace (scripts/bench.sh put it there), so nothing here can touch the machine's own network.
//
//   wb-PID-sw (we, etcd): br0 198.18.0.254/15
//      |  h1 eth0 198.18.0.1   |  h2 eth0 198.18.0.2 ...     each host: wrn0 + veth to a pod's namespace wb-PID-h1-p
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exec } from '../../lib/exec.js'

export interface Place {
  readonly dir: string
  /** Name of the namespace of `what`: "h1", "h1-p". */
  ns(what: string): string
  path(what: string): string
  address(host: number): string
  /** Its namespace and cable, and a pod beside it whose veth no bridge has yet. */
  makeHost(host: number): Promise<void>
  removeHost(host: number): Promise<void>
  /** Namespaces with nothing but `lo` in them, up. */
  makeBare(...whats: readonly string[]): Promise<void>
  removeBare(...whats: readonly string[]): Promise<void>
  /** Runs at the end, the last one first. */
  onEnd(f: () => Promise<void> | void): void
  /** Ends and removes what is there, after a failure: the next section starts from nothing. */
  clear(): Promise<void>
  end(): Promise<void>
}

function namespaceOf(path: string): bigint {
  try {
    return statSync(path, { bigint: true }).ino
  } catch {
    return -1n
  }
}

/** A batch of iproute2 lines, in a namespace when one is given. */
export async function ip(lines: readonly string[], ns?: string): Promise<void> {
  const argv = ns === undefined ? ['-batch', '-'] : ['-n', ns, '-batch', '-']
  await exec(['ip', ...argv], { input: `${lines.join('\n')}\n`, timeout: 60_000 })
}

/** Errors: when this process is not where scripts/bench.sh puts it. */
export async function makePlace(): Promise<Place> {
  const tag = process.env['WARREN_BENCH_NS'] ?? ''
  if (tag === '' || namespaceOf('/proc/self/ns/net') !== namespaceOf(`/run/netns/${tag}-sw`))
    throw new Error('start it by scripts/bench.sh (npm run bench), which gives it a namespace of its own')
  const dir = mkdtempSync(join(tmpdir(), 'warren-bench-'))
  const made = new Set<string>()
  const ends: (() => Promise<void> | void)[] = []
  const ns = (what: string): string => `${tag}-${what}`
  const address = (host: number): string => `198.18.0.${host}`
  const add = async (...whats: readonly string[]): Promise<void> => {
    await ip(whats.map(what => `netns add ${ns(what)}`))
    for (const what of whats) made.add(what)
  }
  const remove = async (...whats: readonly string[]): Promise<void> => {
    for (const what of whats) {
      await exec(['ip', 'netns', 'delete', ns(what)], { ok: [0, 1, 255] })
      made.delete(what)
    }
  }
  const clear = async (): Promise<void> => {
    for (const f of ends.splice(0).reverse()) await f()
    const cables = [...made].filter(what => /^h\d+$/.test(what))
    for (const what of cables) await exec(['ip', 'link', 'delete', what], { ok: [0, 1] })
    await remove(...made)
  }
  await ip([
    'link set lo up',
    'link add br0 type bridge stp_state 0 mcast_snooping 0',
    'link set br0 up',
    'address add 198.18.0.254/15 dev br0',
  ])
  return {
    dir,
    ns,
    path: what => `/run/netns/${ns(what)}`,
    address,
    async makeHost(host) {
      const me = `h${host}`
      await add(me, `${me}-p`)
      // A host is up long before its agent: its link-local address is no news any more when that starts.
      await exec(['ip', 'netns', 'exec', ns(me), 'sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0'])
      await ip([`link add ${me} type veth peer name eth0 netns ${ns(me)}`, `link set ${me} master br0 up`])
      await ip(
        [
          'link set lo up',
          'link set eth0 up',
          `address add ${address(host)}/15 dev eth0`,
          `link add veth-p type veth peer name eth0 netns ${ns(`${me}-p`)}`,
          'link set veth-p up',
        ],
        ns(me),
      )
      await ip(['link set lo up', 'link set eth0 up'], ns(`${me}-p`))
    },
    async makeBare(...whats) {
      await add(...whats)
      for (const what of whats) await ip(['link set lo up'], ns(what))
    },
    removeBare: remove,
    async removeHost(host) {
      // The cable first: the kernel removes a namespace, and the other end with it, some time later.
      await exec(['ip', 'link', 'delete', `h${host}`], { ok: [0, 1] })
      await remove(`h${host}-p`, `h${host}`)
    },
    onEnd: f => void ends.push(f),
    clear,
    async end() {
      await clear()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** Plugs the pod of a host into its bridge: the second address of the block. */
export async function attachPod(place: Place, host: number, block: string, mtu: number): Promise<string> {
  const [net = '', length = '24'] = block.split('/')
  const base = net.slice(0, net.lastIndexOf('.'))
  await ip([`link set veth-p mtu ${mtu} master wrn0`], place.ns(`h${host}`))
  await ip(
    [
      `link set eth0 mtu ${mtu}`,
      `address replace ${base}.2/${length} dev eth0`,
      `route replace default via ${base}.1`,
    ],
    place.ns(`h${host}-p`),
  )
  return `${base}.2`
}
