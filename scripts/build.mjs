// Builds dist/, what hosts run: one CommonJS file per program (esbuild), a launcher that finds the right Node, and a V8
// code cache that saves most of the compiling at start-up.
//
//   dist/warrend, dist/warren          sh launchers: node/bin/node beside dist/ (an installed tree) or .node/bin/node (a
//                                      checkout) when it is there, else the node on PATH
//   dist/warrend.cjs, dist/warren.cjs  the bundles; `node dist/warrend.cjs` runs too, only slower
//   dist/proxy-worker.cjs              a thread of warrend (lib/proxy), begun in the userspace mode only
//   dist/boot.cjs                      loads a bundle with its code cache
//   dist/*.cache                       made by this Node for this bundle; one that does not fit is ignored. An installed tree
//                                      makes its own (scripts/compile-cache.sh)
//   dist/LICENSES.txt                  terms of all that is in the bundles and beside them
//   dist/.built                        the Node version of the build; its time is what scripts/env.sh compares
//
// Not minified: an uncaught exception prints the whole source line. koffi and netlink stay in node_modules (native parts),
// and so do grpc-js, protobufjs and prom-client: most hosts never load them, and would hold a megabyte of their source.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { licences } from './licences.mjs'
import { externals } from './runtime-modules.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')
// Everything is made beside dist/ and put in place by rename: labs that start meanwhile find the old or the new one.
const fresh = join(root, `dist.new.${process.pid}`)
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const programs = { warrend: 'agent/main.ts', warren: 'agent/cli/main.ts' }
const threads = { 'proxy-worker': 'lib/proxy/worker.ts' }

/** `process.argv` of the program is the same with and without this loader. V8 itself refuses a cache of another version. */
const boot = ids => `'use strict'
// node boot.cjs PROGRAM ARGS...: runs PROGRAM.cjs beside this file, with its code cache when that fits.
// WARREN_CODE_CACHE=write: writes the cache when the program ends (scripts/build.mjs does); =check: exit status 3 without
// one that fits.
const { readFileSync, writeFileSync } = require('node:fs')
const { createRequire } = require('node:module')
const { setFlagsFromString } = require('node:v8')
const { Script } = require('node:vm')
const file = __dirname + '/' + process.argv[2] + '.cjs'
const cache = file + '.' + ${JSON.stringify(ids).replaceAll('"', "'")}[process.argv[2]] + '.cache'
process.argv.splice(1, 2, file)
// The bundle is ASCII (esbuild escapes the rest), and a one-byte string takes half the memory.
const source = '(function (exports, require, module, __filename, __dirname) {' + readFileSync(file, 'latin1') + '\\n})'
let cachedData
try {
  cachedData = readFileSync(cache)
} catch {}
const script = new Script(source, {
  filename: file,
  ...(cachedData === undefined ? {} : { cachedData }),
})
if (process.env.WARREN_CODE_CACHE === 'check') process.exit(cachedData && !script.cachedDataRejected ? 0 : 3)
cachedData = undefined
if (process.env.WARREN_CODE_CACHE === 'write') {
  // What ran once at the start belongs into it, too. V8 refuses a cache that was written under other flags.
  setFlagsFromString('--no-flush-bytecode')
  process.on('exit', () => {
    setFlagsFromString('--flush-bytecode')
    writeFileSync(cache, script.createCachedData())
  })
}
const module_ = { exports: {}, filename: file, id: '.', loaded: false, children: [], paths: [] }
script.runInThisContext()(module_.exports, createRequire(file), module_, file, __dirname)
`

/**
 * V8's old generation is collected when it grew by a fifth, not by half or more: with 5,000 nodes 113 MB are resident, not
 * 250. A young one of 2 MB: one of 8 MB made joins no faster (measured in turns) and took up to 20 MB more. So little is
 * collected by one thread: waking others for it took a quarter of all CPU time while 5,000 routes came in. No collections
 * for memory alone while the program runs: agent/heap.ts sees to that once, after the start.
 */
const flags = {
  warrend: '--max-semi-space-size=2 --heap-growing-percent=20 --no-parallel-scavenge --no-memory-reducer ',
  warren: '',
}

const launcher = name => `#!/bin/sh
# Finds the Node of this tree (node/ or .node/ beside dist/, else PATH), also through symbolic links to this file.
self=$0
case $self in */*) ;; *) self=./$self ;; esac
[ ! -L "$self" ] || self=$(readlink -f -- "$self")
here=\${self%/*}
node=$here/../node/bin/node
[ -x "$node" ] || node=$here/../.node/bin/node
[ -x "$node" ] || node=node
# One arena of malloc for all threads: V8's helpers would leave holes in one each, 12 MB in all.
export MALLOC_ARENA_MAX="\${MALLOC_ARENA_MAX:-1}"
exec "$node" ${flags[name]}"$here/boot.cjs" ${name} "$@"
`

/** zod's texts in fifty languages are a fifth of the bundle; ours are English. */
const englishOnly = {
  name: 'english-only',
  setup(plugins) {
    plugins.onLoad({ filter: /zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js'",
    }))
  },
}

/** V8 tells a cache of another source by its length only. */
const idOf = name =>
  createHash('sha256')
    .update(readFileSync(join(fresh, `${name}.cjs`)))
    .digest('hex')
    .slice(0, 12)

async function bundle() {
  const { metafile } = await build({
    metafile: true,
    absWorkingDir: root,
    entryPoints: Object.entries({ ...programs, ...threads }).map(([out, path]) => ({ in: path, out })),
    outdir: fresh,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'ascii',
    // A script that comes out of the code cache has lost its loader: import() of what is outside the bundle would fail.
    supported: { 'dynamic-import': false },
    external: externals,
    // What bundled ESM sees as its own place: the bundle.
    define: { 'import.meta.url': 'importMetaUrl', WARREN_VERSION: JSON.stringify(version) },
    banner: { js: "const importMetaUrl = require('node:url').pathToFileURL(__filename).href;" },
    sourcemap: 'external',
    plugins: [englishOnly],
    logLevel: 'warning',
    logOverride: { 'empty-import-meta': 'silent' },
  })
  writeFileSync(join(fresh, 'LICENSES.txt'), licences(root, metafile.inputs))
}

/**
 * Runs what was built once, for real, in a network namespace of its own (root only), so that the cache holds the
 * functions that a start needs; without root a `--help` has to do. A cache is a gain, never a condition.
 */
async function train() {
  // By the launchers: a cache made under other V8 flags would be refused.
  const env = {
    ...process.env,
    WARREN_CODE_CACHE: 'write',
    PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
  }
  const dir = mkdtempSync(join(tmpdir(), 'warren-build-'))
  try {
    const config = join(dir, 'warrend.yaml')
    const socket = join(dir, 'warrend.sock')
    mkdirSync(join(dir, 'cluster'))
    // A peer too: what programs its routes is then in the cache.
    writeFileSync(
      join(dir, 'cluster/cluster.yaml'),
      [
        '{apiVersion: warren/v1, kind: Cluster, metadata: {name: default}, spec: {podCIDRs: [10.244.0.0/16]}}',
        '---',
        '{apiVersion: warren/v1, kind: Node, metadata: {name: other}, spec: ' +
          '{addresses: [192.0.2.12], podCIDRs: [10.244.2.0/24], vtepMAC: "02:00:00:00:00:02", mtu: 1500}}',
        '',
      ].join('\n'),
    )
    writeFileSync(
      config,
      [
        'node: build',
        `store: { file: ${join(dir, 'cluster')} }`,
        'underlay: { interface: eth0 }',
        `socket: ${socket}`,
        `stateDir: ${join(dir, 'state')}`,
        `subnetFile: ${join(dir, 'subnet.env')}`,
        '',
      ].join('\n'),
    )
    const underlay =
      'ip link add eth0 type veth peer name other && ip address add 192.0.2.11/24 dev eth0 && ' +
      'ip link set lo up && ip link set eth0 up && ip link set other up && exec "$@"'
    if (process.getuid() !== 0) {
      for (const name of Object.keys(programs)) spawnSync(join(fresh, name), ['--help'], { env })
      return
    }
    const daemon = spawn(
      'unshare',
      ['--net', 'sh', '-c', underlay, 'sh', join(fresh, 'warrend'), '--config', config],
      { env, stdio: 'ignore' },
    )
    const ended = new Promise(resolve => daemon.once('close', resolve).once('error', resolve))
    for (let i = 0; i < 200 && !existsSync(join(dir, 'subnet.env')) && daemon.exitCode === null; i++)
      await delay(25)
    spawnSync(join(fresh, 'warren'), ['status', '--socket', socket], {
      env,
      stdio: 'ignore',
      timeout: 10_000,
    })
    daemon.kill('SIGTERM')
    const killer = setTimeout(() => daemon.kill('SIGKILL'), 5_000)
    await ended
    clearTimeout(killer)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

try {
  const started = new Date()
  rmSync(fresh, { recursive: true, force: true })
  await bundle()
  const ids = Object.fromEntries(Object.keys(programs).map(name => [name, idOf(name)]))
  writeFileSync(join(fresh, 'boot.cjs'), boot(ids))
  for (const name of Object.keys(programs)) {
    writeFileSync(join(fresh, name), launcher(name))
    chmodSync(join(fresh, name), 0o755)
  }
  await train()
  for (const name of Object.keys(programs)) {
    const env = {
      ...process.env,
      WARREN_CODE_CACHE: 'check',
      PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
    }
    if (spawnSync(join(fresh, name), { env }).status !== 0) {
      process.stderr.write(`scripts/build.mjs: no code cache for ${name}: it starts slower\n`)
    }
  }
  writeFileSync(join(fresh, '.built'), `${process.version}\n`)
  utimesSync(join(fresh, '.built'), started, started) // a source saved during the build is newer
  const old = join(root, `dist.old.${process.pid}`)
  if (existsSync(dist)) renameSync(dist, old)
  renameSync(fresh, dist)
  rmSync(old, { recursive: true, force: true })
} catch (error) {
  rmSync(fresh, { recursive: true, force: true })
  if (error?.errors === undefined) throw error // esbuild has printed its own
  process.exit(1)
}
