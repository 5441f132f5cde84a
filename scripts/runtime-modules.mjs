// The npm packages that stay outside the bundles of dist/, and all that those need.
//
//   node scripts/runtime-modules.mjs [ARCH]   for scripts/stage.sh: one line "FOLDER TAB FILE" for each file that a host of this
//                                             ARCH (x64 or arm64; this machine's) needs, FOLDER below the root of the tree
//
// Sources, types, maps, the files of other architectures and of musl are left out; licences stay.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** koffi and netlink have native parts; most hosts never load the others, and would hold megabytes of their source. */
export const externals = ['koffi', 'netlink', '@grpc/grpc-js', 'protobufjs', 'prom-client']

/** Of a package with a C++ or TypeScript source, the folders that only a build or a reader needs. */
const leftOut = {
  koffi: ['vendor', 'doc', 'lib', 'cnoke.cjs', 'src/koffi/src/trampolines.cjs'],
  'node-gyp-build': ['bin.js', 'optional.js', 'build-test.js'],
  '@grpc/proto-loader': ['build/bin'],
  netlink: ['src', 'binding.gyp'],
  protobufjs: ['dist', 'scripts', 'tsconfig.json'],
  '@grpc/grpc-js': ['src', 'proto'],
}
/** Dependencies that only the compiler, or a command that the package brings, would load. */
const notLoaded = new Set(['@types/node', 'node-addon-api', 'yargs'])
const noise =
  /(\.[cm]?ts|\.(cc|hh|S|asm|inc|def)|CMakeLists\.txt|\.map|\.flow|\.md|\.markdown|\.ya?ml|\.gyp|\.tsbuildinfo|\.npmignore|\.eslintrc[^/]*)$/i
const licence = /(^|\/)(licen[cs]e|copying|notice|authors)[^/]*$/i

const read = folder => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

/** Where Node finds `name` from `from`: the nearest node_modules above it. */
function find(name, from, root) {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, 'node_modules', name)
    if (existsSync(join(folder, 'package.json'))) return folder
    if (at === root) return undefined
  }
}

const fits = (list, value) =>
  list === undefined || (list.includes(value) && !list.includes(`!${value}`)) || list.includes('any')

/** Folders of the packages; an error where one that must be there is not (an optional one may be absent elsewhere). */
export function runtimePackages(root, arch) {
  const found = new Map()
  const visit = (name, from, optional) => {
    const folder = find(name, from, root)
    if (folder === undefined) {
      if (optional) return
      throw new Error(`Cannot find the package "${name}" below "${root}": run npm ci there`)
    }
    if (found.has(folder)) return
    const info = read(folder)
    if (!fits(info.os, 'linux') || !fits(info.cpu, arch)) return
    found.set(folder, info)
    for (const next of Object.keys(info.dependencies ?? {})) {
      if (!notLoaded.has(next)) visit(next, folder, false)
    }
    for (const next of Object.keys(info.optionalDependencies ?? {})) visit(next, folder, true)
  }
  for (const name of externals) visit(name, root, false)
  // npm installs that of this machine only; scripts/package.sh brings another's.
  if (arch === process.arch && find(`@koromix/koffi-linux-${arch}`, root, root) === undefined) {
    throw new Error(
      `Cannot find "@koromix/koffi-linux-${arch}", koffi's native part for "${arch}": ` +
        `npm install --no-save --cpu=${arch} @koromix/koffi-linux-${arch}@${read(join(root, 'node_modules/koffi')).version}`,
    )
  }
  return found
}

/** Files of one package that a host needs, relative to its folder. */
export function runtimeFiles(folder, name, arch) {
  const not = leftOut[name] ?? []
  const files = []
  const walk = at => {
    for (const entry of readdirSync(join(folder, at)).sort()) {
      const path = at === '' ? entry : `${at}/${entry}`
      if (entry === 'node_modules' || not.includes(path)) continue
      if (at.endsWith('prebuilds') && entry !== `linux-${arch}`) continue
      if (/^musl_/.test(entry)) continue
      if (statSync(join(folder, path)).isDirectory()) walk(path)
      else if (licence.test(path) || !noise.test(path)) files.push(path)
    }
  }
  walk('')
  return files
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const root = dirname(dirname(fileURLToPath(import.meta.url)))
  const arch = process.argv[2] ?? process.arch
  try {
    for (const [folder, { name }] of runtimePackages(root, arch)) {
      const to = relative(root, folder)
      for (const file of runtimeFiles(folder, name, arch)) process.stdout.write(`${to}\t${file}\n`)
    }
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}
