// An object as the store has it: one line of JSON, its fields in the order of the schema.
import type { KvEntry } from '../lib/kv/kv.js'
import { parseObjectText } from './model/document.js'
import { findKind, type ModelObject } from './model/kinds.js'

export function stored(entry: KvEntry): ModelObject | undefined {
  const info = findKind(entry.key.split('/')[1] ?? '')
  const parsed = parseObjectText(entry.value, { about: entry.key, strict: info?.record !== true })
  return parsed.ok ? parsed.object : undefined
}

// The schemas put the fields in one order, so equal objects have equal texts.
export const textOf = (object: ModelObject): string => JSON.stringify(object)

export function sameAs(entry: KvEntry | undefined, object: ModelObject): boolean {
  if (entry === undefined) return false
  if (entry.value === textOf(object)) return true
  const before = stored(entry)
  return before !== undefined && textOf(before) === textOf(object)
}
