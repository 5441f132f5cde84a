// Reads Prometheus' text format 0.0.4, strictly: what it does not allow is an error that names the line. Apart from prom-client,
// which writes it.
export interface ParsedFamily {
  readonly name: string
  readonly type: string
  readonly help: string
  /** By the whole name and labels as written. */
  readonly samples: ReadonlyMap<string, number>
}

const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? (\S+)$/
const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)/

function readLabels(text: string): string {
  let rest = text.slice(1, -1)
  const seen = new Set<string>()
  while (rest !== '') {
    const found = label.exec(rest)
    if (found === null) throw new Error(`labels: ${text}`)
    const [all, name = ''] = found
    if (seen.has(name)) throw new Error(`label twice: ${text}`)
    seen.add(name)
    rest = rest.slice(all.length)
  }
  return text
}

function readValue(text: string): number {
  if (text === '+Inf') return Number.POSITIVE_INFINITY
  const value = Number(text)
  if (text === '' || Number.isNaN(value)) throw new Error(`value: ${text}`)
  return value
}

export function parseExposition(text: string): ReadonlyMap<string, ParsedFamily> {
  const families = new Map<string, ParsedFamily & { samples: Map<string, number> }>()
  let current: (ParsedFamily & { samples: Map<string, number> }) | undefined
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  for (const [i, line] of text.split('\n').entries()) {
    try {
      if (line === '') continue
      const [, help, type] = /^# (?:(HELP)|(TYPE)) /.exec(line) ?? []
      if (help !== undefined) {
        const [, name = '', words = ''] = /^# HELP (\S+) (.+)$/.exec(line) ?? []
        if (name === '' || families.has(name)) throw new Error('HELP without a text, or twice')
        current = { name, help: words, type: '', samples: new Map() }
        families.set(name, current)
      } else if (type !== undefined) {
        const [, name, kind = ''] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? []
        if (current === undefined || name !== current.name || current.type !== '') throw new Error('TYPE')
        ;(current as { type: string }).type = kind
      } else {
        const [, name = '', labels = '', value = ''] = sample.exec(line) ?? []
        const base = current?.type === 'histogram' ? name.replace(/_(bucket|sum|count)$/, '') : name
        if (current === undefined || base !== current.name) throw new Error('a sample of no family')
        const key = name + (labels === '' ? '' : readLabels(labels))
        if (current.samples.has(key)) throw new Error('a sample twice')
        current.samples.set(key, readValue(value))
      }
    } catch (error) {
      throw new Error(`line ${i + 1}: ${error instanceof Error ? error.message : error}: ${line}`)
    }
  }
  return families
}
