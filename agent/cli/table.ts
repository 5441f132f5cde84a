// Tables for people: upper-case headers, columns two spaces apart, the last one as it is. What is printed comes from
// stores, peers and the kernel: control characters in it never reach the terminal.

export type Tone = 'good' | 'bad' | 'warn' | 'dim' | 'bold'

export type Cell = string | number | undefined | { readonly text: string; readonly tone: Tone }

export interface Column<T> {
  readonly title: string
  readonly value: (row: T) => Cell
  /** Numbers stand at the right. */
  readonly right?: boolean
  /** Least width, for rows that are printed one by one. */
  readonly width?: number
}

/** Colours text when colours are on. */
export type Paint = (tone: Tone, text: string) => string

const codes: Readonly<Record<Tone, string>> = { good: '32', bad: '31', warn: '33', dim: '2', bold: '1' }

export const plain: Paint = (_, text) => text
export const coloured: Paint = (tone, text) => (text === '' ? '' : `\u001b[${codes[tone]}m${text}\u001b[0m`)

/** Text that a terminal shows and does not obey; `lines` keeps line ends and tabs. */
export function printable(text: string, lines = false): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what has to go
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, character => {
    if (lines && (character === '\n' || character === '\t')) return character
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}

interface Drawn {
  readonly text: string
  readonly tone: Tone | undefined
}

function draw(cell: Cell): Drawn {
  if (cell === undefined || cell === '') return { text: '-', tone: 'dim' }
  if (typeof cell === 'object') return { text: printable(cell.text) || '-', tone: cell.tone }
  return { text: printable(String(cell)), tone: undefined }
}

function line(
  cells: readonly Drawn[],
  widths: readonly number[],
  rights: readonly boolean[],
  paint: Paint,
): string {
  const parts = cells.map(({ text, tone }, i) => {
    const shown = tone === undefined ? text : paint(tone, text)
    const gap = ' '.repeat(Math.max(0, (widths[i] ?? 0) - text.length))
    if (rights[i]) return gap + shown
    return i === cells.length - 1 ? shown : shown + gap
  })
  return parts.join('  ')
}

/** Header and rows as lines. */
export function tableLines<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  paint: Paint,
): readonly string[] {
  const header = columns.map(({ title }): Drawn => ({ text: title, tone: 'dim' }))
  const body = rows.map(row => columns.map(column => draw(column.value(row))))
  const widths = columns.map((column, i) =>
    Math.max(column.width ?? 0, ...[header, ...body].map(cells => cells[i]?.text.length ?? 0)),
  )
  const rights = columns.map(column => column.right === true)
  return [header, ...body].map(cells => line(cells, widths, rights, paint))
}

/** The same for rows that come one by one: the header, and a function that draws a row. */
export function tableStream<T>(
  columns: readonly Column<T>[],
  paint: Paint,
): { readonly header: string; readonly row: (row: T) => string } {
  const widths = columns.map(column => Math.max(column.width ?? 0, column.title.length))
  const rights = columns.map(column => column.right === true)
  return {
    header: line(
      columns.map(({ title }): Drawn => ({ text: title, tone: 'dim' })),
      widths,
      rights,
      paint,
    ),
    row: row =>
      line(
        columns.map(column => draw(column.value(row))),
        widths,
        rights,
        paint,
      ),
  }
}
