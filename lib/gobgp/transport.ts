// Calls of one gobgpd: unary, server streams read to the end, a client stream, and a stream that is followed. grpc-js is
// loaded with the first call. A channel that found nobody is thrown away: grpc would wait before it tries again, and a
// unix socket tells at once whether somebody listens.
import type * as Grpc from '@grpc/grpc-js'
import { gobgpFailure } from './failure.js'
import { loadWire, type Wire } from './wire.js'
import type { Draft, MessageName, Messages } from './wire-types.js'

export interface CallOptions {
  /** For the error's text: "add peer "192.0.2.1"". */
  readonly what: string
  /** Milliseconds. */
  readonly ms: number
}

export interface Transport {
  wire(): Promise<Wire>
  call<A extends MessageName, B extends MessageName>(
    method: string,
    request: readonly [A, Draft<Messages[A]>],
    answer: B,
    options: CallOptions,
  ): Promise<Messages[B]>
  /** What `read` makes of each message of the answer. */
  list<A extends MessageName, T>(
    method: string,
    request: readonly [A, Draft<Messages[A]>],
    read: (bytes: Buffer, wire: Wire) => T,
    options: CallOptions,
  ): Promise<T[]>
  send<A extends MessageName>(
    method: string,
    name: A,
    requests: Iterable<Draft<Messages[A]>>,
    options: CallOptions,
  ): Promise<void>
  /** Calls `each` for what `read` makes of every message until the signal aborts (resolves) or the stream breaks (rejects). */
  follow<A extends MessageName, T>(
    method: string,
    request: readonly [A, Draft<Messages[A]>],
    read: (bytes: Buffer, wire: Wire) => T,
    what: string,
    signal: AbortSignal,
    each: (read: T) => void,
  ): Promise<void>
  close(): void
}

interface Open {
  readonly client: Grpc.Client
  readonly wire: Wire
}

const path = (method: string): string => `/apipb.GobgpApi/${method}`
const unavailable = 14
const asIs = (bytes: Buffer): Buffer => bytes

export function openTransport(target: string, name: string): Transport {
  let opening: Promise<Open> | undefined
  let current: Grpc.Client | undefined
  let closed = false

  async function start(): Promise<Open> {
    const [grpc, wire] = await Promise.all([import('@grpc/grpc-js'), loadWire()])
    const client = new grpc.Client(target, grpc.credentials.createInsecure(), {
      // The beginning of a watch is one message, whatever the number of paths.
      'grpc.max_receive_message_length': 1 << 28,
      // 5,000 paths are some 1.7 MB: gobgpd need not wait for us after every 64 KiB, HTTP/2's own window.
      'grpc-node.flow_control_window': 4 << 20,
      // No proxy for a unix socket, whatever http_proxy says; a channel of our own, not the pool's.
      'grpc.enable_http_proxy': 0,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_channelz': 0,
    })
    current = client
    if (closed) client.close()
    return { client, wire }
  }
  const discard = (client: Grpc.Client): void => {
    if (client !== current || closed) return
    client.close()
    current = undefined
    opening = undefined
  }
  const open = (): Promise<Open> => {
    opening ??= start()
    return opening
  }
  const failure = (
    client: Grpc.Client,
    what: string,
    error: { readonly code: number; readonly details: string },
  ): Error => {
    if (error.code === unavailable) discard(client)
    return gobgpFailure(what, name, error.code, error.details)
  }

  return {
    wire: async () => (await open()).wire,
    call: async (method, [ask, message], answer, { what, ms }) => {
      const { client, wire } = await open()
      return new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          path(method),
          asIs,
          (bytes: Buffer) => wire.decode(answer, bytes),
          wire.encode(ask, message),
          { deadline: Date.now() + ms },
          (error, value) => {
            if (error !== null) reject(failure(client, what, error))
            else if (value !== undefined) resolve(value)
          },
        )
      })
    },
    list: async (method, [ask, message], read, { what, ms }) => {
      const { client, wire } = await open()
      return new Promise((resolve, reject) => {
        const found: ReturnType<typeof read>[] = []
        client
          .makeServerStreamRequest(
            path(method),
            asIs,
            (bytes: Buffer) => [read(bytes, wire)] as const,
            wire.encode(ask, message),
            { deadline: Date.now() + ms },
          )
          .on('data', ([value]: readonly [ReturnType<typeof read>]) => found.push(value))
          .on('error', (error: Grpc.ServiceError) => reject(failure(client, what, error)))
          .on('end', () => resolve(found))
      })
    },
    send: async (method, name, requests, { what, ms }) => {
      const { client, wire } = await open()
      return new Promise((resolve, reject) => {
        const stream = client.makeClientStreamRequest(
          path(method),
          asIs,
          (bytes: Buffer) => wire.decode('Empty', bytes),
          { deadline: Date.now() + ms },
          error => (error === null ? resolve() : reject(failure(client, what, error))),
        )
        // What it cannot take yet it queues; the callback above tells how the call ended.
        stream.on('error', () => undefined)
        for (const request of requests) stream.write(wire.encode(name, request))
        stream.end()
      })
    },
    follow: async (method, [ask, message], read, what, signal, each) => {
      const { client, wire } = await open()
      return new Promise((resolve, reject) => {
        const stream = client.makeServerStreamRequest(
          path(method),
          asIs,
          (bytes: Buffer) => [read(bytes, wire)] as const,
          wire.encode(ask, message),
        )
        const stop = (): void => stream.cancel()
        signal.addEventListener('abort', stop, { once: true })
        const end = (error?: Grpc.ServiceError): void => {
          signal.removeEventListener('abort', stop)
          if (signal.aborted) resolve()
          // A stream that gobgpd ends by itself is a gobgpd that ends.
          else reject(failure(client, what, error ?? { code: unavailable, details: 'ended' }))
        }
        stream.on('data', ([value]: readonly [ReturnType<typeof read>]) => {
          if (!signal.aborted) each(value)
        })
        stream.on('error', (error: Grpc.ServiceError) => end(error))
        stream.on('end', () => end())
        if (signal.aborted) stop()
      })
    },
    close: () => {
      closed = true
      current?.close()
    },
  }
}
