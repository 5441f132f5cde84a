// Links with a DHCP server's end and clients, in network namespaces of their own with names (the table opens them by name).
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DhcpServer } from '../../agent/model/dhcp.js'
import type { DnsmasqSubnet } from '../../lib/dnsmasq/types.js'

export interface DhcpWorld {
  /** A namespace of that name is made, with an uplink bridge beside it; full names are unique. */
  router(name: string): string
  /** A link to `router`'s namespace: interface `dev` there, with these addresses. */
  link(router: string, dev: string, ...addresses: readonly string[]): void
  /** A client on that link. Returns its namespace, where it is eth0. */
  client(router: string, dev: string, mac: string): string
  /** Runs a shell script in a namespace; throws when a line fails. */
  sh(netns: string, script: string): string
  /** What busybox's udhcpc was told, by the names that it gives its script; undefined when nobody answered. */
  dhcp(netns: string, ...options: readonly string[]): Readonly<Record<string, string>> | undefined
  /** Sends to all DHCPv6 servers; the first answer, or an empty one after a second. */
  dhcp6(netns: string, message: Uint8Array): Buffer
  /** A directory of the world's own, for the server's files. */
  readonly stateDir: string
  close(): void
}

export const gatewayMac = '0a:ff:00:00:00:01'

export function createDhcpWorld(): DhcpWorld {
  const stem = `wrnd${process.pid}`
  const directory = mkdtempSync(join(tmpdir(), `${stem}-`))
  chmodSync(directory, 0o755)
  const script = join(directory, 'udhcpc')
  writeFileSync(script, '#!/bin/sh\nenv | grep "^[a-z0-9]*="\n', { mode: 0o755 })
  const made: string[] = []
  let count = 0
  const run = (script: string): string =>
    execFileSync('sh', ['-euc', script], {
      encoding: 'utf8',
      timeout: 30_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  const add = (name: string): string => {
    run(`ip netns add ${name}`)
    made.push(name)
    return name
  }
  const quick = 'sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0'
  const close = (): void => {
    for (const name of made.splice(0)) spawnSync('ip', ['netns', 'del', name])
    rmSync(directory, { recursive: true, force: true })
  }
  process.on('exit', close)
  return {
    router(name) {
      const netns = add(`${stem}-${name}`)
      add(`${netns}-f`)
      run(`ip netns exec ${netns} ${quick} net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        ip netns exec ${netns}-f sysctl -qw net.ipv6.conf.default.disable_ipv6=1
        ip -n ${netns} link set lo up`)
      return netns
    },
    link(router, dev, ...addresses) {
      const set = addresses.map(address => `ip -n ${router} addr add ${address} dev ${dev} nodad`).join('\n')
      run(`ip -n ${router}-f link add b${dev} type bridge
        ip -n ${router}-f link set b${dev} up
        ip -n ${router} link add ${dev} address ${gatewayMac} type veth peer name r${dev} netns ${router}-f
        ip -n ${router}-f link set r${dev} master b${dev}
        ip -n ${router}-f link set r${dev} up
        ip -n ${router} link set ${dev} up
        ${set}`)
    },
    client(router, dev, mac) {
      count += 1
      const netns = add(`${stem}-c${count}`)
      run(`ip netns exec ${netns} ${quick} net.ipv6.conf.all.forwarding=0
        ip -n ${netns} link set lo up
        ip -n ${netns} link add eth0 address ${mac} type veth peer name c${count} netns ${router}-f
        ip -n ${router}-f link set c${count} master b${dev}
        ip -n ${router}-f link set c${count} up
        ip -n ${netns} link set eth0 up`)
      return netns
    },
    sh: (netns, script) =>
      execFileSync('ip', ['netns', 'exec', netns, 'sh', '-euc', script], {
        encoding: 'utf8',
        timeout: 30_000,
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    dhcp(netns, ...options) {
      const wanted = ['mtu', 'staticroutes', 'msstaticroutes', 'hostname'].flatMap(name => ['-O', name])
      const fast = ['-t', '2', '-T', '1', '-f', '-q', '-n']
      const { status, stdout } = spawnSync(
        'ip',
        [
          'netns',
          'exec',
          netns,
          'busybox',
          'udhcpc',
          '-i',
          'eth0',
          '-s',
          script,
          ...fast,
          ...wanted,
          ...options,
        ],
        { encoding: 'utf8', timeout: 30_000, env: { PATH: process.env['PATH'] } },
      )
      if (status !== 0) return undefined
      return Object.fromEntries(stdout.split('\n').map(line => line.split(/=(.*)/).slice(0, 2)))
    },
    dhcp6: (netns, message) =>
      spawnSync(
        'ip',
        [
          'netns',
          'exec',
          netns,
          'socat',
          '-T1',
          '-',
          'UDP6-DATAGRAM:[ff02::1:2%eth0]:547,bind=:546,so-bindtodevice=eth0',
        ],
        { input: message, timeout: 10_000 },
      ).stdout,
    stateDir: join(directory, 'state'),
    close,
  }
}

export function subnet(cidr: string, more: Partial<DnsmasqSubnet> = {}): DnsmasqSubnet {
  const family = cidr.includes(':') ? 'inet6' : 'inet'
  return {
    cidr,
    family,
    dhcp: true,
    gateway: undefined,
    server: undefined,
    slaac: family === 'inet6',
    dnsServers: [],
    hostRoutes: [],
    ...more,
  }
}

/** A network of VNI `vni` named "red/a" whose DNS knows all its clients. */
export function server(
  vni: number,
  netns: string,
  dev: string,
  more: Partial<Pick<DhcpServer, 'subnets' | 'clients' | 'mtu' | 'domain' | 'network' | 'names'>>,
): DhcpServer {
  const clients = more.clients ?? []
  return {
    network: 'red/a',
    vni,
    id: vni,
    netns,
    interface: dev,
    mtu: 1450,
    domain: 'a',
    subnets: [],
    names: clients,
    ...more,
    clients,
  }
}

const option = (code: number, ...values: readonly (Uint8Array | number)[]): Buffer => {
  const data = Buffer.concat(values.map(value => (typeof value === 'number' ? int32(value) : value)))
  const head = Buffer.alloc(4)
  head.writeUInt16BE(code, 0)
  head.writeUInt16BE(data.length, 2)
  return Buffer.concat([head, data])
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex')
const uint16s = (...values: readonly number[]): Buffer =>
  Buffer.concat(values.map(value => int32(value).subarray(2)))

/** DHCPv6 messages (RFC 8415 §7.3). */
export const SOLICIT = 1
export const REQUEST = 3
export const RENEW = 5
export const REPLY = 7

/**
 * A DHCPv6 message: SOLICIT with rapid commit, or one of the others with an address and the server's DUID. The client is
 * named by DUID-LL, asks for DNS servers and its FQDN.
 */
export function dhcp6Message(
  mac: string,
  type = SOLICIT,
  known?: { readonly address: Uint8Array; readonly duid: Uint8Array },
): Buffer {
  const address = known === undefined ? [] : [option(5, known.address, 0, 0)]
  return Buffer.concat([
    Buffer.from([type, 1, 2, 3]),
    option(1, uint16s(3, 1), macBytes(mac)),
    ...(known === undefined ? [option(14)] : [option(2, known.duid)]),
    option(3, 7, 0, 0, ...address),
    option(6, uint16s(23, 39)),
    option(8, uint16s(0)),
    option(39, Buffer.from([1, 0])),
  ])
}

/** Options of a DHCPv6 message by code (the first of each), and of the addresses in its IA_NA. */
export function readDhcp6(message: Buffer): {
  readonly type: number | undefined
  readonly options: ReadonlyMap<number, Buffer>
  /** Hex digits, and the preferred lifetime in seconds. */
  readonly addresses: readonly { readonly address: string; readonly preferred: number }[]
} {
  const each = (bytes: Buffer): [number, Buffer][] => {
    const found: [number, Buffer][] = []
    for (let at = 0; at + 4 <= bytes.length; at += 4 + bytes.readUInt16BE(at + 2))
      found.push([bytes.readUInt16BE(at), bytes.subarray(at + 4, at + 4 + bytes.readUInt16BE(at + 2))])
    return found
  }
  const options = new Map(each(message.subarray(4)).reverse())
  const association = each(options.get(3)?.subarray(12) ?? Buffer.alloc(0))
  return {
    type: message[0],
    options,
    addresses: association
      .filter(([code]) => code === 5)
      .map(([, data]) => ({ address: data.toString('hex', 0, 16), preferred: data.readUInt32BE(16) })),
  }
}
