// Takes guards out of tables that stand in a kernel, by nft(8), and puts them back: for labs whose tables an agent loaded. A
// running agent repairs its tables within milliseconds, so stop it before (what is there forwards on).
import type { Guard } from './arena.js'

export interface LiveTable {
  /** "bridge warren" */
  readonly table: string
  /** Places with such a table: "fabric/h1". */
  readonly places: readonly string[]
}

interface Rule {
  readonly chain: string
  /** Among the rules of its chain. */
  readonly index: number
  readonly handle: string
  readonly text: string
}

type Shell = (place: string, script: string) => string

interface Listing {
  readonly rules: readonly Rule[]
  /** Chain by its hook. */
  readonly hooks: ReadonlyMap<string, string>
}

function list(sh: Shell, place: string, table: string): Listing {
  const rules: Rule[] = []
  const hooks = new Map<string, string>()
  let chain = ''
  let index = 0
  for (const line of sh(place, `nft -t -a list table ${table}`).split('\n')) {
    const start = /^\tchain (\S+) \{/.exec(line)
    if (start !== null) {
      chain = start[1] ?? ''
      index = 0
    } else if (line === '\t}') chain = ''
    const hook = /^\t\ttype \S+ hook (\S+) /.exec(line)?.[1]
    if (hook !== undefined) hooks.set(hook, chain)
    const rule = /^\t\t(.*) # handle (\d+)$/.exec(line)
    if (chain === '' || rule === null) continue
    const text = (rule[1] ?? '').replace(/counter packets \d+ bytes \d+/g, 'counter')
    rules.push({ chain, index, handle: rule[2] ?? '', text })
    index += 1
  }
  return { rules, hooks }
}

function commit(sh: Shell, place: string, commands: readonly string[]): void {
  if (commands.length > 0) sh(place, `nft -f - <<'END'\n${commands.join('\n')}\nEND\n`)
}

/** Lifts all of `guards` everywhere and returns what puts them back. Errors: a guard that a table does not have. */
export function liftGuards(
  sh: Shell,
  tables: Readonly<Record<Guard['table'], LiveTable>>,
  guards: readonly Guard[],
): () => void {
  const restore: (() => void)[] = []
  for (const { table: id, from, to } of guards) {
    const { table, places } = tables[id]
    for (const place of places) {
      const { rules, hooks } = list(sh, place, table)
      const policy = /hook (\S+) .*policy drop/.exec(from)?.[1]
      if (policy !== undefined) {
        const chain = hooks.get(policy)
        if (chain === undefined) throw new Error(`no hook "${policy}" in table ${table} of ${place}`)
        commit(sh, place, [`chain ${table} ${chain} { policy accept; }`])
        restore.push(() => commit(sh, place, [`chain ${table} ${chain} { policy drop; }`]))
        continue
      }
      const hits = rules.filter(({ text }) => text.includes(from))
      if (hits.length === 0) throw new Error(`no rule "${from}" in table ${table} of ${place}`)
      const replace = ({ chain, handle }: Rule, text: string): string =>
        `replace rule ${table} ${chain} handle ${handle} ${text}`
      commit(
        sh,
        place,
        hits.map(rule => replace(rule, rule.text.replace(from, to))),
      )
      restore.push(() => {
        // A replaced rule stands where the old one stood, with another handle.
        const now = list(sh, place, table).rules
        const lines = hits.map(old => {
          const rule = now.find(({ chain, index }) => chain === old.chain && index === old.index)
          if (rule === undefined) throw new Error(`no rule ${old.index} in chain ${old.chain} of ${place}`)
          return replace(rule, old.text)
        })
        commit(sh, place, lines)
      })
    }
  }
  return () => {
    for (const each of restore.reverse()) each()
  }
}
