// A stream of etcd's gateway as pieces of bytes: what came together is shown together, before anything else runs.
import * as http from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { asError } from '../../lib/errors.js'
import { gateway, type Json } from '../../lib/etcd/gateway.js'

interface Shown {
  /** Values of `n`, with a `-` at each turn of the promises in between. */
  readonly text: string
  readonly error: string
}

interface Options {
  /** How the answer ends: as it should, or with its connection. */
  readonly cut?: boolean
  /** Each call asks to be waited for. */
  readonly slow?: boolean
}

/** Sends the pieces: each once the whole lines of those before it were shown. */
async function read(pieces: readonly Buffer[], { cut = false, slow = false }: Options = {}): Promise<Shown> {
  let text = ''
  let count = 0
  let wake = (): void => undefined
  let busy = false
  const server = http.createServer(async (_request, response) => {
    let lines = 0
    for (const piece of pieces) {
      await new Promise<void>(written => void response.write(piece, () => written()))
      lines += piece.filter(byte => byte === 10).length
      while (count < lines)
        await new Promise<void>(resolve => {
          wake = resolve
        })
    }
    if (cut) response.destroy()
    else response.end()
  })
  await new Promise<void>(listening => void server.listen(0, '127.0.0.1', () => listening()))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const gate = gateway({ endpoints: [endpoint], timeoutMs: 10_000 })
  const found = (lines: readonly Json[]): Promise<void> | undefined => {
    if (busy) text += '!'
    for (const line of lines) {
      text += String(line['n'])
      count += 1
      void Promise.resolve().then(() => {
        if (!text.endsWith('-')) text += '-'
        wake()
      })
    }
    if (!slow) return undefined
    busy = true
    return new Promise(resolve =>
      setImmediate(() => {
        busy = false
        resolve()
      }),
    )
  }
  let error = ''
  try {
    const stream = await gate.stream('watch', '/v3/watch', {}, new AbortController().signal)
    await stream.read(found)
  } catch (caught) {
    error = asError(caught).code
  }
  gate.close()
  server.closeAllConnections()
  server.close()
  return { text, error }
}

const line = (n: number | string): Buffer => Buffer.from(`${JSON.stringify({ n })}\n`)
const together = (...parts: readonly Buffer[]): Buffer => Buffer.concat(parts)

void t.test('etcd: lines of one piece are shown in one turn, those of the next in another', async t => {
  const pieces = [together(line(1), line(2), line(3)), line(4)]
  t.same(await read(pieces), { text: '123-4-', error: '' })
  t.same(await read(pieces, { slow: true }), { text: '123-4-', error: '' }, 'also who is waited for')
})

void t.test('etcd: a line in several pieces is one, also where a character is cut', async t => {
  const all = together(line('é'), line(2))
  const cut = all.indexOf(Buffer.from('é')) + 1
  const pieces = [all.subarray(0, 3), all.subarray(3, cut), all.subarray(cut, -4), all.subarray(-4)]
  const { text, error } = await read(pieces)
  t.equal(text.replaceAll('-', ''), 'é2')
  t.equal(error, '')
})

void t.test('etcd: what came before a line that is no JSON is shown; then the stream fails', async t => {
  t.same(await read([together(line(1), Buffer.from('nonsense'), Buffer.from('\n'), line(2))]), {
    text: '1-',
    error: 'UNAVAILABLE',
  })
})

void t.test('etcd: a connection that is cut is a failure, an answer that ends is none', async t => {
  t.same(await read([line(1)], { cut: true }), { text: '1-', error: 'UNAVAILABLE' })
  t.same(await read([line(1)]), { text: '1-', error: '' })
})
