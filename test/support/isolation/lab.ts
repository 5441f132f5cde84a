// A lab of scripts/lab.sh, from one process: its namespaces by name, its daemons, shell and `warren` in them.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { childArgv } from '../../../lib/netns/child.js'
import { type Netns, openNetns } from '../../../lib/netns/netns.js'
import { containers, type Host, type Port } from './plan.js'

export function labNamespace(lab: string, { ref, host }: Pick<Port, 'ref' | 'host'>): string {
  return `wl-${lab}-${host}-t-${ref.replace('/', '-')}`
}

export interface Lab {
  readonly name: string
  /** Folder with `warren` and `warrend`. */
  readonly dist: string
  /** "red/a1", "host/h1", "fabric/h1", "router/red/h1", "stranger", "switch". */
  netns(place: string): Netns
  /** Shell in a place; throws with what it said when a line of it fails. */
  sh(place: string, script: string): string
  /** scripts/lab.sh with this lab's name. */
  lab(...args: readonly string[]): string
  /** `warren` on a host. */
  warren(host: Host, ...args: readonly string[]): string
  close(): void
}

function run(program: string, args: readonly string[]): string {
  try {
    return execFileSync(program, args, {
      encoding: 'utf8',
      input: '',
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: 60_000,
      maxBuffer: 64 << 20,
    })
  } catch (error) {
    const { stderr = '', stdout = '' } = error as { readonly stderr?: string; readonly stdout?: string }
    throw new Error(`${program} ${args.slice(-2).join(' ')}: ${stderr || stdout || String(error)}`)
  }
}

/** A router's namespace ends in ten digits of its name's digest: agent/compute/tenant/devices.ts. */
const routerSuffix = (tenant: string): string =>
  createHash('sha256').update(`${tenant}/r`).digest('hex').slice(0, 10)

export function openLab(name: string, root: string): Lab {
  const open = new Map<string, Netns>()
  const nameOf = (place: string): string => {
    const [kind = '', first = '', second = ''] = place.split('/')
    const host = `wl-${name}-${first}`
    if (kind === 'host') return host
    if (kind === 'fabric') return `${host}-fabric`
    if (kind === 'router') return `wl-${name}-${second}-r-${routerSuffix(first)}`
    if (kind === 'stranger') return `wl-${name}-ext`
    if (kind === 'switch') return `wl-${name}-sw`
    const port = containers.find(({ ref }) => ref === place)
    if (port === undefined) throw new Error(`no place "${place}"`)
    return labNamespace(name, port)
  }
  const netns = (place: string): Netns => {
    let found = open.get(place)
    if (found === undefined) {
      const path = `/run/netns/${nameOf(place)}`
      if (!existsSync(path))
        throw new Error(`no namespace ${path}; there are ${readdirSync('/run/netns').join(' ')}`)
      found = openNetns({ path })
      open.set(place, found)
    }
    return found
  }
  const dir = `${process.env['WARREN_LAB_DIR'] ?? '/run/warren-lab'}/${name}`
  const dist = /^WARREN_DIST=(.*)$/m.exec(readFileSync(`${dir}/lab.env`, 'utf8'))?.[1] ?? `${root}/dist`
  return {
    name,
    dist,
    netns,
    sh(place, script) {
      const [program, ...args] = childArgv(netns(place), ['sh', '-euc', script])
      return run(program, args)
    },
    lab: (command, ...args) => run(`${root}/scripts/lab.sh`, [command as string, '--name', name, ...args]),
    warren(host, ...args) {
      const env = ['env', `WARREN_SOCKET=${dir}/${host}/warrend.sock`, `${dist}/warren`] as const
      const [program, ...argv] = childArgv(netns(`host/${host}`), [...env, ...args])
      return run(program, argv)
    },
    close() {
      for (const each of open.values()) each.close()
    },
  }
}
