// Bob Jenkins' hash as the kernel's `jhash` expression computes it: jhash() of linux/jhash.h, scaled by nft_hash.c;
// `jhash ip daddr . th dport mod 4294967294 seed 0x77617272 offset 1`.

/** Of the expression; the result is never 0. */
export const jhashModulus = 0xffff_fffe
export const jhashOffset = 1
export const jhashSeed = 0x7761_7272

const initial = 0xdead_beef
/** Of __jhash_mix(). */
const mixing = [
  [4, 6, 8],
  [16, 19, 4],
] as const

const rotated = (word: number, by: number): number => (word << by) | (word >>> (32 - by))

/** A 32-bit word for `bytes`, whose length is a multiple of 4: registers are filled up with zeros. */
export function jhash(bytes: Uint8Array, seed: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const word = (at: number): number => (at < bytes.length ? view.getUint32(at, true) : 0)
  let a = (initial + bytes.length + seed) | 0
  let b = a
  let c = a
  let at = 0
  for (; bytes.length - at > 12; at += 12) {
    a = (a + word(at)) | 0
    b = (b + word(at + 4)) | 0
    c = (c + word(at + 8)) | 0
    for (const [first, second, third] of mixing) {
      a = (a - c) ^ rotated(c, first)
      c = (c + b) | 0
      b = (b - a) ^ rotated(a, second)
      a = (a + c) | 0
      c = (c - b) ^ rotated(b, third)
      b = (b + a) | 0
    }
  }
  if (at === bytes.length) return c >>> 0
  a = (a + word(at)) | 0
  b = (b + word(at + 4)) | 0
  c = (c + word(at + 8)) | 0
  c = ((c ^ b) - rotated(b, 14)) | 0
  a = ((a ^ c) - rotated(c, 11)) | 0
  b = ((b ^ a) - rotated(a, 25)) | 0
  c = ((c ^ b) - rotated(b, 16)) | 0
  a = ((a ^ c) - rotated(c, 4)) | 0
  b = ((b ^ a) - rotated(a, 14)) | 0
  c = ((c ^ b) - rotated(b, 24)) | 0
  return c >>> 0
}

/** Of an address and port as they lie in registers: 8 or 20 bytes. */
export function endpointHash(bytes: Uint8Array): number {
  const hash = jhash(bytes, jhashSeed)
  // reciprocal_scale() of linux/kernel.h, hash * modulus / 2^32 rounded down, without the 64 bits that it takes.
  return hash - Math.ceil((2 * hash) / 2 ** 32) + jhashOffset
}
