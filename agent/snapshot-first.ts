// The last good model in the first format of that file: one JSON object, each document of the store as its text.
import { fnv1a } from '../lib/fnv.js'
import { z } from './model/check.js'
import { refOfKey } from './model/keys.js'
import type { ModelObject } from './model/kinds.js'
import type { SavedModel } from './saved-model.js'
import type { SavedObject } from './sources/kv-records.js'

const isObject = (value: unknown): boolean =>
  Array.isArray(value) &&
  value.length === 3 &&
  typeof value[0] === 'string' &&
  typeof value[1] === 'number' &&
  typeof value[2] === 'string'

const schema = z.object({
  version: z.literal(1),
  store: z.object({
    name: z.string(),
    format: z.string().optional(),
    revision: z.number(),
    lost: z.boolean(),
    held: z.array(z.string()),
    // By hand: there are ten thousands of them.
    objects: z.custom<[string, number, string][]>(value => Array.isArray(value) && value.every(isObject)),
    allocations: z.record(z.string(), z.string()),
  }),
  directory: z
    .object({
      path: z.string(),
      objects: z.array(z.object({ file: z.string(), line: z.number(), object: z.unknown() })),
    })
    .optional(),
})

/** Undefined when it is none. */
export function readFirstVersion(value: unknown): SavedModel | undefined {
  const parsed = schema.safeParse(value)
  if (!parsed.success) return undefined
  const { store, directory } = parsed.data
  const objects = store.objects.flatMap(([key, modRevision, text]): SavedObject[] => {
    const ref = refOfKey(key)
    try {
      // Whoever takes it over checks it: it is not trusted.
      const object = JSON.parse(text) as ModelObject
      return ref === undefined ? [] : [{ ref, modRevision, hash: fnv1a(text), object }]
    } catch {
      return []
    }
  })
  return {
    store: {
      ...store,
      format: store.format,
      objects,
      allocations: Object.entries(store.allocations),
      trusted: false,
      resume: undefined,
    },
    directory,
  }
}
