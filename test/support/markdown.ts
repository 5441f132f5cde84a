// What the documents hold, as values that tests can look at: headings, links, blocks of code, lines of a shell.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))

export interface Page {
  /** Below the repository: "docs/bgp.md". */
  readonly path: string
  readonly text: string
  /** As GitHub makes them of the headings. */
  readonly anchors: ReadonlySet<string>
  readonly links: readonly Place[]
  readonly blocks: readonly (Place & { readonly language: string })[]
  /** `code` inside of text. */
  readonly inline: readonly Place[]
}

export interface Place {
  readonly text: string
  readonly line: number
}

/** GitHub's way from a heading to an anchor: lower case, no punctuation, spaces become "-". */
function slug(heading: string): string {
  return heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/`/g, '')
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-')
}

export function parsePage(path: string, text: string): Page {
  const anchors = new Set<string>()
  const links: Place[] = []
  const blocks: { text: string; line: number; language: string }[] = []
  const inline: Place[] = []
  let fence: { language: string; line: number; lines: string[] } | undefined
  const indented: { line: number; lines: string[] } = { line: 0, lines: [] }
  const endIndented = (): void => {
    if (indented.lines.length > 0)
      blocks.push({ text: indented.lines.join('\n'), line: indented.line, language: '' })
    indented.lines = []
  }
  let before = ''
  text.split('\n').forEach((line, i) => {
    const number = i + 1
    const mark = /^\s*```(\w*)/.exec(line)
    if (fence !== undefined) {
      if (mark === null) fence.lines.push(line)
      else {
        blocks.push({ text: fence.lines.join('\n'), line: fence.line, language: fence.language })
        fence = undefined
      }
      return
    }
    if (mark !== null) {
      endIndented()
      fence = { language: mark[1] ?? '', line: number + 1, lines: [] }
      return
    }
    // Four spaces are code after an empty line, and the rest of a list's entry else.
    if (/^ {4}/.test(line) && (indented.lines.length > 0 || before.trim() === '')) {
      if (indented.lines.length === 0) indented.line = number
      indented.lines.push(line.slice(4))
      before = line
      return
    }
    endIndented()
    before = line
    const heading = /^#{1,6} (.*)$/.exec(line)?.[1]
    if (heading !== undefined) {
      const base = slug(heading)
      let anchor = base
      for (let n = 1; anchors.has(anchor); n += 1) anchor = `${base}-${n}`
      anchors.add(anchor)
    }
    const plain = line.replace(/`([^`]+)`/g, (_, code: string) => {
      inline.push({ text: code, line: number })
      return '``'
    })
    for (const [, target = ''] of plain.matchAll(/\]\(([^)\s]+)\)/g))
      links.push({ text: target, line: number })
    for (const [, target = ''] of plain.matchAll(/<img[^>]* src="([^"]+)"/g))
      links.push({ text: target, line: number })
  })
  endIndented()
  return { path, text, anchors, links, blocks, inline }
}

/** Every Markdown file that we wrote. */
export function allPages(): readonly Page[] {
  const skipped = /(^|\/)(node_modules|\.[^/]+|dist[^/]*)(\/|$)/
  return readdirSync(root, { withFileTypes: true })
    .flatMap(entry => {
      if (skipped.test(entry.name)) return []
      if (!entry.isDirectory()) return [entry.name]
      return readdirSync(join(root, entry.name), { recursive: true, encoding: 'utf8' })
        .map(name => join(entry.name, name))
        .filter(name => !skipped.test(name))
    })
    .filter(name => name.endsWith('.md'))
    .sort()
    .map(path => parsePage(path, readFileSync(join(root, path), 'utf8')))
}

/** Words of a shell line, quotes taken away; comments, redirections and what stands behind them are gone. */
function words(command: string): readonly string[] {
  const found = [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
    ([, double, single, bare]) => double ?? single ?? bare ?? '',
  )
  const end = found.findIndex(word => /^([<>&\\]|\d?>)/.test(word))
  return end < 0 ? found : found.slice(0, end)
}

/** The simple commands of a line that people type: "a | b ; sudo c # why" is a, b and sudo c. */
export function commandsOf(line: string): readonly (readonly string[])[] {
  return line
    .replace(/^\s*[$#] /, '')
    .replace(/(^|\s{1,})# .*$/, '')
    .split(/\s+(?:&&|\|\||\||;)\s+|;\s|\$\(|<\(|\)(?=\s|$)/)
    .map(words)
    .filter(({ length }) => length > 0)
}

/** Arguments of a program wherever it stands on the line: behind sudo, `ip netns exec`, `lab.sh exec h1`, `ssh h1`. */
export function argumentsOf(command: readonly string[], program: string): readonly string[] | undefined {
  const at = command.indexOf(program)
  const starters =
    /^(sudo|exec|watch|time|until|while|if|!|for|do|ssh|-c|[A-Z_]+=.*|ip|netns|(.*\/)?lab\.sh|h\d+|HOST|vagrant|--name|-n|NAME|[a-z]|wl-.*|-i)$/
  if (at < 0 || !command.slice(0, at).every(word => starters.test(word))) return undefined
  return command.slice(at + 1)
}
