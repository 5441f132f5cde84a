// The host's configuration: /etc/warren/warrend.yaml -> one frozen value.
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { codeOf, WarrenError } from '../lib/errors.js'
import { parseYaml } from '../lib/yaml/yaml.js'
import { configSchema } from './config-schema.js'
import { check, type z } from './model/check.js'
import { namesOf } from './model/marks.js'
import { nameSchema } from './model/object.js'

export interface Config extends Omit<z.infer<typeof configSchema>, 'node' | 'podBridge'> {
  readonly node: string
  /** undefined: `podBridge: none`. */
  readonly podBridge: string | undefined
}

/**
 * Checks the text of a configuration file.
 * Errors: CONFIG, one line per finding with file, line, field, value and reason.
 */
export function parseConfig(text: string, file: string): Config {
  const [document, ...more] = parseYaml(text)
  if (more.length > 0)
    throw new WarrenError(`Cannot read "${file}": more than one YAML document`, { code: 'CONFIG' })
  if (document?.error !== undefined) {
    throw new WarrenError(`Cannot read "${file}:${document.error.line}": ${document.error.message}`, {
      code: 'CONFIG',
    })
  }
  const result = check(configSchema, document?.value ?? {}, true)
  if (!result.ok) {
    const lines = result.findings.map(({ path, field, value, reason, hint, unknown }) => {
      const line = document?.lineOf(path, unknown) ?? 1
      const shown = value === undefined || unknown ? '' : ` ${value}`
      return `Cannot use "${file}:${line}": ${field === '' ? 'the file' : field}${shown} ${reason}${hint === undefined ? '' : ` (${hint})`}`
    })
    throw new WarrenError(lines.join('\n'), {
      code: 'CONFIG',
      hint: 'see warrend.yaml(5); warrend --check tests a file',
    })
  }
  const { node, podBridge, ...rest } = result.value
  const name = node ?? hostname().toLowerCase()
  if (!nameSchema.safeParse(name).success) {
    throw new WarrenError(
      `Cannot use the host name "${name}" as node: not lower-case letters, digits, "-" and "."`,
      {
        code: 'CONFIG',
        hint: `set node: NAME in ${file}`,
      },
    )
  }
  const overlay = namesOf(rest.namePrefix, undefined).overlay
  if (podBridge === overlay) {
    throw new WarrenError(
      `Cannot use "${file}": podBridge "${podBridge}" is the name of the VXLAN device of namePrefix "${rest.namePrefix}"`,
      { code: 'CONFIG', hint: `choose another name, or leave it out: ${rest.namePrefix}0` },
    )
  }
  return Object.freeze({
    ...rest,
    node: name,
    podBridge: podBridge === 'none' ? undefined : (podBridge ?? `${rest.namePrefix}0`),
  })
}

/** `required: false`: a missing file means all defaults. */
export function loadConfig(file: string, required = true): Config {
  let text = ''
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (required || codeOf(error) !== 'ENOENT') {
      throw new WarrenError(`Cannot read "${file}": ${codeOf(error)}`, {
        code: 'CONFIG',
        hint: 'copy the commented example: docs/warrend.yaml',
        cause: error,
      })
    }
  }
  return parseConfig(text, file)
}
