// What of Warren goes into a bundle: the configuration, what warrend says, the model, what the doctor finds, the state on disk.
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { describeError, WarrenError } from '../../lib/errors.js'
import { parseYaml } from '../../lib/yaml/yaml.js'
import type { Client } from '../api/client.js'
import type { Config } from '../config.js'
import { openSpeaker } from '../dataplane/bgp-speaker.js'
import { metricsEndpoints } from '../metrics/endpoints.js'
import { type Kind, kinds, type ModelObject } from '../model/kinds.js'
import { openModelStore } from '../model-store.js'
import { loadModel } from '../snapshot-file.js'
import { file as fileItem, type Item, made } from './item.js'
import type { Redactor } from './redact.js'

export interface WarrenSources {
  readonly configFile: string
  /** Undefined: it is missing or wrong, and `configError` says why. */
  readonly config: Config | undefined
  readonly configError: string | undefined
  /** Undefined: warrend does not answer. */
  readonly client: Client | undefined
  readonly doctor: () => Promise<unknown>
}

/** Objects of one kind. */
const mostObjects = 20_000
const mostPaths = 20_000
/** Of the snapshot's first line, which is its head. */
const headBytes = 1 << 20

/** Secrets that the configuration leads to; its own go by the names of their fields. */
export function learnSecrets({ config, configFile }: WarrenSources, redactor: Redactor): void {
  try {
    for (const { value } of parseYaml(readFileSync(configFile, 'utf8'))) redactor.value(value)
  } catch {
    // There is none, or it is no YAML: it is not taken along either.
  }
  const user = config !== undefined && 'etcd' in config.store ? config.store.etcd.user : undefined
  if (user?.passwordFile === undefined) return
  try {
    const text = readFileSync(user.passwordFile, 'utf8')
    for (const line of [text, ...text.split('\n')]) redactor.add(line.trim())
  } catch {
    // Not there, or not ours to read: then its contents are nowhere here.
  }
}

function configuration({ configFile }: WarrenSources): Item {
  return made('config/warrend.json', `${configFile}, without comments`, async () => {
    const documents = parseYaml(readFileSync(configFile, 'utf8'))
    // Its text would say what stands there.
    const wrong = documents.find(({ error }) => error !== undefined)
    if (wrong !== undefined) throw new WarrenError(`no YAML, line ${wrong.error?.line}`, { code: 'CONFIG' })
    return documents.map(({ value }) => value)
  })
}

/** The first that answers: warrend, the store itself, the last good model on disk. */
async function modelOf(
  { client, config }: WarrenSources,
  signal: AbortSignal,
): Promise<{ readonly from: string; readonly objects: ReadonlyMap<Kind, readonly unknown[]> }> {
  const all = Object.keys(kinds) as Kind[]
  if (client !== undefined) {
    const found = await Promise.all(all.map(async kind => [kind, await client.get(kind)] as const))
    return { from: 'warrend', objects: new Map(found) }
  }
  if (config === undefined) throw new WarrenError('neither warrend nor a configuration', { code: 'CONFIG' })
  try {
    // Nothing is made where nothing is.
    if ('file' in config.store && !existsSync(config.store.file))
      throw new WarrenError(`there is no ${config.store.file}`, { code: 'ENOENT' })
    const store = await openModelStore(config, signal)
    try {
      const found = await Promise.all(all.map(async kind => [kind, await store.get(kind)] as const))
      return { from: 'the store', objects: new Map(found) }
    } finally {
      await store.close()
    }
  } catch (error) {
    const saved = loadModel(`${config.stateDir}/snapshot.json`)
    if (saved === undefined) throw error
    const objects = new Map<Kind, readonly unknown[]>()
    const add = (object: unknown, origin: string): void => {
      const { kind } = object as Pick<ModelObject, 'kind'>
      objects.set(kind, [...(objects.get(kind) ?? []), { object, origin }])
    }
    for (const { ref, object } of saved.store.objects) add(object, ref)
    for (const { file, line, object } of saved.directory?.objects ?? []) add(object, `file ${file}:${line}`)
    return { from: `the last good model on disk (${describeError(error)})`, objects }
  }
}

function modelItems(sources: WarrenSources): readonly Item[] {
  let model: ReturnType<typeof modelOf> | undefined
  return (Object.keys(kinds) as Kind[]).map(
    (kind): Item => ({
      path: `model/${kinds[kind].plural}.json`,
      from: `objects of kind ${kind}`,
      deadline: 15_000,
      async take(signal) {
        model ??= modelOf(sources, signal)
        const { from, objects } = await model
        const own = objects.get(kind) ?? []
        const cut = own.length > mostObjects ? `${mostObjects} of ${own.length}` : undefined
        return {
          content: { json: { from, objects: own.slice(0, mostObjects) } },
          ...(cut === undefined ? {} : { cut }),
        }
      },
    }),
  )
}

function daemonItems(client: Client): readonly Item[] {
  const asked = (path: string, from: string, make: () => Promise<unknown>): Item =>
    made(`warrend/${path}.json`, from, make, 10_000)
  return [
    asked('status', 'GET /v1/status', () => client.status()),
    asked('plan', 'POST /v1/plan', () => client.plan()),
    asked('events', 'GET /v1/events', () => client.events()),
    asked('desired', 'GET /v1/show/desired', () => client.show('desired')),
    asked('observed', 'GET /v1/show/observed', () => client.show('observed')),
    asked('services', 'GET /v1/services', () => client.services({ connections: false })),
    asked('bgp', 'GET /v1/bgp', () => client.bgp()),
    asked('bgp-routes', 'GET /v1/bgp/routes', () => client.bgpRoutes()),
  ]
}

function metrics(config: Config): Item {
  const { socket } = metricsEndpoints(config)
  return {
    path: 'warrend/metrics.txt',
    from: `GET /metrics on ${socket?.path ?? 'no socket'}`,
    take: signal =>
      new Promise((resolve, reject) => {
        if (socket === undefined) throw new WarrenError('metrics.socket is none', { code: 'CONFIG' })
        const call = request(
          { socketPath: socket.path, path: '/metrics', agent: false, signal },
          response => {
            let text = ''
            response.setEncoding('utf8').on('data', (part: string) => {
              text += part
            })
            response.once('error', reject)
            response.once('end', () => resolve({ content: { text } }))
          },
        )
        call.once('error', reject)
        call.end()
      }),
  }
}

/** gobgpd itself: what it has without warrend. */
function gobgpd({ gobgp: { socket } }: Config): Item {
  return made(
    'gobgpd/gobgpd.json',
    `gobgpd on ${socket}: global, neighbors, RIB`,
    async () => {
      if (!existsSync(socket)) throw new WarrenError(`there is no ${socket}`, { code: 'ENOENT' })
      const speaker = await openSpeaker(socket)
      try {
        await speaker.check()
        const [global, peers, four, six] = await Promise.all([
          speaker.global(),
          speaker.peers({ advertised: true }),
          speaker.paths('global', 'inet'),
          speaker.paths('global', 'inet6'),
        ])
        const paths = [...four, ...six]
        return { global, peers, pathCount: paths.length, paths: paths.slice(0, mostPaths) }
      } finally {
        speaker.close()
      }
    },
    10_000,
  )
}

/** The head of the snapshot and what it is made of; its objects are in model/. */
function snapshotFacts(path: string): unknown {
  const { size, mtime, mode } = statSync(path)
  const bytes = Buffer.alloc(Math.min(size, headBytes))
  const fd = openSync(path, 'r')
  try {
    readSync(fd, bytes, 0, bytes.length, 0)
  } finally {
    closeSync(fd)
  }
  const about = { path, size, mode: (mode & 0o777).toString(8), saved: mtime.toISOString() }
  const line = bytes.toString('utf8').split('\n')[0] ?? ''
  try {
    const head = JSON.parse(line.replace(/^\[/, '').replace(/,$/, '')) as Readonly<Record<string, unknown>>
    const { name, format, revision, lost, held, resume } = (head['store'] ?? {}) as Readonly<
      Record<string, unknown>
    >
    const directory = head['directory'] as
      | { readonly path?: unknown; readonly objects?: readonly unknown[] }
      | undefined
    const count = (list: unknown): number | undefined => (Array.isArray(list) ? list.length : undefined)
    return {
      ...about,
      version: head['version'],
      program: head['program'],
      store: { name, format, revision, lost, held, resumes: resume !== undefined },
      ...(directory === undefined
        ? {}
        : { directory: { path: directory.path, objects: count(directory.objects) } }),
    }
  } catch {
    return { ...about, head: `cannot be read within its first ${headBytes} bytes` }
  }
}

function stateItems({ stateDir }: Config): readonly Item[] {
  return [
    made('state/snapshot.json', `head of ${stateDir}/snapshot.json`, async () =>
      snapshotFacts(join(stateDir, 'snapshot.json')),
    ),
    made('state/files.json', `names, sizes and dates in ${stateDir}`, async () =>
      readdirSync(stateDir, { recursive: true, encoding: 'utf8' })
        .slice(0, 2000)
        .map(name => {
          const stat = statSync(join(stateDir, name), { throwIfNoEntry: false })
          return { name, size: stat?.size, changed: stat?.mtime.toISOString() }
        }),
    ),
    fileItem('state/sysctl.json', join(stateDir, 'sysctl.json')),
  ]
}

export function warrenItems(sources: WarrenSources): readonly Item[] {
  const { config, client } = sources
  return [
    configuration(sources),
    made('doctor.json', 'warren doctor -o json', sources.doctor, 10_000),
    ...(client === undefined ? [] : daemonItems(client)),
    ...modelItems(sources),
    ...(config === undefined ? [] : [metrics(config), gobgpd(config), ...stateItems(config)]),
  ]
}
