// dist/LICENSES.txt: the terms of every npm package that a build carries, in the bundles (esbuild's metafile names them) or beside
// them (scripts/runtime-modules.mjs); made anew by each build, so that a new dependency cannot be forgotten.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { runtimePackages } from './runtime-modules.mjs'

const licenceFile = /^(licen[cs]e|copying|notice)/i

/** Nearest folder above a file of node_modules that has a package.json with a name. */
function packageOf(root, file) {
  for (let at = dirname(join(root, file)); at !== root && at !== '/'; at = dirname(at)) {
    const path = join(at, 'package.json')
    if (existsSync(path) && JSON.parse(readFileSync(path, 'utf8')).name !== undefined) return at
  }
  return undefined
}

/** `inputs` as in esbuild's metafile: its keys are paths below `root`. */
export function licences(root, inputs) {
  const folders = new Set(runtimePackages(root, process.arch).keys())
  for (const file of Object.keys(inputs)) {
    const folder = file.includes('node_modules/') ? packageOf(root, file) : undefined
    if (folder !== undefined) folders.add(folder)
  }
  const parts = [...folders]
    .sort((a, b) => (relative(root, a) < relative(root, b) ? -1 : 1))
    .map(folder => {
      const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
      const texts = readdirSync(folder)
        .filter(file => licenceFile.test(file))
        .sort()
        .map(file => readFileSync(join(folder, file), 'utf8').trim())
      return [`${name} ${version}: ${license ?? 'see below'}`, ...texts].join('\n\n')
    })
  return `${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`
}
