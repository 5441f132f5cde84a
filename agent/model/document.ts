// Documents into objects of the model, and what is wrong with them into problems that name file and line, object,
// field, value, reason and what to do. One bad document never stops the others.
import { type YamlDocument, type YamlPath, yamlDocuments } from '../../lib/yaml/yaml.js'
import { check, type Finding, nearest } from './check.js'
import { findKind, type KindInfo, kinds, type ModelObject } from './kinds.js'
import { apiVersion, defaultNamespace, type Metadata, type Problem, refOf } from './object.js'
import { usualObject } from './usual.js'

export interface ParsedObject {
  readonly object: ModelObject
  readonly file: string
  /** Of the document's first field, from 1. */
  readonly line: number
}

/** A document that could not be used; `ref` when it says at least which object it was meant to be. */
export interface FailedDocument {
  readonly ref: string | undefined
  readonly file: string
  readonly line: number
}

export interface ParsedDocuments {
  readonly objects: readonly ParsedObject[]
  readonly failed: readonly FailedDocument[]
  readonly problems: readonly Problem[]
}

export type ParseResult =
  | { readonly ok: true; readonly object: ModelObject }
  | { readonly ok: false; readonly ref: string | undefined; readonly problems: readonly Problem[] }

/** What was wrong, before it is known where it stands. */
interface Fault {
  readonly code: 'API_VERSION' | 'KIND' | 'FIELD' | 'SCHEMA'
  readonly finding: Finding
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function fault(code: Fault['code'], field: string, value: unknown, reason: string, hint?: string): Fault {
  const shown = value === undefined ? undefined : JSON.stringify(value)
  const path = field === '' ? [] : field.split('.')
  return { code, finding: { path, field, unknown: false, value: shown, reason, hint } }
}

/** `kind/name` as far as a document tells, even when the rest of it is bad. */
function claimedRef(value: unknown): string | undefined {
  if (!isRecord(value) || typeof value['kind'] !== 'string' || !isRecord(value['metadata'])) return undefined
  const { name, tenant, namespace } = value['metadata']
  if (typeof name !== 'string') return undefined
  const info = findKind(value['kind'])
  const kind = info?.kind ?? value['kind']
  const implied = info?.scope === 'namespace' ? defaultNamespace : undefined
  const scope = typeof tenant === 'string' ? tenant : typeof namespace === 'string' ? namespace : implied
  const metadata: Metadata = scope === undefined ? { name } : { name, namespace: scope }
  return refOf({ kind, metadata })
}

function kindOf(value: Readonly<Record<string, unknown>>): KindInfo | Fault {
  if (value['apiVersion'] !== apiVersion)
    return fault(
      'API_VERSION',
      'apiVersion',
      value['apiVersion'],
      value['apiVersion'] === undefined ? 'is required' : 'is not a version that this program knows',
      `write apiVersion: ${apiVersion}`,
    )
  const name = value['kind']
  if (typeof name === 'string' && Object.hasOwn(kinds, name)) return kinds[name as ModelObject['kind']]
  const known = Object.keys(kinds)
  const near = typeof name === 'string' ? (findKind(name)?.kind ?? nearest(name, known)) : undefined
  return fault(
    'KIND',
    'kind',
    name,
    name === undefined ? 'is required' : 'is not a known kind',
    near === undefined ? `known kinds: ${known.join(', ')}` : `did you mean "${near}"?`,
  )
}

// A scope that the kind has not would give the object another key than the one it is looked for.
function withoutScope(object: ModelObject): ModelObject {
  const { name, labels } = object.metadata
  return { ...object, metadata: labels === undefined ? { name } : { name, labels } } as ModelObject
}

function parse(value: unknown, strict: boolean): { object: ModelObject } | { faults: readonly Fault[] } {
  if (!isRecord(value))
    return {
      faults: [fault('SCHEMA', '', value, 'is not an object with apiVersion, kind, metadata and spec')],
    }
  const info = kindOf(value)
  if ('finding' in info) return { faults: [info] }
  const checked = check(info.schema, value, strict)
  if (!checked.ok)
    return {
      faults: checked.findings.map(finding => ({ code: finding.unknown ? 'FIELD' : 'SCHEMA', finding })),
    }
  const object = checked.value
  const metadata: Metadata = object.metadata
  const scope = metadata.tenant === undefined ? 'namespace' : 'tenant'
  if (info.scope !== 'cluster' || metadata[scope] === undefined) return { object }
  if (!strict) return { object: withoutScope(object) }
  const reason = `is not for kind ${info.kind}: its objects belong to the whole cluster`
  return { faults: [fault('FIELD', `metadata.${scope}`, metadata[scope], reason, 'leave it out')] }
}

function problemOf({ code, finding }: Fault, ref: string | undefined, where: string): Problem {
  const what = ref === undefined ? where : `${ref} (${where})`
  const field = finding.field === '' ? '' : `${finding.field} `
  const value = finding.value === undefined || finding.unknown ? '' : `${finding.value} `
  const message = `Cannot use ${what}: ${field}${value}${finding.reason}`
  return { level: 'error', about: ref ?? where, code, message, hint: finding.hint }
}

/**
 * One value out of a store. `about` says where it stands, for the messages: "etcd https://...: objects/node/-/h1".
 * `strict: false` drops fields that this version does not know.
 */
export function parseObject(
  value: unknown,
  options: { readonly about: string; readonly strict: boolean },
): ParseResult {
  const usual = usualObject(value)
  if (usual !== undefined) return { ok: true, object: usual }
  const result = parse(value, options.strict)
  if ('object' in result) return { ok: true, object: result.object }
  const ref = claimedRef(value)
  return { ok: false, ref, problems: result.faults.map(bad => problemOf(bad, ref, options.about)) }
}

/** The same from JSON text; text that is not JSON is a problem like any other. */
export function parseObjectText(
  text: string,
  options: { readonly about: string; readonly strict: boolean },
): ParseResult {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const message = `Cannot use ${options.about}: not JSON: ${error instanceof Error ? error.message : error}`
    return {
      ok: false,
      ref: undefined,
      problems: [{ level: 'error', about: options.about, code: 'JSON', message }],
    }
  }
  return parseObject(value, options)
}

function parseOne(document: YamlDocument, file: string, strict: boolean): ParsedDocuments {
  const { line, error } = document
  if (error !== undefined) {
    const about = `file ${file}:${error.line}`
    const message = `Cannot read ${file}:${error.line}: ${error.message}`
    const hint = 'mend the YAML; the other documents of the file are in force'
    const problem: Problem = { level: 'error', about, code: 'YAML', message, hint }
    return { objects: [], failed: [{ ref: undefined, file, line }], problems: [problem] }
  }
  const result = parse(document.value, strict)
  if ('object' in result)
    return { objects: [{ object: result.object, file, line }], failed: [], problems: [] }
  const ref = claimedRef(document.value)
  const problems = result.faults.map(bad => {
    const at = document.lineOf(bad.finding.path as YamlPath, bad.finding.unknown)
    return problemOf(bad, ref, `${file}:${at}`)
  })
  return { objects: [], failed: [{ ref, file, line }], problems }
}

interface ParseOptions {
  readonly file: string
  readonly strict: boolean
}

/** What is in each document of a YAML text, one after the other. */
function* eachDocument(text: string, { file, strict }: ParseOptions): Generator<ParsedDocuments, undefined> {
  for (const document of yamlDocuments(text)) yield parseOne(document, file, strict)
}

function gathering(): { add(part: ParsedDocuments): void; readonly all: ParsedDocuments } {
  const objects: ParsedObject[] = []
  const failed: FailedDocument[] = []
  const problems: Problem[] = []
  return {
    all: { objects, failed, problems },
    add(part) {
      objects.push(...part.objects)
      failed.push(...part.failed)
      problems.push(...part.problems)
    },
  }
}

/**
 * Every document of a YAML text. `file` is for the messages and goes along with the objects; `strict` (what people
 * write) makes an unknown field an error with the nearest known name, else it is dropped.
 */
export function parseDocuments(text: string, options: ParseOptions): ParsedDocuments {
  const { add, all } = gathering()
  for (const part of eachDocument(text, options)) add(part)
  return all
}

/** The same with turns for others in between: 20,000 documents take seconds. `pause` is called after each document. */
export async function parseInTurns(
  text: string,
  options: ParseOptions,
  pause: () => Promise<void> | undefined,
): Promise<ParsedDocuments> {
  const { add, all } = gathering()
  for (const part of eachDocument(text, options)) {
    add(part)
    const waiting = pause()
    if (waiting !== undefined) await waiting
  }
  return all
}
