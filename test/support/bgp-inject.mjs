// A peer that breaks the rules of BGP-4 (RFC 4271): opens a session as a router would, then sends what no router may.
//   node bgp-inject.mjs LOCAL REMOTE ASN KIND      KIND: length, marker, attribute, open, half
// Prints "sent" once the octets are out; ends when the other side closes, or after 5 s.
import { connect } from 'node:net'

const [local = '', remote = '', asn = '65001', kind = 'length'] = process.argv.slice(2)
const marker = Buffer.alloc(16, 0xff)

function message(type, body) {
  const head = Buffer.alloc(3)
  head.writeUInt16BE(19 + body.length)
  head[2] = type
  return Buffer.concat([marker, head, body])
}

function open() {
  const id = Buffer.from(local.split('.').map(Number))
  const as2 = Buffer.alloc(2)
  as2.writeUInt16BE(Number(asn))
  const hold = Buffer.from([0, 90])
  // Capability 1 (multiprotocol): IPv4 unicast.
  const capability = Buffer.from([2, 6, 1, 4, 0, 1, 0, 1])
  return message(1, Buffer.concat([Buffer.from([4]), as2, hold, id, Buffer.from([capability.length]), capability]))
}

/** Attributes whose lengths run over the message, flags that nobody has, an AS path of a length that is no multiple. */
function badUpdate() {
  const attributes = Buffer.from([
    0x40, 1, 1, 9, // ORIGIN of 9
    0x40, 2, 250, 2, 200, 0, 1, // AS_PATH longer than what follows
    0xff, 200, 255, 255, 1, 2, 3,
  ])
  const head = Buffer.alloc(4)
  head.writeUInt16BE(0, 0)
  head.writeUInt16BE(attributes.length, 2)
  return message(2, Buffer.concat([head, attributes, Buffer.from([33, 10, 244, 2, 0, 1])]))
}

const kinds = {
  length: () => Buffer.concat([marker, Buffer.from([0xff, 0xff, 2]), Buffer.alloc(5000, 7)]),
  marker: () => Buffer.concat([Buffer.alloc(16, 0), Buffer.from([0, 23, 2, 0, 0, 0, 0])]),
  attribute: badUpdate,
  open: () => message(1, Buffer.from([4, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 255])),
  half: () => message(2, Buffer.alloc(200, 0xff)).subarray(0, 60),
}

const socket = connect({ host: remote, port: 179, localAddress: local })
const end = code => {
  socket.destroy()
  process.exit(code)
}
let sent = false
socket.on('error', () => end(sent ? 0 : 1))
socket.on('connect', () => socket.write(open()))
socket.on('data', () => {
  if (sent) return
  sent = true
  socket.write(message(4, Buffer.alloc(0)))
  setTimeout(() => {
    socket.write(kinds[kind]())
    process.stdout.write('sent\n')
  }, 200)
})
socket.on('close', () => end(sent ? 0 : 1))
setTimeout(() => end(sent ? 0 : 1), 5000)
