// What a listening socket need not be told of: the kernel runs a filter (classic BPF, Documentation/networking/filter.rst) on
// each notice before it is queued. A table of 5,000 routes that we write ourselves comes back as 5,000 notices, each of
// which would cost two system calls and a call into JavaScript. `ss -f netlink --bpf` shows it.
import { addressOf, setsockopt } from '../netns/libc.js'

const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26

/** BPF_LD|BPF_W|BPF_ABS, BPF_LD|BPF_H|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K of linux/bpf_common.h. */
const LOAD_WORD = 0x20
const LOAD_HALF = 0x28
const JUMP_EQUAL = 0x15
const RETURN = 0x06
const ALL = 0xffff_ffff
/** nlmsg_type and nlmsg_pid of struct nlmsghdr. */
const TYPE_AT = 4
const PORT_AT = 12

/** The filter loads big endian, and the header is little endian on all that we run on. */
const swapped16 = (value: number): number => ((value & 0xff) << 8) | (value >>> 8)
const swapped32 = (value: number): number =>
  ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0

/** struct sock_filter, one after the other: drops messages of these types that answer one of these ports' requests. */
function program(types: readonly number[], ports: readonly number[]): Uint8Array {
  const found: [code: number, value: number, jump: number][] = [[LOAD_WORD, PORT_AT, 0]]
  ports.forEach((port, i) => void found.push([JUMP_EQUAL, swapped32(port), ports.length - i]))
  found.push([RETURN, ALL, 0], [LOAD_HALF, TYPE_AT, 0])
  types.forEach((type, i) => void found.push([JUMP_EQUAL, swapped16(type), types.length - i]))
  found.push([RETURN, ALL, 0], [RETURN, 0, 0])
  const view = new DataView(new ArrayBuffer(found.length * 8))
  found.forEach(([code, value, jump], i) => {
    view.setUint16(8 * i, code, true)
    view.setUint8(8 * i + 2, jump)
    view.setUint32(8 * i + 4, value, true)
  })
  return new Uint8Array(view.buffer)
}

/** Whether the kernel took it: where it did not, everything is told as before. At most 255 of each. */
export function keepQuiet(fd: number, types: readonly number[], ports: readonly number[]): boolean {
  if (ports.length === 0 || ports.length > 255 || types.length > 255) return false
  const code = program(types, ports)
  // struct sock_fprog: a length, and where the program is.
  const head = new DataView(new ArrayBuffer(16))
  head.setUint16(0, code.length / 8, true)
  head.setBigUint64(8, addressOf(code), true)
  try {
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(head.buffer))
    return true
  } catch {
    return false
  }
}
