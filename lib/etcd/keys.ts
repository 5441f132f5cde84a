// Keys and entries as etcd's JSON has them: base64, int64 as strings, and what is zero or empty left out.
import type { KvEntry } from '../kv/kv.js'
import type { Json } from './gateway.js'

export interface Keys {
  /** Key of ours -> base64 of the whole key. */
  encode(key: string): string
  decode(base64: string): string
  /** All keys that start with `prefix`, as key and range_end. */
  range(prefix: string): { readonly key: string; readonly range_end: string }
}

const base64 = (bytes: Buffer): string => bytes.toString('base64')

/** The first key behind all that start with `bytes`: the last byte that can be is one more; "\0" is the end of all keys. */
function rangeEnd(bytes: Buffer): Buffer {
  const end = Buffer.from(bytes)
  for (let at = end.length - 1; at >= 0; at--) {
    const byte = end[at] ?? 0
    if (byte < 0xff) {
      end[at] = byte + 1
      return end.subarray(0, at + 1)
    }
  }
  return Buffer.from([0])
}

/** `prefix` "/warren" puts everything below "/warren/". */
export function keysBelow(prefix: string): Keys {
  const root = `${prefix.replace(/\/+$/, '')}/`
  const bytes = Buffer.byteLength(root)
  return {
    encode: key => base64(Buffer.from(root + key)),
    // Not a slice of the whole key, which that would keep in memory.
    decode: text => Buffer.from(text, 'base64').toString('utf8', bytes),
    range: below => {
      const start = Buffer.from(root + below)
      return { key: base64(start), range_end: base64(rangeEnd(start)) }
    },
  }
}

export function readEntry(keys: Keys, kv: Json): KvEntry {
  return {
    key: keys.decode(String(kv['key'] ?? '')),
    value: Buffer.from(String(kv['value'] ?? ''), 'base64').toString('utf8'),
    modRevision: Number(kv['mod_revision'] ?? 0),
    createRevision: Number(kv['create_revision'] ?? 0),
  }
}
