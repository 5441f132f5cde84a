// HTTP listeners that answer one question each: is it well here? One port, one answer, every path, no body read; for load
// balancers that probe a node. node:http is loaded with the first of them.
import type { Server } from 'node:http'
import { codeOf, WarrenError } from '../errors.js'

export interface Answer {
  readonly status: 200 | 503
  readonly body: string
}

export interface Answers {
  /** Listens on every address of this host, or changes what is said there. Errors: those of bind(2), by port. */
  set(port: number, answer: Answer): Promise<void>
  /** Ends connections too. */
  remove(port: number): void
  close(): void
}

interface Listener {
  readonly server: Server
  answer: Answer
}

class HttpAnswers implements Answers {
  readonly #listeners = new Map<number, Listener>()
  #closed = false

  async set(port: number, answer: Answer): Promise<void> {
    const known = this.#listeners.get(port)
    if (known !== undefined) {
      known.answer = answer
      return
    }
    const { createServer } = await import('node:http')
    const server = createServer((_request, response) => {
      const { status, body } = listener.answer
      response.writeHead(status, {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'x-content-type-options': 'nosniff',
        connection: 'close',
      })
      response.end(body)
    })
    const listener: Listener = { server, answer }
    server.maxHeadersCount = 50
    server.headersTimeout = 5000
    server.requestTimeout = 5000
    await listening(server, port)
    server.on('error', () => undefined)
    // Ended meanwhile.
    if (this.#closed) server.close()
    else this.#listeners.set(port, listener)
  }

  remove(port: number): void {
    const listener = this.#listeners.get(port)
    this.#listeners.delete(port)
    listener?.server.close()
    listener?.server.closeAllConnections()
  }

  close(): void {
    this.#closed = true
    for (const port of [...this.#listeners.keys()]) this.remove(port)
  }
}

/** `::` takes IPv4 too; a kernel without IPv6 has 0.0.0.0. */
async function listening(server: Server, port: number): Promise<void> {
  for (const host of ['::', '0.0.0.0']) {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen({ port, host }, () => {
          server.off('error', reject)
          resolve()
        })
      })
      return
    } catch (cause) {
      const code = codeOf(cause)
      if (host === '::' && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) continue
      throw new WarrenError(`Cannot listen on port ${port}: ${code}`, {
        code: code ?? 'UNKNOWN',
        cause,
        ...(code === 'EADDRINUSE' ? { hint: `see who has it: ss -tlnp sport = :${port}` } : {}),
      })
    }
  }
}

export function createAnswers(): Answers {
  return new HttpAnswers()
}
