// Keys of elements as small numbers, in the order in which they were first seen: a hash table over the keys' own bytes, so
// that a hundred thousand elements of a dump make neither a number on the heap nor a string each.

const empty = 0
const firstRoom = 64

export class KeyIndex {
  /** Keys that have been seen. */
  size = 0
  private readonly words: number
  /** Place + 1 in `keys`, by hash. */
  private slots = new Int32Array(2 * firstRoom)
  private keys: Uint32Array

  /** `bytes`: of each key, a multiple of four. */
  constructor(bytes: number) {
    this.words = bytes >> 2
    this.keys = new Uint32Array(firstRoom * this.words)
  }

  /** The number of the key at `at`; a new one is `size - 1` after the call. */
  of(bytes: Buffer, at: number): number {
    const { words } = this
    const mask = this.slots.length - 1
    let hash = 0
    for (let i = 0; i < words; i += 1) {
      hash = Math.imul(hash ^ bytes.readUInt32LE(at + 4 * i), 0x2c1b3c6d)
      hash ^= hash >>> 15
    }
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const place = (this.slots[slot] as number) - 1
      if (place < 0) return this.add(bytes, at, slot)
      let i = 0
      while (i < words && this.keys[place * words + i] === bytes.readUInt32LE(at + 4 * i)) i += 1
      if (i === words) return place
    }
  }

  private add(bytes: Buffer, at: number, slot: number): number {
    const { words } = this
    const place = this.size
    this.size += 1
    if (place * words === this.keys.length) {
      const larger = new Uint32Array(2 * this.keys.length)
      larger.set(this.keys)
      this.keys = larger
    }
    for (let i = 0; i < words; i += 1) this.keys[place * words + i] = bytes.readUInt32LE(at + 4 * i)
    if (2 * this.size <= this.slots.length) this.slots[slot] = place + 1
    else this.grow()
    return place
  }

  private grow(): void {
    const { words, keys } = this
    this.slots = new Int32Array(2 * this.slots.length)
    const mask = this.slots.length - 1
    for (let place = 0; place < this.size; place += 1) {
      let hash = 0
      for (let i = 0; i < words; i += 1) {
        hash = Math.imul(hash ^ (keys[place * words + i] as number), 0x2c1b3c6d)
        hash ^= hash >>> 15
      }
      let slot = hash & mask
      while (this.slots[slot] !== empty) slot = (slot + 1) & mask
      this.slots[slot] = place + 1
    }
  }
}
