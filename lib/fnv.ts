// FNV-1a (draft-eastlake-fnv), 32 bits: a short number for a text, the same on every host. Not against those who choose the text.

/**
 * Of the text's UTF-16 units; signed: V8 keeps such a number in the object itself. Hosts begin at it to look for blocks,
 * addresses, ports and ids, and snapshots keep it: it stays as it is.
 */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash | 0
}
