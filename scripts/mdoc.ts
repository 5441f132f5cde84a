// Text as mdoc(7), the language of manual pages: what is special to it is escaped, and each sentence is a line of its own.

/** Words for a text line: no backslash and no leading control character is left with its meaning. */
export function plain(text: string): string {
  return text.replaceAll('\\', '\\e').replace(/^(?=[.'])/, '\\&')
}

/** A paragraph: one line a sentence; marks of Markdown are taken off. */
export function sentences(text: string): readonly string[] {
  return text
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replaceAll('`', '')
    .split(/(?<=[.!?])\s+|\n/)
    .map(line => line.trim())
    .filter(line => line !== '')
    .map(plain)
}

/** One argument of a macro: a word that is a macro's name itself, or has blanks in it, stands in quotes. */
export function argument(text: string): string {
  const safe = plain(text).replaceAll('"', '\\(dq')
  if (/^[A-Z][a-z][a-z]?$/.test(safe) || /^[.,:;()[\]?!|]$/.test(safe)) return `\\&${safe}`
  return /\s/.test(safe) || safe === '' ? `"${safe}"` : safe
}

/** Lines as they are, in a fixed font, indented. */
export function literal(lines: readonly string[]): readonly string[] {
  return ['.Bd -literal -offset indent', ...lines.map(line => plain(line)), '.Ed']
}

/** "-o, --output <format>" as ".It Fl o , Fl -output Ar format" without the first word. */
export function flags(text: string): string {
  return text
    .split(/[ ]+/)
    .map(word => {
      const comma = word.endsWith(',') ? ' ,' : ''
      const bare = word.replace(/,$/, '')
      if (bare.startsWith('-')) return `Fl ${argument(bare.slice(1))}${comma}`
      return `Ar ${argument(bare.replace(/[<>[\]]/g, ''))}${comma}`
    })
    .join(' ')
}

/** Text lines of at most 78 columns; macros and what is shown as it is stay whole. */
function wrapped(lines: readonly string[]): readonly string[] {
  let asIs = false
  return lines.flatMap(line => {
    if (line.startsWith('.Bd')) asIs = true
    if (line.startsWith('.Ed')) asIs = false
    if (asIs || line.startsWith('.') || line.length <= 78) return [line]
    const parts: string[] = []
    let at = ''
    for (const word of line.split(' ')) {
      if (at !== '' && at.length + 1 + word.length > 78) {
        parts.push(at)
        at = word.replace(/^(?=[.'])/, '\\&')
      } else at = at === '' ? word : `${at} ${word}`
    }
    return [...parts, at]
  })
}

const made =
  'Made by scripts/manual.ts: change the texts there, or the descriptions of commands (agent/cli) and fields (agent/config-schema.ts).'
/** Of the texts in this file; commands and fields carry none. */
const date = 'November 28, 2026'

export function page(
  name: string,
  volume: number,
  about: string,
  sections: readonly (readonly [string, readonly string[]])[],
): string {
  return `${[
    `.\\" ${made}`,
    `.Dd ${date}`,
    `.Dt ${name.toUpperCase()} ${volume}`,
    '.Os',
    '.Sh NAME',
    `.Nm ${name}`,
    `.Nd ${about}`,
    ...sections.flatMap(([title, lines]) => (lines.length === 0 ? [] : [`.Sh ${title}`, ...wrapped(lines)])),
  ].join('\n')}\n`
}

/** With a capital letter first. */
export const capital = (text: string): string => `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`
/** A description as it is written for --help, as whole sentences. */
export const sentence = (text: string): readonly string[] => {
  const whole = capital(text.trim())
  return sentences(/[.!?]$/.test(whole) ? whole : `${whole}.`)
}
export const seeAlso = (...pages: readonly (readonly [string, number])[]): readonly string[] =>
  pages.map(([name, volume], i) => `.Xr ${name} ${volume}${i < pages.length - 1 ? ' ,' : ''}`)
export const list = (
  width: string,
  items: readonly (readonly [string, readonly string[]])[],
): readonly string[] =>
  items.length === 0
    ? []
    : [`.Bl -tag -width ${width}`, ...items.flatMap(([head, body]) => [`.It ${head}`, ...body]), '.El']
