// What a node of VRRP says when it takes an address: gratuitous ARP, or an unsolicited neighbor advertisement.
// node --import ./test/support/register.mjs test/support/announce.ts NETNS-PATH DEV MAC ADDRESS
import { openNetns } from '../../lib/netns/netns.js'
import * as f from './attacks/frames.js'
import { openWire } from './attacks/wire.js'

const [path = '', dev = 'eth0', mac = '', address = ''] = process.argv.slice(2)
const netns = openNetns({ path })
const wire = openWire(netns, dev)
if (address.includes(':')) {
  const ends = { src: address, dst: 'ff02::1' }
  const packet = f.ip6(ends, f.protocol.icmp6, f.neighborAdvert(ends, address, mac))
  wire.send(f.ethernet({ src: mac, dst: f.groupMac('ff02::1') }, f.etherType.ip6, packet))
} else {
  const body = f.arp({
    operation: 'request',
    senderMac: mac,
    sender: address,
    targetMac: '00:00:00:00:00:00',
    target: address,
  })
  wire.send(f.ethernet({ src: mac, dst: f.broadcast }, f.etherType.arp, body))
}
wire.close()
netns.close()
