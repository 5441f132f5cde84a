// Taps that stay when nobody holds them open, for a VM to take: `ip tuntap add dev NAME mode tap`. They come from
// /dev/net/tun, not from rtnetlink. Source: linux/if_tun.h, Documentation/networking/tuntap.rst.
import { closeSync, constants, openSync } from 'node:fs'
import { codeOf, WarrenError } from '../errors.js'
import { addressOf, lastErrno, nativeFunction } from './libc.js'
import type { Netns } from './netns.js'

const TUNSETIFF = 0x400454ca
const TUNSETPERSIST = 0x400454cb
const IFF_TAP = 0x0002
const IFF_NO_PI = 0x1000
const IFF_VNET_HDR = 0x4000
const IFNAMSIZ = 16

/** Errors: ENOENT (no /dev/net/tun), EBUSY (there is a device of that name), EINVAL, EPERM. */
export function createTap(netns: Netns, name: string): void {
  const fail = (code: string, cause?: unknown): never => {
    throw new WarrenError(`Cannot make tap "${name}": ${code}`, {
      code,
      ...(cause === undefined ? {} : { cause }),
      ...(code === 'ENOENT' ? { hint: 'modprobe tun' } : {}),
    })
  }
  if (!/^[\w.-]{1,15}$/.test(name)) fail('EINVAL')
  // struct ifreq: the name, then ifr_flags.
  const request = Buffer.from(new ArrayBuffer(40))
  request.write(name, 'latin1')
  request.writeInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, IFNAMSIZ)
  const ioctl = nativeFunction('libc.so.6', 'int ioctl(int, unsigned long, uint64_t)')
  netns.run(() => {
    let fd = -1
    try {
      fd = openSync('/dev/net/tun', constants.O_RDWR)
    } catch (cause) {
      fail(codeOf(cause), cause)
    }
    try {
      // A standing persistent tap would be taken without a word.
      if (netns.linkIndex(name) !== undefined) fail('EBUSY')
      if ((ioctl(fd, TUNSETIFF, addressOf(request)) as number) < 0) fail(lastErrno())
      if ((ioctl(fd, TUNSETPERSIST, 1n) as number) < 0) fail(lastErrno())
    } finally {
      closeSync(fd)
    }
  })
}
