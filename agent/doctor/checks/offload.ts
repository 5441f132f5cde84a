// Checksums: combinations of driver and offload that are known to send VXLAN with wrong ones, and what this host has received
// with wrong ones. `ethtool -k eth0`, `nstat -az TcpInCsumErrors UdpInCsumErrors`.
import { release } from 'node:os'
import { codeOf } from '../../../lib/errors.js'
import { type Offloads, readOffloads } from '../../../lib/ethtool/ethtool.js'
import { type Check, type DoctorContext, type Finding, orOk, unknown, warn } from '../check.js'

export interface OffloadFacts {
  readonly kernel: string
  readonly underlay: ({ readonly name: string } & Offloads) | undefined
  readonly overlay: ({ readonly name: string } & Offloads) | undefined
  readonly port: number | undefined
  /** Since the boot: received segments and datagrams, and those of them that were wrong. */
  readonly tcp: { readonly received: number; readonly wrong: number }
  readonly udp: { readonly received: number; readonly wrong: number }
}

/** Of a hundred thousand received, at least so many in all: a few come with every bad cable. */
const share = 1e-5
const least = 10

/** Drivers whose hardware or hypervisor checksums inside tunnels on some ports only. */
const tunnelBlind: Readonly<Record<string, string>> = {
  vmxnet3: 'ESXi rewrites checksums inside VXLAN only on ports that it knows (NSX has 4789)',
  be2net: 'the card knows one VXLAN port at a time',
  qede: 'the card knows one VXLAN port at a time',
}

export function judgeOffload(facts: OffloadFacts): readonly Finding[] {
  const { kernel, underlay, overlay } = facts
  const found: Finding[] = []
  if (underlay !== undefined && overlay !== undefined) {
    const tunnel = ['tx-udp_tnl-segmentation', 'tx-udp_tnl-csum-segmentation'].filter(name =>
      underlay.on.has(name),
    )
    const why = tunnelBlind[underlay.driver]
    if (why !== undefined && tunnel.length > 0)
      found.push(
        warn(
          'TUNNEL_OFFLOAD',
          `${underlay.name} (${underlay.driver}) segments inside tunnels: ${why}; large packets of pods may vanish`,
          {
            about: underlay.name,
            fix: `ethtool -K ${underlay.name} ${tunnel.map(name => `${name} off`).join(' ')}`,
          },
        ),
      )
  }
  if (overlay !== undefined) {
    const [major = 0, minor = 0] = kernel.split('.').map(Number)
    if ((major < 5 || (major === 5 && minor < 7)) && overlay.on.has('tx-checksum-ip-generic'))
      found.push(
        warn(
          'VXLAN_CHECKSUM',
          `kernel ${kernel} sends masqueraded packets through "${overlay.name}" with wrong UDP checksums (fixed in 5.7): connections to Services take 63 s or 1 to 3 s`,
          {
            about: overlay.name,
            fix: `ethtool -K ${overlay.name} tx-checksum-ip-generic off`,
          },
        ),
      )
  }
  for (const [name, { received, wrong }] of [
    ['TCP', facts.tcp],
    ['UDP', facts.udp],
  ] as const)
    if (wrong >= least && wrong > received * share)
      found.push(
        warn(
          'CHECKSUM_ERRORS',
          `${wrong} of ${received} ${name} packets came with a wrong checksum since the boot: somebody's offload, a bad card or cable`,
          {
            about: name,
            fix: `nstat -az ${name === 'TCP' ? 'TcpInCsumErrors' : 'UdpInCsumErrors'}; whose: tcpdump -vvni any | grep incorrect; there: ethtool -K IF tx-checksum-ip-generic off`,
          },
        ),
      )
  const on =
    overlay === undefined
      ? 'no VXLAN device'
      : `${overlay.name} tx-checksum ${overlay.on.has('tx-checksum-ip-generic') ? 'on' : 'off'}`
  return orOk(
    found,
    `${underlay === undefined ? 'underlay unknown' : `${underlay.name} (${underlay.driver})`}, ${on}, no wrong checksums`,
  )
}

/** /proc/net/snmp: "Tcp: names", "Tcp: values". */
export function readSnmp(text: string, group: string): Readonly<Record<string, number>> {
  const [names = [], values = []] = text
    .split('\n')
    .filter(line => line.startsWith(`${group}:`))
    .map(line => line.trim().split(/\s+/).slice(1))
  return Object.fromEntries(names.map((name, i) => [name, Number(values[i] ?? 0)]))
}

function offloadsOf({ kernel }: DoctorContext, name: string | undefined): OffloadFacts['underlay'] {
  return name === undefined ? undefined : { name, ...readOffloads(kernel.netns, name) }
}

export const offloadCheck: Check = {
  id: 'offload',
  title: 'checksums and offloads',
  async run(context) {
    const overlay = (await context.links()).find(
      ({ name, info }) => name === context.names.overlay && info.kind === 'vxlan',
    )
    const snmp = context.procNet('snmp') ?? ''
    const tcp = readSnmp(snmp, 'Tcp')
    const udp = readSnmp(snmp, 'Udp')
    try {
      return judgeOffload({
        kernel: release(),
        underlay: offloadsOf(context, (await context.underlay())?.name),
        overlay: offloadsOf(context, overlay?.name),
        port: overlay?.info.kind === 'vxlan' ? overlay.info.port : undefined,
        tcp: { received: tcp['InSegs'] ?? 0, wrong: tcp['InCsumErrors'] ?? 0 },
        udp: { received: udp['InDatagrams'] ?? 0, wrong: udp['InCsumErrors'] ?? 0 },
      })
    } catch (error) {
      return [
        unknown('NO_ETHTOOL', `the driver does not tell its features: ${codeOf(error)}`, {
          fix: 'ethtool -k eth0',
        }),
      ]
    }
  },
}
