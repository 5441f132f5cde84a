// One key of `objects/` into one object of the model, or into what is wrong with it.
import { fnv1a } from '../../lib/fnv.js'
import type { KvEntry } from '../../lib/kv/kv.js'
import { parseObject, parseObjectText } from '../model/document.js'
import { findKind, type KindInfo, type ModelObject } from '../model/kinds.js'
import { type Problem, refOf } from '../model/object.js'
import type { StoredObject } from './kv-records.js'

export const kindOf = (ref: string): KindInfo | undefined => findKind(ref.slice(0, ref.indexOf('/')))

/** `known`: what is in force, which is the answer when the store says the same once more. `name`: of the store. */
export function readObject(
  entry: KvEntry,
  ref: string,
  info: KindInfo,
  known: StoredObject | undefined,
  name: string,
): StoredObject | { readonly problems: readonly Problem[] } {
  const { modRevision } = entry
  const hash = fnv1a(entry.value)
  // One revision of one key has one text. The hash is for a store that went back in time and on another way.
  if (known?.hash === hash && known.modRevision === modRevision) return known
  const about = `${name}: ${entry.key}`
  const parsed = parseObjectText(entry.value, { about, strict: !info.record })
  if (!parsed.ok) return parsed
  const { object } = parsed
  if (refOf(object) !== ref) {
    const message = `Cannot use ${about}: it holds ${refOf(object)}`
    const hint = 'delete the key and apply the object again'
    return { problems: [{ level: 'error', about: ref, code: 'KEY', message, hint }] }
  }
  const same = known?.hash === hash && JSON.stringify(known.object) === JSON.stringify(object)
  return { modRevision, hash, object: same ? known.object : object }
}

/** An object of a last good model that this very program did not write. */
export function checkObject(object: unknown, ref: string): ModelObject | undefined {
  const info = kindOf(ref)
  if (info === undefined) return undefined
  const parsed = parseObject(object, { about: `the last good model: ${ref}`, strict: !info.record })
  return parsed.ok && refOf(parsed.object) === ref ? parsed.object : undefined
}
