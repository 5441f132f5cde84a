// One end of one BGP session (RFC 4271), without a table: prints each message that it gets as a line of JSON and sends
// what it is told to. Runs inside a network namespace:
//
//   node bgp-speaker.mjs listen ADDRESS | connect ADDRESS FROM   options as JSON in argv[5] or argv[4]
//   options: {asn, routerId, restartTime?, restarting?, forwarding?, holdTime?}   without restartTime: no graceful restart
//   stdin:   eor | eor6 | send HEX | close        (HEX: a whole message, marker included)
//   stdout:  {"ms", "type": "listening" | "open" | "update" | "notification" | "keepalive" | "closed", ...}
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'

const [mode, address, third, fourth] = process.argv.slice(2)
const options = JSON.parse((mode === 'listen' ? third : fourth) ?? '{}')
const started = performance.now()
const say = line => process.stdout.write(`${JSON.stringify({ ms: Math.round(performance.now() - started), ...line })}\n`)
const names = ['', 'open', 'update', 'notification', 'keepalive', 'refresh']
let socket

const message = (type, body) => {
  const head = Buffer.alloc(19, 0xff)
  head.writeUInt16BE(19 + body.length, 16)
  head[18] = type
  return Buffer.concat([head, body])
}

function open() {
  const asn = options.asn ?? 64512
  const capabilities = [
    Buffer.from([1, 4, 0, 1, 0, 1]), // multiprotocol, IPv4 unicast (RFC 4760)
    Buffer.from([1, 4, 0, 2, 0, 1]),
    Buffer.from([65, 4, asn >>> 24, (asn >>> 16) & 255, (asn >>> 8) & 255, asn & 255]), // RFC 6793
  ]
  if (options.restartTime !== undefined) {
    const flags = options.forwarding ? 0x80 : 0
    const time = options.restartTime | (options.restarting ? 0x8000 : 0)
    capabilities.push(Buffer.from([64, 10, time >> 8, time & 255, 0, 1, 1, flags, 0, 2, 1, flags])) // RFC 4724
  }
  const parameters = Buffer.concat(capabilities.map(c => Buffer.concat([Buffer.from([2, c.length]), c])))
  const body = Buffer.alloc(10)
  body[0] = 4
  body.writeUInt16BE(asn > 0xffff ? 23456 : asn, 1)
  body.writeUInt16BE(options.holdTime ?? 90, 3)
  for (const [i, byte] of (options.routerId ?? '10.9.9.9').split('.').entries()) body[5 + i] = Number(byte)
  body[9] = parameters.length
  return message(1, Buffer.concat([body, parameters]))
}

/** Capability 64 as RFC 4724 (3) and 8538 draw it, 71 as RFC 9494. */
function readOpen(body) {
  const found = { asn: body.readUInt16BE(1), holdTime: body.readUInt16BE(3), routerId: [...body.subarray(5, 9)].join('.') }
  const parameters = body.subarray(10)
  for (let at = 0; at < parameters.length; at += 2 + parameters[at + 1]) {
    const capabilities = parameters.subarray(at + 2, at + 2 + parameters[at + 1])
    for (let c = 0; c < capabilities.length; c += 2 + capabilities[c + 1]) {
      const value = capabilities.subarray(c + 2, c + 2 + capabilities[c + 1])
      if (capabilities[c] === 64) {
        const first = value.readUInt16BE(0)
        found.gracefulRestart = {
          restarting: (first & 0x8000) !== 0,
          notification: (first & 0x4000) !== 0,
          time: first & 0xfff,
          families: [],
        }
        for (let f = 2; f + 4 <= value.length; f += 4)
          found.gracefulRestart.families.push({ afi: value.readUInt16BE(f), safi: value[f + 2], forwarding: (value[f + 3] & 0x80) !== 0 })
      } else if (capabilities[c] === 71) {
        found.longLived = []
        for (let f = 0; f + 7 <= value.length; f += 7)
          found.longLived.push({ afi: value.readUInt16BE(f), forwarding: (value[f + 3] & 0x80) !== 0, time: value.readUIntBE(f + 4, 3) })
      }
    }
  }
  return found
}

/** Prefixes of IPv4 in the message itself; End-of-RIB is an empty UPDATE, or an empty MP_UNREACH_NLRI (RFC 4724, 2). */
function readUpdate(body) {
  const withdrawnLength = body.readUInt16BE(0)
  const attributesLength = body.readUInt16BE(2 + withdrawnLength)
  const attributes = body.subarray(4 + withdrawnLength, 4 + withdrawnLength + attributesLength)
  const read = bytes => {
    const prefixes = []
    for (let at = 0; at < bytes.length; ) {
      const size = Math.ceil(bytes[at] / 8)
      const octets = [...bytes.subarray(at + 1, at + 1 + size), 0, 0, 0, 0].slice(0, 4)
      prefixes.push(`${octets.join('.')}/${bytes[at]}`)
      at += 1 + size
    }
    return prefixes
  }
  const withdrawn = read(body.subarray(2, 2 + withdrawnLength))
  const prefixes = read(body.subarray(4 + withdrawnLength + attributesLength))
  const found = { prefixes, withdrawn }
  if (withdrawnLength === 0 && prefixes.length === 0) {
    if (attributesLength === 0) found.endOfRib = 'inet'
    // flags, type 15, length 3, AFI 2, SAFI 1: nothing behind
    if (attributes[1] === 15 && attributes[2] === 3) found.endOfRib = attributes.readUInt16BE(3) === 2 ? 'inet6' : 'inet'
  }
  return found
}

function talk(connection) {
  socket = connection
  let pending = Buffer.alloc(0)
  connection.on('data', data => {
    pending = Buffer.concat([pending, data])
    while (pending.length >= 19 && pending.length >= pending.readUInt16BE(16)) {
      const length = pending.readUInt16BE(16)
      const type = pending[18]
      const body = pending.subarray(19, length)
      pending = pending.subarray(length)
      if (type === 1) {
        say({ type: 'open', ...readOpen(body) })
        connection.write(open())
        connection.write(message(4, Buffer.alloc(0)))
      } else if (type === 2) say({ type: 'update', ...readUpdate(body) })
      else if (type === 3) say({ type: 'notification', code: body[0], subcode: body[1] })
      else say({ type: names[type] ?? String(type) })
    }
  })
  connection.on('error', () => undefined)
  connection.on('close', () => say({ type: 'closed' }))
}

setInterval(() => socket?.writable && socket.write(message(4, Buffer.alloc(0))), 1000).unref()
createInterface({ input: process.stdin })
  .on('line', line => {
    const [verb, hex] = line.trim().split(' ')
    if (verb === 'eor') socket?.write(message(2, Buffer.alloc(4)))
    else if (verb === 'eor6') socket?.write(message(2, Buffer.from([0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1])))
    else if (verb === 'send') socket?.write(Buffer.from(hex, 'hex'))
    else if (verb === 'close') socket?.destroy()
  })
  .on('close', () => process.exit())

if (mode === 'listen') {
  createServer(talk).listen(179, address, () => say({ type: 'listening' }))
} else {
  talk(connect({ host: address, port: 179, localAddress: third }))
}
