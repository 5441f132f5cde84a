// A small part of YAML, read at once: block mappings and lists of plain words, numbers and flow collections that end on their
// line, as nearly all documents of a model are written. Fifty times as quick as a parser that keeps the whole syntax, which
// reads all else: whatever is not certainly of this part (an anchor, an escape, a comment behind a value, a text of several lines, a
// number that is no whole one) is left to it, errors always.

/** Deeper is left to the parser. */
const deepest = 30

/** Printable ASCII alone: no tab, no carriage return. */
const usual = /^[\n\x20-\x7e]*$/
/** Empty, or a comment: between the lines of block collections it means nothing. */
const idle = /^ *(#.*)?$/
/** A key that is a string whatever the schema says, and what follows its colon. */
const entry = /^([A-Za-z_][A-Za-z0-9_./-]{0,200}):(?: +(.*))?$/
const flowKey = /([A-Za-z_][A-Za-z0-9_./-]{0,200}): +/y
const spaces = / */y
const word = /[A-Za-z0-9_/][A-Za-z0-9_./:@+-]*/y
const quoted = /"([^"\\]*)"|'([^']*)'/y
const whole = /^(?:0|[1-9][0-9]{0,14})$/
/** Words that begin with a digit and are no number in any schema: addresses, prefixes, MACs, "8080/tcp", "30000-32767". */
const numbered = /^\d+(?:\.\d+){3}$|^\d+-\d+$|[:/]/
/** Values in one way of writing or another. */
const special = /^(?:null|true|false)$/i

/** It is not of this part. */
class Unusual extends Error {}

const unusual = new Unusual()

type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value }

function wordValue(text: string): Value {
  if (text.endsWith(':')) throw unusual
  if (text >= '0' && text < ':') {
    if (whole.test(text)) return Number(text)
    if (numbered.test(text)) return text
    throw unusual
  }
  if (!special.test(text)) return text
  if (text === 'true') return true
  if (text === 'false') return false
  throw unusual
}

function set(map: Record<string, Value>, key: string, value: Value): void {
  if (special.test(key) || key === '__proto__' || Object.hasOwn(map, key)) throw unusual
  map[key] = value
}

/** One line's value: a word, a quoted text or a flow collection, and nothing behind it. */
class Flow {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  whole(): Value {
    const value = this.#value(0)
    if (this.#at < this.#text.length) throw unusual
    return value
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)
    if (found !== null) this.#at = pattern.lastIndex
    return found
  }

  #next(character: string): boolean {
    this.#match(spaces)
    if (this.#text[this.#at] !== character) return false
    this.#at += 1
    this.#match(spaces)
    return true
  }

  #value(depth: number): Value {
    if (depth > deepest) throw unusual
    if (this.#next('[')) {
      const list: Value[] = []
      if (this.#next(']')) return list
      do list.push(this.#value(depth + 1))
      while (this.#next(','))
      if (this.#next(']')) return list
      throw unusual
    }
    if (this.#next('{')) {
      const map: Record<string, Value> = {}
      if (this.#next('}')) return map
      do {
        const key = this.#match(flowKey)?.[1]
        if (key === undefined) throw unusual
        set(map, key, this.#value(depth + 1))
      } while (this.#next(','))
      if (this.#next('}')) return map
      throw unusual
    }
    const text = this.#match(quoted)
    if (text !== null) return text[1] ?? text[2] ?? ''
    const found = this.#match(word)?.[0]
    if (found === undefined) throw unusual
    return wordValue(found)
  }
}

interface Line {
  readonly indent: number
  /** Without its indent, and without spaces behind. */
  readonly text: string
}

/** Block collections by their lines. */
class Block {
  readonly #lines: readonly Line[]
  #at = 0

  constructor(lines: readonly Line[]) {
    this.#lines = lines
  }

  whole(): Value {
    const value = this.#map(0, 0)
    if (this.#at < this.#lines.length) throw unusual
    return value
  }

  /** What a key without a value on its line has below it. */
  #below(indent: number, depth: number): Value {
    const line = this.#lines[this.#at]
    if (line === undefined || depth > deepest) throw unusual
    const isList = line.text.startsWith('- ')
    if (line.indent > indent) return isList ? this.#list(line.indent, depth) : this.#map(line.indent, depth)
    if (line.indent === indent && isList) return this.#list(indent, depth)
    throw unusual
  }

  #entry(map: Record<string, Value>, text: string, indent: number, depth: number): void {
    const found = entry.exec(text)
    const key = found?.[1]
    if (key === undefined) throw unusual
    this.#at += 1
    const value = found?.[2]
    set(map, key, value === undefined ? this.#below(indent, depth + 1) : new Flow(value).whole())
  }

  #map(indent: number, depth: number, map: Record<string, Value> = {}): Value {
    for (;;) {
      const line = this.#lines[this.#at]
      if (line === undefined || line.indent < indent) return map
      // A list at the indent of the key above ends at the next key; deeper: a text of several lines.
      if (line.indent > indent) throw unusual
      this.#entry(map, line.text, indent, depth)
    }
  }

  #list(indent: number, depth: number): Value {
    const list: Value[] = []
    for (;;) {
      const line = this.#lines[this.#at]
      if (line === undefined || line.indent < indent) return list
      if (line.indent > indent) throw unusual
      if (!line.text.startsWith('- ')) return list
      const text = line.text.slice(2).trimStart()
      if (entry.test(text)) {
        const inner = indent + line.text.length - text.length
        const map: Record<string, Value> = {}
        this.#entry(map, text, inner, depth + 1)
        list.push(this.#map(inner, depth + 1, map))
      } else {
        this.#at += 1
        list.push(new Flow(text).whole())
      }
    }
  }
}

export interface Plain {
  readonly value: unknown
  /** Of the first key, from 0. */
  readonly line: number
}

/** The value of one document without its marks ("---"); undefined: it is for the parser. */
export function readPlain(text: string): Plain | undefined {
  if (!usual.test(text)) return undefined
  const lines: Line[] = []
  let first = -1
  let at = 0
  for (const each of text.split('\n')) {
    if (!idle.test(each)) {
      if (first < 0) first = at
      // A comment behind a value, or a "#" that is part of one.
      if (each.includes('#')) return undefined
      const content = each.trim()
      lines.push({ indent: each.indexOf(content), text: content })
    }
    at += 1
  }
  if (lines[0]?.indent !== 0) return undefined
  try {
    return { value: new Block(lines).whole(), line: first }
  } catch (error) {
    if (error === unusual) return undefined
    throw error
  }
}
