// Driver and offload features of a link, by ioctl(2) SIOCETHTOOL, linux/ethtool.h. Reads only. `ethtool -i eth0`, `ethtool -k eth0`.
import { WarrenError } from '../errors.js'
import { addressOf, close, lastErrno, nativeFunction, socket } from '../netns/libc.js'
import type { Netns } from '../netns/netns.js'

const SIOCETHTOOL = 0x8946
const ETHTOOL_GDRVINFO = 0x03
const ETHTOOL_GSTRINGS = 0x1b
const ETHTOOL_GSSET_INFO = 0x37
const ETHTOOL_GFEATURES = 0x3a
const ETH_SS_FEATURES = 4
const ETH_GSTRING_LEN = 32
/** Bits in a block of ETHTOOL_GFEATURES: available, requested, active, never_changed, u32 each. */
const blockBits = 32
const blockBytes = 16
const activeAt = 8

export interface Offloads {
  /** "vmxnet3", "virtio_net", "veth", "vxlan". */
  readonly driver: string
  /** Those that are on, by the kernel's names: "tx-checksum-ip-generic", "tx-udp_tnl-segmentation". */
  readonly on: ReadonlySet<string>
}

function textAt(data: Buffer, at: number): string {
  const end = data.indexOf(0, at)
  return data.toString('latin1', at, Math.min(end < 0 ? at + ETH_GSTRING_LEN : end, at + ETH_GSTRING_LEN))
}

/** Errors: ENODEV, EOPNOTSUPP where the driver does not tell. */
export function readOffloads(netns: Netns, link: string): Offloads {
  const fd = netns.run(() => socket(2, 2, 0))
  const ioctl = nativeFunction('libc.so.6', 'int ioctl(int, unsigned long, uint8_t *)')
  const ask = (size: number, fill: (data: Buffer) => void): Buffer => {
    // Of their own memory: the kernel follows the pointer in struct ifreq.
    const data = Buffer.from(new ArrayBuffer(size))
    fill(data)
    const request = Buffer.alloc(40)
    request.write(link, 0, 15, 'latin1')
    request.writeBigUInt64LE(addressOf(data), 16)
    if ((ioctl(fd, SIOCETHTOOL, request) as number) < 0) {
      const code = lastErrno()
      throw new WarrenError(`Cannot read offloads of "${link}": ${code}`, { code })
    }
    return data
  }
  try {
    const driver = textAt(
      ask(196, data => data.writeUInt32LE(ETHTOOL_GDRVINFO, 0)),
      4,
    )
    // struct ethtool_sset_info: cmd, reserved, u64 mask, u32 length.
    const sets = ask(24, data => {
      data.writeUInt32LE(ETHTOOL_GSSET_INFO, 0)
      data.writeBigUInt64LE(1n << BigInt(ETH_SS_FEATURES), 8)
    })
    const count = sets.readUInt32LE(16)
    const strings = ask(12 + count * ETH_GSTRING_LEN, data => {
      data.writeUInt32LE(ETHTOOL_GSTRINGS, 0)
      data.writeUInt32LE(ETH_SS_FEATURES, 4)
      data.writeUInt32LE(count, 8)
    })
    const blocks = Math.ceil(count / blockBits)
    const features = ask(8 + blocks * blockBytes, data => {
      data.writeUInt32LE(ETHTOOL_GFEATURES, 0)
      data.writeUInt32LE(blocks, 4)
    })
    const on = new Set<string>()
    for (let i = 0; i < count; i += 1) {
      const active = features.readUInt32LE(8 + Math.floor(i / blockBits) * blockBytes + activeAt)
      if ((active >>> (i % blockBits)) & 1) on.add(textAt(strings, 12 + i * ETH_GSTRING_LEN))
    }
    return { driver, on }
  } finally {
    close(fd)
  }
}
