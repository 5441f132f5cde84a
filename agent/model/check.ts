// From zod's issues to what people can act on: the field path, the value, the reason, and a hint. The configuration
// file is checked by the same words. zod itself is imported by this folder only.
import type { z } from 'zod'

export { z } from 'zod'

export type FieldPath = readonly (string | number)[]

/** One thing wrong with a value. */
export interface Finding {
  readonly path: FieldPath
  /** "spec.podCIDRs[0]"; "" for the whole. */
  readonly field: string
  /** The field does not exist in the schema: `path` names it. */
  readonly unknown: boolean
  /** The value as it stands there, as JSON, cut at 80 characters; undefined when nothing stands there. */
  readonly value: string | undefined
  readonly reason: string
  readonly hint: string | undefined
}

export type Checked<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly findings: readonly Finding[] }

type Issue = z.core.$ZodIssue
type Schema = z.core.$ZodType

function formatPath(path: FieldPath): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`
    return text === '' ? step : `${text}.${step}`
  }, '')
}

function at(value: unknown, path: FieldPath): unknown {
  return path.reduce<unknown>(
    (inner, step) =>
      typeof inner === 'object' && inner !== null
        ? (inner as Record<string | number, unknown>)[step]
        : undefined,
    value,
  )
}

function shown(value: unknown): string | undefined {
  if (value === undefined) return undefined
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

/** Optimal string alignment: a swap of neighbours counts as one, as typing does. */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, i) => i)]
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let least = Math.min(
        (row[j - 1] ?? 0) + 1,
        (rows[i - 1]?.[j] ?? 0) + 1,
        (rows[i - 1]?.[j - 1] ?? 0) + same,
      )
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (rows[i - 2]?.[j - 2] ?? 0) + 1)
      row.push(least)
    }
    rows.push(row)
  }
  return rows[a.length]?.[b.length] ?? 0
}

/** The known name that was probably meant: a third of its letters may be wrong; letter case does not count. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (name.length > 64) return undefined
  let best: string | undefined
  let least = Number.POSITIVE_INFINITY
  for (const candidate of known) {
    const d = distance(name.toLowerCase(), candidate.toLowerCase())
    if (d < least && d <= Math.max(1, Math.floor(candidate.length / 3))) {
      best = candidate
      least = d
    }
  }
  return best
}

interface Inside {
  readonly shape: Readonly<Record<string, Schema>>
}

// The objects that may stand at a schema: itself, behind optional and default, or an option of a union (the one whose
// discriminator fits, when it does).
function unwrap(schema: Schema): Schema {
  const inner = (schema._zod.def as { readonly innerType?: Schema }).innerType
  return inner === undefined ? schema : unwrap(inner)
}

function objectsAt(schema: Schema, value: unknown): readonly Inside[] {
  const plain = unwrap(schema)
  const def = plain._zod.def as unknown as {
    readonly type: string
    readonly shape?: Readonly<Record<string, Schema>>
    readonly options?: readonly Schema[]
    readonly discriminator?: string
  }
  if (def.type === 'object' && def.shape !== undefined) return [{ shape: def.shape }]
  if (def.type !== 'union' || def.options === undefined) return []
  const options = def.options.flatMap(option => objectsAt(option, value))
  const key = def.discriminator
  if (key === undefined) return options
  const fitting = options.filter(option => {
    const member = option.shape[key]
    return member !== undefined && unwrap(member)._zod.values?.has(at(value, [key]) as string) === true
  })
  return fitting.length > 0 ? fitting : options
}

/** Words that a union takes, beside whatever else it takes. */
function wordsAt(schema: Schema): readonly unknown[] {
  const { options = [] } = unwrap(schema)._zod.def as { readonly options?: readonly Schema[] }
  return options.flatMap(option => [...(unwrap(option)._zod.values ?? [])])
}

function schemaAt(schema: Schema, value: unknown, path: FieldPath): Schema | undefined {
  const [step, ...rest] = path
  if (step === undefined) return schema
  const plain = unwrap(schema)
  const element = (plain._zod.def as { readonly element?: Schema }).element
  const inner = at(value, [step])
  if (typeof step === 'number') return element === undefined ? undefined : schemaAt(element, inner, rest)
  for (const { shape } of objectsAt(plain, value)) {
    const member = Object.hasOwn(shape, step) ? shape[step] : undefined
    if (member !== undefined) return schemaAt(member, inner, rest)
  }
  return undefined
}

/** Names of the fields that an object at `path` may have. */
function knownFields(schema: Schema, value: unknown, path: FieldPath): readonly string[] {
  const there = schemaAt(schema, value, path)
  if (there === undefined) return []
  return [...new Set(objectsAt(there, at(value, path)).flatMap(({ shape }) => Object.keys(shape)))]
}

/** Where else a field of that very name exists, below the whole: "spec.backend.vni". */
function elsewhere(schema: Schema, name: string, path: FieldPath = []): string | undefined {
  for (const { shape } of objectsAt(schema, undefined)) {
    if (path.length > 0 && Object.hasOwn(shape, name)) return formatPath([...path, name])
    for (const [key, member] of Object.entries(shape)) {
      const found = elsewhere(member, name, [...path, key])
      if (found !== undefined) return found
    }
  }
  return undefined
}

function unknownField(schema: Schema, value: unknown, parent: FieldPath, name: string): Finding {
  const known = knownFields(schema, value, parent)
  const near = nearest(name, known)
  const other = near === undefined ? elsewhere(schema, name) : undefined
  let hint = `known here: ${known.join(', ')}`
  if (other !== undefined && other !== formatPath([...parent, name])) hint = `it belongs to "${other}"`
  if (near !== undefined) hint = `did you mean "${near}"?`
  const path = [...parent, name]
  // A field of another of the forms that are allowed here.
  const misplaced = known.includes(name)
  const reason = misplaced ? 'does not go with the fields beside it' : 'is not a known field'
  if (misplaced) hint = `one form at a time; known here: ${known.join(', ')}`
  return { path, field: formatPath(path), unknown: true, value: shown(at(value, path)), reason, hint }
}

function choice(options: readonly unknown[], value: unknown): { reason: string; hint: string | undefined } {
  const known = options.map(String)
  const near = typeof value === 'string' ? nearest(value, known) : undefined
  return {
    reason: known.length === 1 ? `must be ${known[0]}` : `must be one of ${known.join(', ')}`,
    hint: near === undefined ? undefined : `did you mean "${near}"?`,
  }
}

function bound(issue: { readonly origin: string }, limit: unknown, word: string): string {
  if (issue.origin === 'array') return `must have ${limit} ${limit === 1 ? 'entry' : 'entries'} ${word}`
  if (issue.origin === 'string') return `must be ${limit} characters long ${word}`
  return `must be ${limit} ${word}`
}

const articles: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object with fields',
  record: 'an object with fields',
}

function explain(schema: Schema, whole: unknown, issue: Issue): readonly Finding[] {
  const path = issue.path.map(step => (typeof step === 'number' ? step : String(step)))
  if (issue.code === 'unrecognized_keys') return issue.keys.map(key => unknownField(schema, whole, path, key))
  const value = at(whole, path)
  const make = (reason: string, hint?: string): readonly Finding[] => [
    { path, field: formatPath(path), unknown: false, value: shown(value), reason, hint },
  ]
  if (value === undefined && issue.code !== 'custom') {
    const there = schemaAt(schema, whole, path)
    const options = there === undefined ? undefined : unwrap(there)._zod.values
    return make('is required', options === undefined ? undefined : `one of ${[...options].join(', ')}`)
  }
  switch (issue.code) {
    case 'invalid_type':
      return make(`must be ${articles[issue.expected] ?? issue.expected}`)
    case 'invalid_value': {
      const { reason, hint } = choice(issue.values, value)
      return make(reason, hint)
    }
    case 'too_small':
      return make(bound(issue, issue.minimum, 'or more'))
    case 'too_big':
      return make(bound(issue, issue.maximum, 'at most'))
    case 'invalid_union': {
      const key = issue.discriminator
      const parent = key === undefined ? undefined : schemaAt(schema, whole, path.slice(0, -1))
      const options = parent === undefined ? [] : objectsAt(parent, undefined)
      const values = options.flatMap(({ shape }) => [
        ...(unwrap(shape[key ?? ''] as Schema)._zod.values ?? []),
      ])
      if (values.length === 0) {
        const there = schemaAt(schema, whole, path)
        const forms = there === undefined ? [] : objectsAt(there, undefined)
        const names = forms.map(({ shape }) => Object.keys(shape).join(', '))
        const words = there === undefined ? [] : wordsAt(there)
        if (forms.length === 0 && words.length > 0) {
          const { hint } = choice(words, value)
          return make(
            'fits none of the forms that are allowed here',
            hint ?? `one of ${words.join(', ')}, ...`,
          )
        }
        return make(
          'fits none of the forms that are allowed here',
          names.length === 0 ? undefined : `one of: { ${[...new Set(names)].join(' }, { ')} }`,
        )
      }
      const { reason, hint } = choice(values, value)
      return make(reason, hint)
    }
    case 'custom': {
      const hint = issue.params?.['hint'] as unknown
      return make(issue.message, typeof hint === 'string' ? hint : undefined)
    }
    default:
      return make(issue.message)
  }
}

/** Removes the fields that the schema does not know from a copy; the copy and whether something was removed. */
function withoutUnknown(value: unknown, issues: readonly Issue[]): { value: unknown; removed: boolean } {
  let removed = false
  const copy: unknown = structuredClone(value)
  for (const issue of issues) {
    if (issue.code !== 'unrecognized_keys') continue
    const parent = at(copy, issue.path as FieldPath)
    for (const key of issue.keys) {
      removed = true
      delete (parent as Record<string, unknown>)[key]
    }
  }
  return { value: copy, removed }
}

/**
 * A value against a schema. `strict`: an unknown field is a finding, with the nearest known name; else it is dropped,
 * as in records that a newer version wrote.
 */
export function check<T>(schema: z.ZodType<T>, value: unknown, strict: boolean): Checked<T> {
  let input = value
  let result = schema.safeParse(input)
  // twice: a refinement of the whole runs only once its parts are in order
  for (let round = 0; !strict && !result.success && round < 3; round += 1) {
    const trimmed = withoutUnknown(input, result.error.issues)
    if (!trimmed.removed) break
    input = trimmed.value
    result = schema.safeParse(input)
  }
  if (result.success) return { ok: true, value: result.data }
  const { issues } = result.error
  const wrongType = new Set(
    issues.filter(({ code }) => code === 'invalid_type').map(({ path }) => formatPath(path as FieldPath)),
  )
  // zod measures a string too where a list is wanted.
  const telling = issues.filter(
    ({ code, path }) =>
      (code !== 'too_big' && code !== 'too_small') || !wrongType.has(formatPath(path as FieldPath)),
  )
  return { ok: false, findings: telling.flatMap(issue => explain(schema, input, issue)) }
}
