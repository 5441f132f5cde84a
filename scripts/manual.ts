// Writes the manual pages docs/man/warren.8, warrend.8 and warrend.yaml.5 out of the program: commands and options from the tree
// that parses them, warrend's flags from its usage, fields from the schema. A unit test compares them with what this would write.
//
//   npm run manual
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { warren } from './manual-warren.js'
import { warrend, warrendYaml } from './manual-warrend.js'

const repository = new URL('../', import.meta.url)

/** Path below the repository -> its text. */
export const manuals: Readonly<Record<string, () => string>> = {
  'docs/man/warren.8': warren,
  'docs/man/warrend.8': warrend,
  'docs/man/warrend.yaml.5': warrendYaml,
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of Object.entries(manuals)) {
    writeFileSync(new URL(path, repository), text())
    process.stdout.write(`${path}\n`)
  }
}
