// A wire between a warrend and etcd that knows when etcd's answer about a key went into warrend's socket: that moment is
// where "the store's answer is in our process" begins, seen from outside.
import { connect, createServer } from 'node:net'

export interface Tap {
  readonly url: string
  /** Calls `seen` with each key (relative to /warren/) of what etcd sends from now on, and when it was handed on. */
  watch(seen: (key: string, at: number) => void): void
  close(): void
}

const prefix = '/warren/'

/** `host`: where it listens, and where etcd does. */
export async function startTap(host: string, port: number): Promise<Tap> {
  let seen: ((key: string, at: number) => void) | undefined
  const server = createServer(inner => {
    const outer = connect({ host, port })
    // The end of a key that the next piece completes.
    let rest = ''
    inner.setNoDelay(true)
    outer.setNoDelay(true)
    inner.on('data', data => void outer.write(data))
    outer.on('data', data => {
      const at = performance.now()
      inner.write(data)
      if (seen === undefined) return
      const text = rest + data.toString('latin1')
      const keys = /"key":"([\w+/=]+)"/g
      let end = 0
      for (let found = keys.exec(text); found !== null; found = keys.exec(text)) {
        end = keys.lastIndex
        const key = Buffer.from(found[1] ?? '', 'base64').toString()
        if (key.startsWith(prefix)) seen(key.slice(prefix.length), at)
      }
      rest = text.slice(Math.max(end, text.length - 400))
    })
    inner.on('close', () => outer.destroy()).on('error', () => outer.destroy())
    outer.on('close', () => inner.destroy()).on('error', () => inner.destroy())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen({ host, port: port - 2000 }, () => resolve())
  })
  return {
    url: `http://${host}:${port - 2000}`,
    watch(listener) {
      seen = listener
    },
    close: () => void server.close(),
  }
}
