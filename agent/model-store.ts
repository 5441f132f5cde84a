// The model without a daemon: straight from and to the shared store that the configuration names, with what stands in
// files of its directory. For `warren apply|get|delete --config FILE`.
import { WarrenError } from '../lib/errors.js'
import type { Kv } from '../lib/kv/kv.js'
import type { ApplyResult, Control, DeleteManyResult, DeleteResult, ObjectWithOrigin } from './api/control.js'
import type { Config } from './config.js'
import { nearest } from './model/check.js'
import { type ParsedDocuments, type ParsedObject, parseInTurns, parseObjectText } from './model/document.js'
import { allocPrefix, objectsPrefix } from './model/keys.js'
import {
  findKind,
  fullRef,
  type KindInfo,
  kinds,
  type ModelObject,
  type ObjectOfKind,
} from './model/kinds.js'
import { nameOfRef, type Problem, refOf } from './model/object.js'
import { serviceName } from './model/service.js'
import { recordsByService, valuesOf } from './model/service-values.js'
import { tenantName } from './model/tenant.js'
import type { TenantModel } from './model/tenant-assignments.js'
import { tenantValues } from './model/tenant-values.js'
import {
  type DeleteOptions,
  type DeleteResult as Deletion,
  deleteObject,
  deleteObjects,
} from './object-delete.js'
import { applyObjects, type WriteOptions } from './objects.js'
import { openKv } from './open-kv.js'
import { readDirectory } from './sources/directory-files.js'
import { ownerOf } from './sources/kv-records.js'

export interface ModelStore extends Pick<Control, 'get' | 'apply' | 'delete' | 'deleteMany'> {
  close(): Promise<void>
}

/** By any of its names. Errors: NOT_FOUND with the nearest one. */
export function knownKind(name: string): KindInfo {
  const info = findKind(name)
  if (info !== undefined) return info
  const known = Object.values(kinds)
  const near = nearest(
    name,
    known.flatMap(({ singular, plural }) => [singular, plural]),
  )
  throw new WarrenError(`Cannot get "${name}": there is no such kind`, {
    code: 'NOT_FOUND',
    hint:
      near === undefined
        ? `kinds: ${known.map(({ plural }) => plural).join(', ')}`
        : `did you mean "${near}"?`,
  })
}

/** The one object of that name; `name` may leave out the default namespace. Errors: NOT_FOUND. */
export function namedObject<T extends { readonly object: ModelObject }>(
  all: readonly T[],
  info: KindInfo,
  name: string,
): T {
  const ref = fullRef(`${info.singular}/${name}`)
  const found = all.find(({ object }) => refOf(object) === ref)
  if (found !== undefined) return found
  throw new WarrenError(`Cannot get "${ref}": there is no such object`, {
    code: 'NOT_FOUND',
    hint: `warren get ${info.plural}`,
  })
}

/** Services with what the allocator's records (`pool/value`, owner) give them. */
export function withValues(
  all: readonly ObjectWithOrigin[],
  records: Iterable<readonly [key: string, owner: string]>,
): readonly ObjectWithOrigin[] {
  const byService = recordsByService(records)
  return all.map(each => {
    if (each.object.kind !== 'Service') return each
    return { ...each, values: valuesOf(each.object, byService.get(serviceName(each.object))) }
  })
}

/** Networks and Ports with what they have by the model. */
export function withTenantValues(
  all: readonly ObjectWithOrigin[],
  model: TenantModel,
): readonly ObjectWithOrigin[] {
  const valuesOf = tenantValues(model)
  return all.map(each =>
    each.object.kind === 'Network' || each.object.kind === 'Port'
      ? { ...each, tenantValues: valuesOf(each.object) }
      : each,
  )
}

/** Says in which file and line the object stands that a problem is about. */
function placed(problem: Problem, at: ParsedObject | undefined): Problem {
  if (at === undefined || problem.code === 'HANDWRITTEN') return problem
  const where = `${problem.about} (${at.file}:${at.line})`
  return { ...problem, message: problem.message.replace(problem.about, () => where) }
}

/** Milliseconds at a time: whoever parses thousands of documents is the agent, who has other things to do. */
const turnMs = 10

function turns(): () => Promise<void> | undefined {
  let until = performance.now() + turnMs
  return () => {
    if (performance.now() < until) return undefined
    return new Promise(resolve =>
      setImmediate(() => {
        until = performance.now() + turnMs
        resolve()
      }),
    )
  }
}

/** Writes every good document of a text; the bad ones are problems with file and line. Errors: those of the store. */
export async function applyText(
  kv: Kv,
  text: string,
  file: string,
  options: WriteOptions,
): Promise<ApplyResult> {
  const parsed = await parseInTurns(text, { file, strict: true }, turns())
  const objects = parsed.objects.map(({ object }) => object)
  const done = await applyObjects(kv, objects, options)
  const outcomes = new Map(done.results.map(({ ref, outcome }) => [ref, outcome]))
  const places = new Map([...parsed.objects].reverse().map(each => [refOf(each.object), each]))
  /** By the object that they are about. */
  const problems = new Map<string, Problem[]>()
  const others: Problem[] = []
  for (const problem of done.problems) {
    const at = places.get(problem.about)
    const list = at === undefined ? others : (problems.get(problem.about) ?? [])
    list.push(placed(problem, at))
    if (at !== undefined) problems.set(problem.about, list)
  }
  return {
    revision: done.revision,
    results: objects.map(object => {
      const ref = refOf(object)
      const outcome = outcomes.get(ref)
      return {
        ref,
        outcome: outcome === undefined ? 'refused' : outcome === 'updated' ? 'changed' : outcome,
        problems: problems.get(ref) ?? [],
      }
    }),
    problems: [...parsed.problems, ...others],
  }
}

function deletedResult(ref: string, { revision, live, released }: Deletion): DeleteResult {
  const message = `${ref} is gone, but its agent runs and publishes it again`
  const hint = `stop warrend on ${nameOfRef(ref)} first`
  return {
    revision,
    deleted: true,
    released,
    problems: live ? [{ level: 'warning', about: ref, code: 'LIVE', message, hint }] : [],
  }
}

/** Deletes an object, its kind by any of its names. Errors: those of deleteObject. */
export async function deleteRef(kv: Kv, ref: string, options: DeleteOptions): Promise<DeleteResult> {
  const exact = fullRef(ref)
  return deletedResult(exact, await deleteObject(kv, exact, options))
}

/** Deletes objects in their order; one that cannot be deleted has the reason among its problems. Errors: those of the store. */
export async function deleteRefs(
  kv: Kv,
  refs: readonly string[],
  options: WriteOptions,
): Promise<DeleteManyResult> {
  const exact = refs.map(fullRef)
  const deleted = await deleteObjects(kv, exact, options)
  const results = deleted.map((each, i): DeleteManyResult['results'][number] => {
    const ref = refs[i] ?? ''
    if (!('error' in each)) return { ref, ...deletedResult(exact[i] ?? ref, each) }
    const { code, message, hint } = each.error
    const problem: Problem = { level: 'error', about: ref, code, message, hint }
    return { ref, revision: 0, deleted: false, problems: [problem] }
  })
  return { revision: Math.max(0, ...results.map(({ revision }) => revision)), results }
}

async function listObjects(
  kv: Kv,
  info: KindInfo,
  written: ParsedDocuments,
  signal: AbortSignal,
): Promise<readonly ObjectWithOrigin[]> {
  const found = new Map<string, ObjectWithOrigin>()
  const prefix = `${objectsPrefix}${info.singular}/`
  for (const { key, value } of (await kv.list(prefix, signal)).entries) {
    const parsed = parseObjectText(value, { about: `${kv.name}: ${key}`, strict: !info.record })
    if (parsed.ok) found.set(refOf(parsed.object), { object: parsed.object, origin: key })
  }
  // What people wrote is in force over the store.
  for (const { object, file, line } of written.objects)
    if (object.kind === info.kind) found.set(refOf(object), { object, origin: `file ${file}:${line}` })
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each)
}

/** Opens the store of a host's configuration. Errors: CONFIG, those of the store. */
export async function openModelStore(config: Config, signal: AbortSignal): Promise<ModelStore> {
  const kv = await openKv(config)
  const nothing: ParsedDocuments = { objects: [], failed: [], problems: [] }
  const { store } = config
  const written = async (): Promise<ParsedDocuments> =>
    'file' in store ? await readDirectory(store.file) : nothing
  return {
    async get(kind, name) {
      const info = knownKind(kind)
      const files = await written()
      const all = await listObjects(kv, info, files, signal)
      const found = name === undefined ? all : [namedObject(all, info, name)]
      if (info.kind !== 'Service' && info.kind !== 'Network' && info.kind !== 'Port') return found
      const { entries } = await kv.list(allocPrefix, signal)
      const records = entries.map(
        ({ key, value }) => [key.slice(allocPrefix.length), ownerOf(value) ?? ''] as const,
      )
      if (info.kind === 'Service') return withValues(found, records)
      const list = async <K extends 'Network' | 'Port' | 'Cluster'>(
        of: K,
      ): Promise<readonly ObjectOfKind<K>[]> =>
        (await listObjects(kv, kinds[of], files, signal)).map(({ object }) => object as ObjectOfKind<K>)
      return withTenantValues(found, {
        networks: new Map((await list('Network')).map(object => [tenantName(object), object])),
        ports: new Map((await list('Port')).map(object => [tenantName(object), object])),
        clusters: new Map((await list('Cluster')).map(object => [object.metadata.name, object])),
        allocations: new Map(records.map(([key, owner]) => [key, { owner }])),
      })
    },
    apply: async (text, file) =>
      applyText(kv, text, file, { handWritten: (await written()).objects, signal }),
    delete: async ref => deleteRef(kv, ref, { handWritten: (await written()).objects, signal }),
    deleteMany: async refs => deleteRefs(kv, refs, { handWritten: (await written()).objects, signal }),
    close: () => kv.close(),
  }
}
