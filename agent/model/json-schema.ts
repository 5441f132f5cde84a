// JSON Schema (draft 2020-12) of everything that people may write, for editors: warren schema > warren.schema.json,
// then "# yaml-language-server: $schema=warren.schema.json" on top of a file.
import { z } from './check.js'
import { kinds } from './kinds.js'

type Json = Readonly<Record<string, unknown>>

/** One schema for all kinds: `oneOf` by kind, each kind under `$defs`. Fields with a default are optional. */
export function jsonSchema(): Json {
  const names = Object.keys(kinds).sort()
  const defs = Object.values(kinds).map(info => {
    const { $schema: _, ...schema } = z.toJSONSchema(info.schema, { io: 'input', unrepresentable: 'any' })
    return [info.kind, schema] as const
  })
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Warren',
    description: 'One document of the model of Warren; a YAML file may hold any number of them.',
    oneOf: names.map(name => ({ $ref: `#/$defs/${name}` })),
    $defs: Object.fromEntries(defs),
  }
}
