// A UDP echo for the shell tests, without a dependency; counts what the network lost, not what a busy machine did.
//
//   node udp-echo.mjs server PORT                        answers on every address; each answer names who asked
//   node udp-echo.mjs client ADDRESS PORT [RATE [COUNT]] RATE a second (1000) until COUNT or SIGTERM, then one line of JSON:
//     {sent, received, lost, duplicates, longestGapMs, holes: [[first, last] number that was lost], startedAt, seenAs}
//   seenAs: the addresses of ours that the server saw; startedAt and a hole's numbers give the time of a loss
//
// Every datagram has a number. Late answers are awaited for 3 s after the last one was sent. A datagram that is due
// while the process does not run is sent as soon as it does: `sent` keeps the rate over the whole time.
import { createSocket } from 'node:dgram'
import { isIPv6 } from 'node:net'

// More than a second of 1 kHz even where the process does not get to run; capped by net.core.rmem_max.
const buffers = { recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 }
const lateMs = 3_000

function server(port) {
  const socket = createSocket({ type: 'udp6', ...buffers }) // :: takes IPv4 too, as ::ffff:a.b.c.d
  socket.on('message', (data, peer) => {
    const from = peer.address.replace(/^::ffff:/, '')
    socket.send([data.subarray(0, 4), Buffer.from(from)], peer.port, peer.address, () => undefined)
  })
  socket.bind(port, '::', () => console.log('ready'))
}

function client(address, port, rate, count) {
  const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', ...buffers })
  const received = new Set()
  const seenAs = new Set()
  let sent = 0
  let duplicates = 0
  let lastAnswer = performance.now()
  let longestGapMs = 0
  socket.on('message', data => {
    const number = data.readUInt32BE(0)
    if (received.has(number)) duplicates++
    received.add(number)
    seenAs.add(data.toString('latin1', 4))
    const now = performance.now()
    longestGapMs = Math.max(longestGapMs, now - lastAnswer)
    lastAnswer = now
  })
  function holes() {
    const found = []
    for (let number = 0; number < sent && found.length < 20; number++) {
      if (received.has(number)) continue
      const last = found.at(-1)
      if (last?.[1] === number - 1) last[1] = number
      else found.push([number, number])
    }
    return found
  }
  const startedAt = new Date().toISOString()
  socket.on('error', () => undefined) // unreachable: the answer is missing, which is what counts
  socket.connect(port, address, () => {
    const started = performance.now()
    lastAnswer = started
    const timer = setInterval(() => {
      const due = Math.min(Math.floor(((performance.now() - started) * rate) / 1000) + 1, count)
      for (let burst = 0; sent < due && burst < 50; burst++) {
        const data = Buffer.alloc(64)
        data.writeUInt32BE(sent++)
        socket.send(data, () => undefined)
      }
      if (sent >= count) stop()
    }, 1)
    let stopped = false
    function stop() {
      if (stopped) return
      stopped = true
      clearInterval(timer)
      const until = performance.now() + lateMs
      const late = setInterval(() => {
        if (received.size < sent && performance.now() < until) return
        clearInterval(late)
        const report = { sent, received: received.size, lost: sent - received.size, duplicates, holes: holes() }
        const gap = Math.round(longestGapMs)
        console.log(JSON.stringify({ ...report, longestGapMs: gap, startedAt, seenAs: [...seenAs] }))
        process.exit(0)
      }, 5)
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
  })
}

const [mode, ...rest] = process.argv.slice(2)
if (mode === 'server') server(Number(rest[0]))
else client(rest[0], Number(rest[1]), Number(rest[2] ?? 1000), Number(rest[3] ?? Number.POSITIVE_INFINITY))
