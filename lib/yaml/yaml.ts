// YAML text in and out, with positions: the only module that knows the `yaml` package. YAML 1.2 core schema: no
// "yes"/"no" booleans, no dates, no custom tags. Input is hostile: its size and the growth by aliases are bounded.
import { isCollection, isMap, isScalar, LineCounter, type Node, parseDocument, stringify } from 'yaml'

/** A file of this many bytes holds some 20,000 documents; more is a mistake or an attack. */
export const maxYamlBytes = 8 << 20

/** Aliases may multiply what a document expands to; this many nodes reached through aliases and it is refused. */
const maxAliasCount = 100

export type YamlPath = readonly (string | number)[]

export interface YamlError {
  /** Line in the whole text, from 1. */
  readonly line: number
  readonly message: string
}

/** One document of a text: its value, or why it has none. */
export interface YamlDocument {
  /** Line of its first node in the whole text, from 1. */
  readonly line: number
  /** Undefined when there is an error. */
  readonly value: unknown
  readonly error: YamlError | undefined
  /** Line of the value at a path; of its key when `key` is set; of the nearest parent that exists otherwise. */
  lineOf(path: YamlPath, key?: boolean): number
}

interface Chunk {
  readonly text: string
  /** Lines before it. */
  readonly offset: number
}

// Documents are cut apart before they are parsed: a line that starts with "---" or "..." ends one wherever it stands
// (YAML 1.2.2 §9.1.2, c-forbidden), and so an unclosed quote cannot swallow the documents behind it.
function chunksOf(text: string): readonly Chunk[] {
  const chunks: Chunk[] = []
  let lines: string[] = []
  let offset = 0
  const all = text.split('\n')
  const flush = (next: number): void => {
    if (lines.some(line => !/^\s*(#.*)?$|^%/.test(line))) chunks.push({ text: lines.join('\n'), offset })
    lines = []
    offset = next
  }
  all.forEach((line, i) => {
    const mark = /^(---|\.\.\.)(\s.*)?$/.exec(line)
    if (mark === null) {
      lines.push(line)
      return
    }
    flush(i)
    // what follows the mark on its line belongs to the next document; spaces keep the columns of messages
    lines.push(mark[1] === '---' && mark[2] !== undefined ? `   ${mark[2]}` : '')
  })
  flush(all.length)
  return chunks
}

function nodeAt(root: Node | null, path: YamlPath, key: boolean): Node | null {
  let node = root
  for (const [i, step] of path.entries()) {
    if (!isCollection(node)) return node
    if (key && i === path.length - 1 && isMap(node)) {
      const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === String(step))
      return pair !== undefined && isScalar(pair.key) ? pair.key : node
    }
    const child: unknown = node.get(step, true)
    if (child === undefined || child === null) return node
    node = child as Node
  }
  return node
}

function read(chunk: Chunk): YamlDocument {
  const counter = new LineCounter()
  const lineAt = (position: number): number => chunk.offset + Math.max(1, counter.linePos(position).line)
  const failed = (line: number, message: string): YamlDocument => ({
    line,
    value: undefined,
    error: { line, message },
    lineOf: () => line,
  })
  try {
    const document = parseDocument(chunk.text, {
      lineCounter: counter,
      prettyErrors: false,
      schema: 'core',
      customTags: [],
      logLevel: 'silent',
    })
    const bad = document.errors[0] ?? document.warnings[0]
    if (bad !== undefined) return failed(lineAt(bad.pos[0]), bad.message)
    const first = document.contents
    const line = lineAt(first?.range?.[0] ?? 0)
    const lineOf = (path: YamlPath, key = false): number =>
      lineAt(nodeAt(first as Node | null, path, key)?.range?.[0] ?? 0)
    try {
      return { line, value: document.toJS({ maxAliasCount }) as unknown, error: undefined, lineOf }
    } catch (error) {
      return failed(line, error instanceof Error ? error.message : String(error))
    }
  } catch (error) {
    // A RangeError: nested so deep that the parser's recursion ran out of stack.
    const message = error instanceof RangeError ? 'nested too deep' : String(error)
    return failed(chunk.offset + 1, message)
  }
}

/**
 * Every document of a text that is not empty, each parsed by itself, when it is asked for (a quarter of a millisecond and 10 kB
 * for a small one): a bad one has an error and stops no other.
 */
export function* yamlDocuments(text: string): Generator<YamlDocument, undefined> {
  if (Buffer.byteLength(text) > maxYamlBytes) {
    const message = `larger than ${maxYamlBytes} bytes`
    yield { line: 1, value: undefined, error: { line: 1, message }, lineOf: () => 1 }
    return
  }
  for (const chunk of chunksOf(text.startsWith('\uFEFF') ? text.slice(1) : text)) yield read(chunk)
}

/** All of them at once. */
export const parseYaml = (text: string): readonly YamlDocument[] => [...yamlDocuments(text)]

/** A value as a YAML document, without the leading "---". */
export function formatYaml(value: unknown): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })
}
