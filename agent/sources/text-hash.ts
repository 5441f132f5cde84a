// A short word for a text that is not kept: has it changed?

/** FNV-1a of the text's UTF-16 units, 32 bits signed: V8 keeps such a number in the object itself. */
export function textHash(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash | 0
}
