// Names in a sentence.

/** The first five, and how many more. */
export function some(names: readonly string[]): string {
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
}
