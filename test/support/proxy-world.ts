// Servers and clients around a userspace proxy, on the loopback of the test's own network namespace.
import { createSocket, type Socket as Datagrams } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'

export interface TcpServer {
  readonly port: number
  /** Connections taken since the start. */
  taken: number
  readonly sockets: Set<Socket>
  close(): Promise<void>
}

/** Answers with `name` to every connection's first byte, or does what `serve` does. */
export async function tcpServer(
  name: string,
  serve: (socket: Socket) => void = socket => void socket.once('data', () => socket.end(name)),
  host = '127.0.0.1',
): Promise<TcpServer> {
  const sockets = new Set<Socket>()
  const server: Server = createServer({ allowHalfOpen: true }, socket => {
    self.taken += 1
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined)
    serve(socket)
  })
  server.listen({ port: 0, host, backlog: 4096 })
  await once(server, 'listening')
  const self: TcpServer = {
    port: (server.address() as { port: number }).port,
    taken: 0,
    sockets,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  return self
}

export async function dial(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host, allowHalfOpen: true })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** Everything that comes until the end; rejects with the error. */
export function readAll(socket: Socket): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    socket.on('data', (part: Buffer) => parts.push(part))
    socket.on('end', () => resolve(Buffer.concat(parts)))
    socket.on('error', reject)
    socket.on('close', failed => failed || resolve(Buffer.concat(parts)))
  })
}

/** One exchange: which server answered. Rejects when the connection is reset. */
export async function ask(port: number, host = '127.0.0.1'): Promise<string> {
  const socket = connect({ port, host, allowHalfOpen: true })
  const answer = readAll(socket)
  socket.end('?')
  return (await answer).toString()
}

/** The error code that ends a connection; '' for an orderly end. */
export function fate(socket: Socket): Promise<string> {
  return new Promise(resolve => {
    socket.resume()
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? '?'))
    socket.once('close', failed => failed || resolve(''))
    socket.once('end', () => socket.end())
  })
}

export interface UdpServer {
  readonly port: number
  /** "address:port" of whoever sent. */
  readonly peers: Set<string>
  close(): void
}

/** Answers `name` and what was sent. */
/** `delayMs`: it thinks that long. */
export async function udpServer(name: string, host = '127.0.0.1', port = 0, delayMs = 0): Promise<UdpServer> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  const peers = new Set<string>()
  socket.on('message', (data, from) => {
    peers.add(`${from.address}:${from.port}`)
    const answer = (): void => socket.send(Buffer.concat([Buffer.from(name), data]), from.port, from.address)
    if (delayMs === 0) answer()
    else setTimeout(answer, delayMs)
  })
  socket.bind(port, host)
  await once(socket, 'listening')
  return { port: socket.address().port, peers, close: () => socket.close() }
}

export interface UdpClient {
  /** The answer, or undefined when none comes in `ms`. */
  ask(data: string | Buffer, port: number, host?: string, ms?: number): Promise<Buffer | undefined>
  close(): void
}

export async function udpClient(host = '127.0.0.1'): Promise<UdpClient> {
  const socket: Datagrams = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  socket.on('error', () => undefined)
  socket.bind(0, host.includes(':') ? '::' : '0.0.0.0')
  await once(socket, 'listening')
  return {
    async ask(data, port, to = host, ms = 15_000) {
      const late = AbortSignal.timeout(ms)
      const answer = once(socket, 'message', { signal: late }) as Promise<[Buffer]>
      socket.send(data, port, to)
      return await answer.then(
        ([heard]) => heard,
        () => undefined,
      )
    },
    close: () => socket.close(),
  }
}
