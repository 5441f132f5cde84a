// dhcp6-ask.ts NETNS MAC: a DHCPv6 client with that MAC on eth0 of a namespace asks all servers (SOLICIT with rapid commit) and
// prints what the first one told it: {"addresses": [...], "dns": [...]}, each as 32 hex digits; nothing, and status 1, when none did.
import { spawnSync } from 'node:child_process'
import { dhcp6Message, REPLY, readDhcp6 } from './dhcp-world.js'

const [netns = '', mac = ''] = process.argv.slice(2)
const { stdout } = spawnSync(
  'nsenter',
  [
    `--net=${netns}`,
    'socat',
    '-T1',
    '-',
    'UDP6-DATAGRAM:[ff02::1:2%eth0]:547,bind=:546,so-bindtodevice=eth0',
  ],
  { input: dhcp6Message(mac), timeout: 10_000 },
)
const { type, options, addresses } = readDhcp6(stdout)
if (type === REPLY) {
  const dns = options.get(23)?.toString('hex').match(/.{32}/g) ?? []
  process.stdout.write(`${JSON.stringify({ addresses: addresses.map(({ address }) => address), dns })}\n`)
} else process.exitCode = 1
