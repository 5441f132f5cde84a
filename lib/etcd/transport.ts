// One HTTP request to one endpoint of etcd, and its answer: whole, or as a stream of lines. What goes wrong is thrown as a
// Failure (failure.ts), the reason of an aborted signal as it is.
import { readFileSync } from 'node:fs'
import * as http from 'node:http'
import { WarrenError } from '../errors.js'
import { connectionFailure, type Failure, failureError, timeoutFailure } from './failure.js'

export type Json = { readonly [field: string]: unknown }

export interface EtcdTls {
  /** Paths of PEM files; read again now and then, so renewed certificates need no restart. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

export interface Question {
  readonly endpoint: string
  readonly path: string
  readonly body: Json
  readonly authorization: string | undefined
  /** Milliseconds until the head of the answer must be there. */
  readonly ms: number
  readonly signal: AbortSignal | undefined
  /** A connection of its own, for a stream. */
  readonly own: boolean
}

export interface Answer {
  readonly status: number
  readonly response: http.IncomingMessage
}

export interface Transport {
  ask(question: Question): Promise<Answer>
  close(): void
}

/** Idle connections that the pool may hold, and so find dead one after the other. */
export const maxFree = 2
const pemAge = 30_000

export function transport(tls: EtcdTls): Transport {
  const settings = { keepAlive: true, maxFreeSockets: maxFree, scheduling: 'lifo' as const }
  const agents = new Map<string, http.Agent>()
  const requests = new Set<http.ClientRequest>()
  let pem: { readonly files: Record<string, Buffer>; readonly at: number } | undefined

  function pemFiles(): Record<string, Buffer> {
    if (pem === undefined || performance.now() - pem.at > pemAge)
      pem = { files: readPem(tls), at: performance.now() }
    return pem.files
  }

  function pool(scheme: string, make: () => http.Agent): http.Agent {
    let agent = agents.get(scheme)
    if (agent === undefined) {
      agent = make()
      agents.set(scheme, agent)
    }
    return agent
  }

  /** https only where an endpoint needs it: loading it costs milliseconds. */
  async function open(question: Question, headers: http.OutgoingHttpHeaders): Promise<http.ClientRequest> {
    const url = `${question.endpoint}${question.path}`
    const method = 'POST'
    if (!url.startsWith('https:')) {
      const agent = question.own ? false : pool('http', () => new http.Agent(settings))
      return http.request(url, { method, headers, agent })
    }
    const files = pemFiles()
    const https = await import('node:https')
    const agent = question.own ? false : pool('https', () => new https.Agent(settings))
    return https.request(url, { method, headers, agent, ...files })
  }

  return {
    ask: async question => {
      const { endpoint, ms, signal } = question
      const text = JSON.stringify(question.body)
      const outgoing = await open(question, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(text),
        ...(question.authorization === undefined ? {} : { authorization: question.authorization }),
      })
      requests.add(outgoing)
      return new Promise((resolve, reject) => {
        let connected = false
        const settle = (): void => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', stop)
        }
        const fail = (cause: unknown): void => {
          settle()
          reject(cause)
          outgoing.destroy()
        }
        const stop = (): void => fail(signal?.reason)
        const timer = setTimeout(() => fail(timeoutFailure(endpoint, ms)), ms)
        signal?.addEventListener('abort', stop, { once: true })
        outgoing.on('socket', socket => {
          connected = !socket.connecting // an idle one of the pool is, and has no such event any more
          const event = endpoint.startsWith('https:') ? 'secureConnect' : 'connect'
          if (!connected) {
            socket.once(event, () => {
              connected = true
            })
          }
          // A stream is silent for hours: let the kernel find out that the other side is gone. Probes each second after 3.
          if (question.own) socket.setKeepAlive(true, 3_000)
        })
        outgoing.on('error', error =>
          fail(connectionFailure(endpoint, error, connected, outgoing.reusedSocket)),
        )
        outgoing.on('close', () => requests.delete(outgoing))
        outgoing.on('response', response => {
          settle()
          resolve({ status: response.statusCode ?? 0, response })
        })
        if (signal?.aborted) stop()
        else outgoing.end(text)
      })
    },
    close: () => {
      for (const outgoing of requests) outgoing.destroy()
      for (const agent of agents.values()) agent.destroy()
    },
  }
}

function readPem(tls: EtcdTls): Record<string, Buffer> {
  const files: Record<string, Buffer> = {}
  for (const name of ['ca', 'cert', 'key'] as const) {
    const path = tls[name]
    if (path === undefined) continue
    try {
      files[name] = readFileSync(path)
    } catch (error) {
      throw new WarrenError(
        `Cannot read "${path}": ${error instanceof Error ? error.message : String(error)}`,
        {
          code: 'UNAUTHENTICATED',
          hint: `store.etcd.tls.${name} is the path of a PEM file`,
          cause: error,
        },
      )
    }
  }
  return files
}

function parseLine(text: string, endpoint: string): Json {
  try {
    const parsed: unknown = JSON.parse(text)
    if (typeof parsed === 'object' && parsed !== null) return parsed as Json
  } catch {
    // said below
  }
  throw connectionFailure(
    endpoint,
    new Error(`it answers "${text.slice(0, 60).trim()}", which is no JSON`),
    true,
  )
}

export function readBody(
  response: http.IncomingMessage,
  endpoint: string,
  ms: number,
  said: number,
  signal: AbortSignal | undefined,
): Promise<Json> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const settle = (done: () => void): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
      done()
    }
    const fail = (cause: unknown): void => {
      settle(() => reject(cause))
      response.destroy()
    }
    const timer = setTimeout(() => fail(timeoutFailure(endpoint, said)), ms)
    const stop = (): void => fail(signal?.reason)
    signal?.addEventListener('abort', stop, { once: true })
    response.on('data', (chunk: Buffer) => chunks.push(chunk))
    response.on('error', error => fail(connectionFailure(endpoint, error, true)))
    response.on('close', () => {
      if (!response.complete)
        fail(
          connectionFailure(
            endpoint,
            Object.assign(new Error('connection lost'), { code: 'ECONNRESET' }),
            true,
          ),
        )
    })
    response.on('end', () => {
      settle(() => {
        const text = Buffer.concat(chunks).toString('utf8')
        try {
          // A stream of one message (lease/keepalive) is one line.
          resolve(parseLine(text === '' ? '{}' : text, endpoint))
        } catch (error) {
          if (response.statusCode === 200) reject(error)
          else resolve({ message: text.trim() })
        }
      })
    })
  })
}

/** What to do with lines that came together; what it returns is waited for before the next ones. */
export type LinesFound = (lines: readonly Json[]) => Promise<void> | undefined

/**
 * Shows the whole lines of each piece as it comes, without a turn of the event loop in between. Resolves when the server
 * ends it, rejects when the connection is lost, a line is no JSON or `found` throws.
 */
export function readLines(
  response: http.IncomingMessage,
  endpoint: string,
  action: string,
  found: LinesFound,
): Promise<void> {
  let rest: Buffer[] = []
  /** The whole lines up to and with this piece. */
  const textOf = (chunk: Buffer): string => {
    const end = chunk.lastIndexOf(10)
    if (end < 0) {
      rest.push(chunk)
      return ''
    }
    const whole = chunk.subarray(0, end)
    const text = rest.length === 0 ? whole.toString() : Buffer.concat([...rest, whole]).toString()
    rest = end + 1 < chunk.length ? [chunk.subarray(end + 1)] : []
    return text
  }
  return new Promise((resolve, reject) => {
    let over = false
    const fail = (error: unknown): void => {
      over = true
      const known = error instanceof WarrenError
      reject(
        known
          ? error
          : failureError(action, [isFailure(error) ? error : connectionFailure(endpoint, error, true)]),
      )
      response.destroy()
    }
    const show = (text: string): Promise<void> | undefined => {
      const lines: Json[] = []
      let wrong: unknown
      try {
        for (const line of text.split('\n')) if (line.trim() !== '') lines.push(parseLine(line, endpoint))
      } catch (error) {
        wrong = error
      }
      const wait = lines.length === 0 ? undefined : found(lines)
      if (wrong !== undefined) throw wrong
      return wait
    }
    response.on('data', (chunk: Buffer) => {
      const text = textOf(chunk)
      if (text === '' || over) return
      try {
        const wait = show(text)
        if (wait === undefined) return
        response.pause()
        wait.then(() => response.resume(), fail)
      } catch (error) {
        fail(error)
      }
    })
    response.on('error', fail)
    response.on('end', () => resolve())
    response.on('close', () => {
      if (!response.complete) fail(Object.assign(new Error('connection lost'), { code: 'ECONNRESET' }))
    })
  })
}

export function isFailure(error: unknown): error is Failure {
  return typeof error === 'object' && error !== null && 'elsewhere' in error && 'endpoint' in error
}
