// Questions and answers between namespaces, all in this process: a socket belongs to the namespace that it was made in,
// whoever waits for it. Every backend answers "NAME PORT CLIENT-ADDRESS CLIENT-PORT".
import { createSocket } from 'node:dgram'
import { createServer, Socket } from 'node:net'
import { hasCode } from '../../lib/errors.js'
import type { Family } from '../../lib/netlink/types.js'
import { bind, connect, listen, sendto, setsockopt, socket } from '../../lib/netns/libc.js'
import type { Netns } from '../../lib/netns/netns.js'
import { sockaddr } from './packets.js'
import { attention } from './service-world-attention.js'
import type { Inits } from './service-world-sctp.js'

const AF_INET = 2
const AF_INET6 = 10
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOL_SOCKET = 1
const SO_REUSEPORT = 15

export const families: readonly Family[] = ['inet', 'inet6']
export type Protocol = 'tcp' | 'udp' | 'sctp'

export type Answer =
  | {
      readonly kind: 'answered'
      /** Name and port of the backend. */
      readonly by: string
      readonly port: number
      /** The client as the backend saw it. */
      readonly seen: string
      readonly seenPort: number
      readonly ms: number
    }
  /** RST, ICMP unreachable; `END`: closed without an answer. */
  | { readonly kind: 'refused'; readonly code: string; readonly ms: number }
  | { readonly kind: 'dropped' }

export interface Question {
  readonly protocol: Protocol
  readonly to: string
  readonly port: number
  /** Source address; default: what the kernel takes. */
  readonly from?: string | undefined
  /** Default: one that this station has not had for long. */
  readonly fromPort?: number | undefined
  /** Patience, ms. */
  readonly ms?: number | undefined
}

/** A UDP source port, or a TCP connection, that is asked again and again. */
export interface Flow {
  readonly port: number
  /** One exchange after the other; never rejects. */
  ask(ms?: number): Promise<Answer>
  close(): void
}

const backlog = 4096
/** libuv takes one connection of a socket a turn of its loop; a busy process has few turns. */
const acceptors = 16
/** Longer than the second after which a SYN is sent again. */
const patience = 1_300
/** Source ports of UDP below those of Services: none is met a second time before 19,000 others. */
const ports = { first: 10_240, last: 29_999 }

const plain = (address = ''): string => address.replace(/^::ffff:(?=[0-9.]+$)/, '')
const domainOf = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET)
const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error)

function answerOf(text: string, ms: number): Answer {
  const [by = '', port = '', seen = '', seenPort = ''] = text.trim().split(' ')
  return { kind: 'answered', by, port: Number(port), seen, seenPort: Number(seenPort), ms }
}

/** What waits for one answer at a time. */
class Waiter {
  #tell: ((answer: Answer) => void) | undefined
  #since = 0

  heard(text: string): void {
    this.#tell?.(answerOf(text, attention.now - this.#since))
  }

  failed(error: unknown): void {
    this.#tell?.({ kind: 'refused', code: codeOf(error), ms: attention.now - this.#since })
  }

  wait(ms: number, send: () => void): Promise<Answer> {
    return new Promise(resolve => {
      this.#since = attention.now
      const stop = attention.wait(ms, () => this.#tell?.({ kind: 'dropped' }))
      this.#tell = answer => {
        this.#tell = undefined
        stop()
        resolve(answer)
      }
      try {
        send()
      } catch (error) {
        // The own kernel's rules dropped it; if they refused it, ECONNREFUSED comes next.
        if (!hasCode(error, 'EPERM')) this.failed(error)
      }
    })
  }
}

/** One of several sockets that share a TCP port. */
function listening(port: number): number {
  const fd = socket(AF_INET6, SOCK_STREAM, 0)
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1)
  bind(fd, sockaddr('::', port))
  listen(fd, backlog)
  return fd
}

/** A namespace that asks and answers. */
export class Station {
  readonly name: string
  readonly netns: Netns
  readonly #inits: Inits
  readonly #open = new Set<{ close(): void }>()
  readonly #taken = new Set<Socket>()
  #port = ports.first

  constructor(name: string, netns: Netns, inits: Inits) {
    this.name = name
    this.netns = netns
    this.#inits = inits
  }

  /** A UDP or SCTP source port that was not used lately. */
  nextPort(): number {
    this.#port = this.#port >= ports.last ? ports.first : this.#port + 1
    return this.#port
  }

  /** Answers on these TCP and UDP ports of every address, and takes every SCTP INIT. */
  serve(...numbers: readonly number[]): void {
    this.#inits.serve(this.name, this.netns)
    for (const port of numbers) {
      const [streams, datagram] = this.netns.run(() => {
        const udp = socket(AF_INET6, SOCK_DGRAM, 0)
        bind(udp, sockaddr('::', port))
        return [Array.from({ length: acceptors }, () => listening(port)), udp] as const
      })
      for (const stream of streams) this.#serveTcp(stream, port)
      this.#serveUdp(datagram, port)
    }
  }

  #serveTcp(fd: number, port: number): void {
    const server = createServer(client => {
      this.#taken.add(client)
      const text = `${this.name} ${port} ${plain(client.remoteAddress)} ${client.remotePort}\n`
      client
        .on('data', () => client.write(text))
        .on('error', () => client.destroy())
        .on('close', () => this.#taken.delete(client))
    })
    server.listen({ fd, backlog })
    this.#open.add(server)
  }

  #serveUdp(fd: number, port: number): void {
    const server = createSocket({ type: 'udp6' })
    server
      .on('message', (_data, { address, port: from }) => {
        server.send(`${this.name} ${port} ${plain(address)} ${from}\n`, from, address, () => undefined)
      })
      .on('error', () => undefined)
      .bind({ fd, exclusive: true })
    this.#open.add(server)
  }

  /** One question with a source port of its own. */
  async ask(question: Question): Promise<Answer> {
    const { protocol, ms = patience } = question
    if (protocol !== 'sctp') {
      const flow = this.flow(question)
      const answer = await flow.ask(ms)
      flow.close()
      return answer
    }
    const since = attention.now
    const fate = await this.#inits.ask(this.netns, {
      ...question,
      fromPort: question.fromPort ?? this.nextPort(),
      ms,
    })
    if (fate === undefined) return { kind: 'dropped' }
    const took = attention.now - since
    if (typeof fate === 'string') return { kind: 'refused', code: fate, ms: took }
    return { kind: 'answered', ...fate, ms: took }
  }

  flow(question: Question): Flow {
    return question.protocol === 'tcp' ? this.#tcp(question) : this.#udp(question)
  }

  #udp({ to, port, from, fromPort = this.nextPort() }: Question): Flow {
    const fd = this.netns.run(() => {
      const made = socket(domainOf(to), SOCK_DGRAM, 0)
      bind(made, sockaddr(from ?? (to.includes(':') ? '::' : '0.0.0.0'), fromPort))
      connect(made, sockaddr(to, port))
      return made
    })
    const waiter = new Waiter()
    const client = createSocket({ type: to.includes(':') ? 'udp6' : 'udp4' })
    client
      .on('message', data => waiter.heard(data.toString()))
      .on('error', error => waiter.failed(error))
      .bind({ fd, exclusive: true })
    this.#open.add(client)
    return {
      port: fromPort,
      ask: (ms = patience) => waiter.wait(ms, () => sendto(fd, Buffer.from('?'))),
      close: () => {
        if (this.#open.delete(client)) client.close()
      },
    }
  }

  #tcp({ to, port, from, fromPort = 0 }: Question): Flow {
    const waiter = new Waiter()
    const end = Object.assign(new Error('closed without an answer'), { code: 'END' })
    let gone: unknown
    const fail = (error: unknown): void => {
      gone ??= error
      waiter.failed(error)
    }
    const fd = this.netns.run(() => {
      const made = socket(domainOf(to), SOCK_STREAM, 0)
      if (from !== undefined || fromPort > 0) bind(made, sockaddr(from ?? '::', fromPort))
      try {
        connect(made, sockaddr(to, port))
      } catch (error) {
        if (!hasCode(error, 'EINPROGRESS')) gone = error
      }
      return made
    })
    const client = new Socket({ fd, readable: true, writable: true })
    client
      .on('data', data => waiter.heard(data.toString()))
      .on('error', fail)
      .on('end', () => fail(end))
      .on('close', () => fail(end))
    this.#taken.add(client)
    return {
      port: fromPort,
      ask: (ms = patience) =>
        waiter.wait(ms, () => {
          if (gone !== undefined) throw gone
          client.write('?')
        }),
      close: () => {
        this.#taken.delete(client)
        client.destroy()
      },
    }
  }

  /** Ends every connection that this station has taken. */
  hangUp(): void {
    for (const client of this.#taken) client.destroy()
  }

  close(): void {
    for (const each of this.#open) each.close()
    this.hangUp()
  }
}
