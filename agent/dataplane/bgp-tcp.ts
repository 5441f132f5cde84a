// What the kernel of our namespace tells of TCP that BGP wants to know: /proc/net/netstat and /proc/net/tcp, tcp6.
//   nstat -az 'TcpExtTCPMD5*'; ss -tno state syn-sent dport = 179
import { readFileSync } from 'node:fs'
import { formatAddress } from '../../lib/net/address.js'
import type { KernelTcp } from '../sources/rib-suspect.js'

/** TCP_SYN_SENT (include/net/tcp_states.h), and the port of BGP, as /proc/net/tcp has them. */
const synSent = '02'
const bgpPort = '00B3'

/** Segments dropped for a missing, unexpected or wrong signature (RFC 2385), so far. */
function md5Drops(): number {
  const lines = readFileSync('/proc/self/net/netstat', 'utf8').split('\n')
  const at = lines.findIndex(line => line.startsWith('TcpExt:'))
  const names = (lines[at] ?? '').split(' ')
  const values = (lines[at + 1] ?? '').split(' ')
  return names.reduce((sum, name, i) => (name.startsWith('TCPMD5') ? sum + Number(values[i]) : sum), 0)
}

/** Words of 32 bits, each as this little-endian machine holds it; a mapped IPv4 address is one (tcp4_seq_show, tcp6_seq_show). */
function addressOf(hex: string): string {
  const bytes = Buffer.from(hex, 'hex')
  bytes.swap32()
  const mapped = bytes.length === 16 && bytes.readUInt32BE(8) === 0xffff && bytes.readBigUInt64BE(0) === 0n
  return formatAddress(mapped ? bytes.subarray(12) : bytes)
}

/** Neighbors whose SYN was sent more than once, of the text of /proc/net/tcp or tcp6. */
export function unansweredIn(text: string): string[] {
  const found: string[] = []
  for (const line of text.split('\n')) {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt
    const [, , remote = '', state, , , again = '0'] = line.trim().split(/\s+/)
    const [address = '', port] = remote.split(':')
    if (state !== synSent || port !== bgpPort || Number.parseInt(again, 16) === 0) continue
    found.push(addressOf(address))
  }
  return found
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    // A kernel without IPv6 has no tcp6.
    return ''
  }
}

export const kernelTcp: KernelTcp = {
  md5Drops,
  unanswered: () =>
    new Set(['/proc/self/net/tcp', '/proc/self/net/tcp6'].flatMap(file => unansweredIn(textOf(file)))),
}
