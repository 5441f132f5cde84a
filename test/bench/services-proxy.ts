// The userspace proxy against the direct path: one stream, connections, CPU. In a process of its own, whose thread moves to
// a fresh network namespace for good: nothing of the host's filter is on the way, so that the ratios are the proxy's own.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { unshareNet } from '../../lib/netns/libc.js'
import { createProxy } from '../../lib/proxy/proxy.js'
import { runChild } from './child.js'
import { median, type Row, row, spread } from './row.js'

interface Figures {
  readonly gbits: { readonly direct: readonly number[]; readonly proxied: readonly number[] }
  /** Seconds of CPU that the proxy's process took for each gigabyte. */
  readonly cpu: readonly number[]
  readonly perSecond: { readonly direct: readonly number[]; readonly proxied: readonly number[] }
}

const size = 1 << 30
const parallel = 32

/** What sends a gigabyte to every connection that asks with "B", and one byte to any other. */
const serverText = `
  const chunk = Buffer.alloc(1 << 20)
  const server = require('node:net').createServer(socket => {
    socket.on('error', () => {}).once('data', ask => {
      if (ask[0] !== 66) return socket.end('.')
      let left = ${size} / chunk.length
      const more = () => {
        while (left > 0) if (left--, !socket.write(chunk)) return
        socket.end()
      }
      socket.on('drain', more)
      more()
    })
  })
  server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => process.send(server.address().port))
  process.on('disconnect', () => process.exit())`

/** Gbit/s of one stream; read into one buffer, so that the client costs as little as it can. */
async function stream(port: number): Promise<number> {
  let got = 0
  const socket = connect({
    port,
    host: '127.0.0.1',
    onread: {
      buffer: Buffer.alloc(1 << 18),
      callback: read => {
        got += read
        return true
      },
    },
  })
  await once(socket, 'connect')
  const began = performance.now()
  socket.write('B')
  await once(socket, 'close')
  if (got !== size) throw new Error(`${got} of ${size} bytes came`)
  return (got * 8) / (performance.now() - began) / 1e6
}

/** Exchanges of one byte a second, a connection each. */
async function exchanges(port: number, count: number): Promise<number> {
  let left = count
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1
      const socket = connect({ port, host: '127.0.0.1' })
      socket.resume().write('.')
      await once(socket, 'close')
    }
  }
  const began = performance.now()
  await Promise.all(Array.from({ length: parallel }, worker))
  return (count * 1000) / (performance.now() - began)
}

export async function proxyChild(rounds: number): Promise<Figures> {
  unshareNet()
  execFileSync('ip', ['link', 'set', 'lo', 'up'])
  const server = spawn(process.execPath, ['-e', serverText], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  })
  const [port] = (await once(server, 'message')) as [number]
  const proxy = createProxy({ drainMs: 1000 })
  const targets = [{ address: '127.0.0.1', port }]
  const common = { dialled: undefined, outside: undefined, affinityMs: 0 }
  proxy.set({ key: 'bench', protocol: 'tcp', family: 'inet', targets, ...common })
  const stop = new AbortController()
  const run = proxy.run(stop.signal)
  const through = proxy.portOf('bench') ?? 0
  await Promise.all([exchanges(port, 200), exchanges(through, 200)])
  const figures = {
    gbits: { direct: [] as number[], proxied: [] as number[] },
    cpu: [] as number[],
    perSecond: { direct: [] as number[], proxied: [] as number[] },
  }
  const count = 3000
  const cpuOf = async (f: () => Promise<number>): Promise<{ value: number; cpu: number }> => {
    const before = process.cpuUsage()
    const value = await f()
    const { user, system } = process.cpuUsage(before)
    return { value, cpu: (user + system) / 1e6 }
  }
  for (let i = 0; i < rounds; i += 1) {
    // The client is in this process too: what it takes without the proxy is not the proxy's.
    const direct = await cpuOf(() => stream(port))
    const proxied = await cpuOf(() => stream(through))
    figures.gbits.direct.push(direct.value)
    figures.gbits.proxied.push(proxied.value)
    figures.cpu.push(Math.max(0, proxied.cpu - direct.cpu))
    figures.perSecond.direct.push(await exchanges(port, count))
    figures.perSecond.proxied.push(await exchanges(through, count))
  }
  stop.abort()
  await run
  server.disconnect()
  return figures
}

/** Errors: the child's, when it cannot make a namespace. */
export async function proxyRows(rounds: number): Promise<Row[]> {
  const figures = await runChild<Figures>('proxy', rounds)
  const { gbits, cpu, perSecond } = figures
  return [
    row('proxy-throughput', median(gbits.proxied), 'Gbit/s', {
      against: { name: 'direct', value: median(gbits.direct) },
      note: spread(gbits.proxied, 'Gbit/s'),
    }),
    row('proxy-cpu', median(cpu), 's/GiB', { note: spread(cpu, 's/GiB') }),
    row('proxy-connections', median(perSecond.proxied), '1/s', {
      against: { name: 'direct', value: median(perSecond.direct) },
      note: `${parallel} at a time, one byte each; ${spread(perSecond.proxied, '1/s')}`,
    }),
  ]
}
