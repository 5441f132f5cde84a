// Where frames to the MAC of an allowed pair go.
import t from 'tap'
import { pairMacEntries } from '../../agent/compute/tenant/pair-macs.js'
import type { FabricPort } from '../../agent/model/fabric.js'
import { formatObject } from '../../lib/netlink/format.js'

const vrrp = '00:00:5e:00:01:07'
const network = { gatewayMac: '0a:ff:00:00:00:01' }
const place = { fabric: 'wrn-fabric', links: { bridge: 'br1001', vxlan: 'vx1001', router: 'r1001' } }

function port(
  name: string,
  node: string | undefined,
  pairs: FabricPort['pairs'],
  mac = `0a:00:00:00:00:0${name}`,
): FabricPort {
  return {
    ref: `red/${name}`,
    link: `p${name}`,
    network: 'red/a',
    mac,
    addresses: [],
    node,
    vtep: node === undefined ? undefined : `192.0.2.${node.slice(1)}`,
    device: { kind: 'veth', netns: name, name: 'eth0' },
    groups: [],
    portSecurity: true,
    adminUp: true,
    pairs,
    hostName: name,
  }
}

const on = (ports: readonly FabricPort[], node = 'h1'): string[] =>
  pairMacEntries(network, ports, place, node).map(({ object }) => formatObject(object))

t.test('pair MACs: those that one port alone may have lead to it, from its host and from others', t => {
  const holder = port('1', 'h1', [
    { ip: '10.0.1.100', mac: vrrp },
    { ip: 'fd00::100', mac: vrrp },
  ])
  const other = port('2', 'h2', [{ ip: '10.0.1.101', mac: undefined }])
  t.strictSame(on([holder, other]), [`${vrrp} dev p1 master`])
  t.strictSame(on([holder, other], 'h2'), [
    `${vrrp} dev vx1001 dst 192.0.2.1 self`,
    `${vrrp} dev vx1001 master`,
  ])
  t.strictSame(on([other]), [], "a pair without one has its port's")
  t.strictSame(on([{ ...holder, node: undefined, vtep: undefined }, other]), [], 'on no host: nowhere')
  t.strictSame(on([{ ...holder, device: undefined }]), [], 'not plugged in: nowhere')
  t.end()
})

t.test("pair MACs: nobody takes what is another's, and what several may have leads nowhere", t => {
  const pair = [{ ip: '10.0.1.100', mac: vrrp }]
  t.strictSame(
    on([port('1', 'h1', pair), port('2', 'h2', pair)]),
    [],
    'VRRP: who has it now is not in the model',
  )
  t.strictSame(on([port('1', 'h1', pair), port('2', 'h2', [], vrrp)]), [], "another port's own")
  t.strictSame(on([port('1', 'h1', [{ ip: '10.0.1.100', mac: network.gatewayMac }])]), [], "the gateway's")
  t.strictSame(
    on([port('1', 'h1', [{ ip: '10.0.1.100', mac: '0a:00:00:00:00:01' }])]),
    [],
    'its own: it has that entry',
  )
  t.end()
})
