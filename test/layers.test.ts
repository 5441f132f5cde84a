// The arrows of docs/architecture.md: imports only point down, every npm package has one home, no cycles, no file too
// large, and names that say what a file is.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))

interface Source {
  /** "agent/dataplane/order.ts" */
  readonly path: string
  readonly lines: number
  /** Files of ours, with `type` for what is gone once compiled. */
  readonly imports: readonly { readonly path: string; readonly type: boolean }[]
  readonly packages: readonly string[]
}

function filesBelow(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.ts'))
    .map(name => join(folder, name).split(sep).join('/'))
}

/** `import ... from`, `export ... from` and `import()`; a list that says "type" at each name counts as a type import. */
const statement =
  /^(?:import|export)\s+(type\s)?([^'";]*?)from\s+'([^']+)'|^import\s+'([^']+)'|import\('([^']+)'\)/gm

function readSource(path: string): Source {
  const text = readFileSync(join(root, path), 'utf8')
  const imports: { path: string; type: boolean }[] = []
  const packages: string[] = []
  for (const [, type, names = '', from, bare, dynamic] of text.matchAll(statement)) {
    const target = from ?? bare ?? dynamic ?? ''
    if (target.startsWith('.')) {
      const file = relative(root, join(root, dirname(path), target))
        .split(sep)
        .join('/')
        .replace(/\.js$/, '.ts')
      const each = names
        .replace(/[{}]/g, '')
        .split(',')
        .map(name => name.trim())
        .filter(name => name !== '')
      const onlyTypes = each.length > 0 && each.every(name => name.startsWith('type '))
      imports.push({ path: file, type: type !== undefined || onlyTypes })
    } else if (!target.startsWith('node:') && !builtinModules.includes(target)) {
      const parts = target.split('/')
      packages.push(target.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? ''))
    }
  }
  return { path, lines: text.split('\n').length - 1, imports, packages }
}

const sources = ['agent', 'lib'].flatMap(filesBelow).map(readSource)
const byPath = new Map(sources.map(source => [source.path, source]))

/** The folder that is a part of its own: lib/netlink, agent/compute, or the file itself directly below lib or agent. */
function partOf(path: string): string {
  const [top = '', second = ''] = path.split('/')
  return second.endsWith('.ts') ? `${top}/${second}` : `${top}/${second}`
}

/** Parts of lib that do no I/O; all of lib may use them. */
const foundation = [
  'lib/net',
  'lib/persistent',
  'lib/reconcile',
  'lib/clock.ts',
  'lib/errors.ts',
  'lib/fnv.ts',
  'lib/lanes.ts',
  'lib/lifetime.ts',
  'lib/log.ts',
  'lib/exec.ts',
  'lib/yaml',
]

/**
 * Layers of agent/, from above: a file may import from its own layer and from those below it. What is not named is a
 * part of the agent's core (leases, identity, store, objects, the host), between the composition root and the model.
 */
const layers: readonly (readonly [layer: string, matches: (path: string) => boolean])[] = [
  ['main, cli', path => path === 'agent/main.ts' || path.startsWith('agent/cli/')],
  ['agent.ts', path => /^agent\/(agent|control|control-parts|outside|tenant-control|parts)\.ts$/.test(path)],
  ['doctor, support', path => path.startsWith('agent/doctor/') || path.startsWith('agent/support/')],
  ['api, attach, metrics', path => /^agent\/(api|attach|metrics)\//.test(path)],
  ['dataplane', path => path.startsWith('agent/dataplane/')],
  ['core', path => /^agent\/[^/]+\.ts$/.test(path)],
  ['sources', path => path.startsWith('agent/sources/')],
  ['compute', path => path.startsWith('agent/compute/')],
  ['model', path => path.startsWith('agent/model/')],
  ['lib', path => path.startsWith('lib/')],
]
const layerOf = (path: string): number => layers.findIndex(([, matches]) => matches(path))

/** Arrows that point up, each with the reason why it stays. */
const exceptions: Readonly<Record<string, string>> = {
  'agent/model-store.ts -> agent/api/control.ts':
    'the words of its results are the API`s, which are public; types only',
}

t.test('every file has a layer, and every import is found', async t => {
  t.ok(sources.length > 100)
  for (const { path, imports } of sources) {
    t.ok(layerOf(path) >= 0, path)
    for (const { path: target } of imports) t.ok(existsSync(join(root, target)), `${path} -> ${target}`)
  }
})

t.test('imports only point down', async t => {
  for (const { path, imports } of sources) {
    for (const { path: target } of imports) {
      const arrow = `${path} -> ${target}`
      if (arrow in exceptions) continue
      if (layerOf(target) < layerOf(path))
        t.fail(`${arrow} points up: ${layers[layerOf(path)]?.[0]} to ${layers[layerOf(target)]?.[0]}`)
    }
  }
  for (const arrow of Object.keys(exceptions)) {
    const [from = '', to = ''] = arrow.split(' -> ')
    t.ok(
      byPath.get(from)?.imports.some(({ path }) => path === to),
      `the exception is still one: ${arrow}`,
    )
  }
  t.pass(`${sources.reduce((sum, { imports }) => sum + imports.length, 0)} imports`)
})

t.test('lib knows nothing of the agent, and its foundation nothing of the rest of lib', async t => {
  for (const { path, imports } of sources) {
    if (!path.startsWith('lib/')) continue
    for (const { path: target } of imports) {
      t.ok(target.startsWith('lib/'), `${path} -> ${target}`)
      if (foundation.includes(partOf(path))) t.ok(foundation.includes(partOf(target)), `${path} -> ${target}`)
    }
  }
  const words = /\b(tenants?|services?|floatingIp|podCIDR)\b/i
  for (const { path } of sources) {
    if (!/^lib\/(net|reconcile|netlink|netns|nftables|iptables)\//.test(path)) continue
    const code = readFileSync(join(root, path), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
    t.notMatch(code.match(words)?.[0], words, path)
  }
})

/** Texts out of plain values, without I/O. */
const plain = new Set(['lib/dnsmasq/config.ts'])

t.test('model and compute are pure', async t => {
  const io =
    /from 'node:(fs|net|http|https|child_process|os|dns|worker_threads|timers)|process\.(env|pid|hrtime)|Date\.now|new Date\(\)|performance\.now|Math\.random/
  for (const { path, imports } of sources) {
    if (plain.has(path)) t.notMatch(readFileSync(join(root, path), 'utf8').match(io)?.[0], io, path)
    if (!/^agent\/(model|compute)\//.test(path)) continue
    t.notMatch(readFileSync(join(root, path), 'utf8').match(io)?.[0], io, path)
    for (const { path: target, type } of imports)
      if (target.startsWith('lib/') && !foundation.includes(partOf(target)))
        t.ok(
          type || /\/(elements|expressions|types)\.ts$/.test(target) || plain.has(target),
          `${path} -> ${target}: types and values only`,
        )
  }
})

t.test('only the composition root makes real things', async t => {
  const makers = /^lib\/(netlink\/rtnl|nftables\/nft|iptables\/iptables|etcd\/etcd|kv\/file)\.ts$/
  const allowed = [
    'agent/agent.ts',
    'agent/dataplane/kernel.ts',
    'agent/dataplane/spaces.ts',
    'agent/open-kv.ts',
  ]
  for (const { path, imports } of sources) {
    if (!path.startsWith('agent/') || allowed.includes(path)) continue
    for (const { path: target, type } of imports)
      t.notOk(makers.test(target) && !type, `${path} -> ${target}`)
  }
})

t.test('each npm package is imported by one folder', async t => {
  const homes = new Map<string, Set<string>>()
  for (const { path, packages } of sources)
    for (const name of packages) homes.set(name, (homes.get(name) ?? new Set()).add(partOf(path)))
  const declared = Object.keys(
    (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { dependencies: Record<string, string> })
      .dependencies,
  )
  for (const [name, folders] of homes) {
    t.same([...folders].length, 1, `${name}: ${[...folders].join(', ')}`)
    t.ok(declared.includes(name), `${name} is a dependency`)
  }
  for (const name of declared) t.ok(homes.has(name), `${name} is used`)
})

t.test('no import cycles, of types neither', async t => {
  const done = new Set<string>()
  const walk = (path: string, way: readonly string[]): void => {
    const at = way.indexOf(path)
    if (at >= 0) t.fail(`cycle: ${[...way.slice(at), path].join(' -> ')}`)
    if (at >= 0 || done.has(path)) return
    for (const { path: target } of byPath.get(path)?.imports ?? []) walk(target, [...way, path])
    done.add(path)
  }
  for (const { path } of sources) walk(path, [])
  t.equal(done.size, sources.length)
})

t.test('files are small and their names say what they are', async t => {
  const sizes = sources.map(({ lines }) => lines).sort((a, b) => a - b)
  const median = sizes[sizes.length >> 1] ?? 0
  t.comment(`${sizes.length} files, median ${median} lines, largest ${sizes.at(-1)}`)
  t.ok(median <= 200, `median ${median}`)
  for (const { path, lines } of sources) {
    t.ok(lines <= 400, `${path}: ${lines} lines`)
    const name = path.split('/').at(-1) ?? ''
    t.match(name, /^[a-z0-9]+(-[a-z0-9]+)*\.ts$/, path)
    t.notMatch(
      name,
      /^(utils?|helpers?|common|misc|manager|index)\.ts$|-(utils?|helpers?|manager|impl)\.ts$/,
      path,
    )
    const text = readFileSync(join(root, path), 'utf8')
    t.match(text, /^(#!.*\n)?(\/\/|\/\*)/, `${path} begins with what it is`)
    const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
    t.notMatch(code, /^export default |^export enum |^enum |^namespace |: any\b|<any>|\bas any\b/m, path)
    t.notMatch(code, /\binterface I[A-Z][a-z]|class \w+Impl\b/, path)
  }
})
