// The report as JSON, as a Markdown matrix and as one HTML page that reads without the text.
import { type Port, ports, tenants } from './plan.js'
import type { Cell, Check, Report } from './record.js'

type State = 'open' | 'closed' | 'wrong' | 'part' | 'untried' | 'self'

/** What a pair came to: everything that was wanted arrived, nothing did as nothing should, or it is wrong. */
function stateOf(cell: Cell | undefined, from: Port, to: Port): State {
  if (from === to) return 'self'
  if (cell === undefined) return 'untried'
  if (cell.wrong > 0) return 'wrong'
  if (cell.wanted === 0) return 'closed'
  return cell.wanted === cell.tried ? 'open' : 'part'
}

const marks: Readonly<Record<State, string>> = {
  open: '●',
  part: '◐',
  closed: '·',
  wrong: '✗',
  untried: ' ',
  self: '',
}

const words: Readonly<Record<State, string>> = {
  open: 'reaches, as it should',
  part: 'reaches what its security groups open, and nothing else',
  closed: 'reaches nothing, as it should',
  wrong: 'is not as it must be',
  untried: 'not tried',
  self: 'itself',
}

const order = tenants.flatMap(tenant => ports.filter(port => port.tenant === tenant))

function cellOf(report: Report, from: Port, to: Port): Cell | undefined {
  return report.cells.get(`${from.ref} > ${to.ref}`)
}

interface Totals {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

function totals(checks: readonly Check[]): Totals {
  const count = (outcome: Check['outcome']): number => checks.filter(each => each.outcome === outcome).length
  return { passed: count('pass'), failed: count('fail'), skipped: count('skip') }
}

export function toJson(report: Report): string {
  const { checks, attacks, cells, facts } = report
  const pairs = [...cells].map(([pair, cell]) => ({ pair, ...cell }))
  const all = {
    totals: totals(checks),
    facts: Object.fromEntries(facts),
    ports: order.map(({ ref, host, ip, ip6, mac, role }) => ({ ref, host, ip, ip6, mac, role })),
    attacks,
    pairs,
    checks,
  }
  return `${JSON.stringify(all, null, 2)}\n`
}

export function toMarkdown(report: Report): string {
  const { passed, failed, skipped } = totals(report.checks)
  const legend = (['open', 'part', 'closed', 'wrong'] as const).map(each => `${marks[each]} ${words[each]}`)
  const head = `| from \\ to | ${order.map(({ ref }) => ref).join(' | ')} |`
  const rule = `|---|${order.map(() => ':-:').join('|')}|`
  const rows = order.map(
    from =>
      `| **${from.ref}** ${from.host}, ${from.role} | ${order
        .map(to => marks[stateOf(cellOf(report, from, to), from, to)])
        .join(' | ')} |`,
  )
  const attacks = report.attacks.map(
    ({ name, guard, guarded, control }) => `| ${name} | ${guarded} | ${control} | ${guard} |`,
  )
  const failures = report.checks
    .filter(({ outcome }) => outcome !== 'pass')
    .map(({ area, name, outcome, detail }) => `- ${outcome}: ${area}: ${name} ${detail ?? ''}`)
  return [
    '# Isolation of tenants',
    '',
    `${passed} checks passed, ${failed} failed, ${skipped} skipped.`,
    ...[...report.facts].map(([name, value]) => `${name}: ${value}.`),
    '',
    '## Who reaches whom',
    '',
    `${legend.join('; ')}.`,
    '',
    head,
    rule,
    ...rows,
    '',
    '## Attacks',
    '',
    '| attack | with all guards | with its guard taken out | what was taken out |',
    '|---|---|---|---|',
    ...attacks,
    '',
    ...(failures.length === 0 ? [] : ['## Not passed', '', ...failures, '']),
  ].join('\n')
}

const escapes: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const esc = (text: string): string => text.replace(/[&<>"]/g, each => escapes[each] ?? each)

const style = `
:root { --paper: #fff; --ink: #1d2430; --faint: #68707d; --line: #d9dde3; --band: #f5f6f8;
  --open: #1f8a4c; --part: #8cc9a4; --closed: #eceff3; --wrong: #d3222a; --skip: #b7791f }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --ink: #e6e9ee; --faint: #98a1ae; --line: #333b47; --band: #1b212a;
  --open: #2fa866; --part: #2b5f44; --closed: #232a34; --wrong: #ff5d62; --skip: #e0a54a } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem }
.verdict { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1.25rem; min-width: 9rem }
.tile b { display: block; font-size: 1.9rem; line-height: 1.1; font-variant-numeric: tabular-nums } .tile span { color: var(--faint) }
.good b { color: var(--open) } .bad b { color: var(--wrong) } .note b { color: var(--skip) }
.scroll { overflow-x: auto }
table { border-collapse: collapse } td, th { padding: 0 }
.matrix td { width: 1.55rem; height: 1.55rem; border: 2px solid var(--paper); text-align: center; color: var(--paper); font-size: .8rem }
.matrix th { font-weight: 400; text-align: left; white-space: nowrap; padding-right: .75rem; font-size: .85rem }
.matrix th small { color: var(--faint) } .matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); padding: .4rem 0; vertical-align: bottom }
.matrix .first td, .matrix .first th { border-top: 8px solid var(--paper) } .matrix td.gap, .matrix th.gap { border-left: 8px solid var(--paper) }
.open { background: var(--open) } .part { background: var(--part) } .closed { background: var(--closed) } .wrong { background: var(--wrong) }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.5rem; color: var(--faint); margin: .75rem 0 } .legend i { display: inline-block; width: 1rem; height: 1rem; vertical-align: -.15rem; margin-right: .4rem; border-radius: .15rem; border: 1px solid var(--line) }
.list { width: 100%; font-size: .9rem } .list th { text-align: left; color: var(--faint); font-weight: 400; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line) }
.list td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top } .list td:last-child { color: var(--faint) }
.list tr.group td { background: var(--band); color: var(--ink); font-weight: 600; padding-left: .5rem }
.chip { display: inline-block; white-space: nowrap; border-radius: 1rem; padding: .05rem .7rem; color: #fff } .chip.ok { background: var(--open) } .chip.no { background: var(--wrong) } .chip.un { background: var(--faint) }
`

function tile(kind: string, count: number | string, label: string): string {
  return `<div class="tile ${kind}"><b>${count}</b><span>${esc(label)}</span></div>`
}

function matrix(report: Report): string {
  const first = (i: number): boolean => i > 0 && order[i]?.tenant !== order[i - 1]?.tenant
  const head = order.map(({ ref }, i) => `<th${first(i) ? ' class="gap"' : ''}>${ref}</th>`).join('')
  const rows = order.map((from, i) => {
    const cells = order.map((to, j) => {
      const cell = cellOf(report, from, to)
      const state = stateOf(cell, from, to)
      const counts =
        cell === undefined ? '' : `: ${cell.arrived} of ${cell.tried} ways arrived, ${cell.wanted} should`
      const title = esc(`${from.ref} to ${to.ref} ${words[state]}${counts}`)
      const mark = state === 'wrong' ? marks.wrong : ''
      return `<td class="${state}${first(j) ? ' gap' : ''}" title="${title}">${mark}</td>`
    })
    const who = `${from.ref} <small>${from.host}, ${esc(from.role)}</small>`
    return `<tr${first(i) ? ' class="first"' : ''}><th>${who}</th>${cells.join('')}</tr>`
  })
  const legend = (['open', 'part', 'closed', 'wrong'] as const)
    .map(state => `<span><i class="${state}"></i>${words[state]}</span>`)
    .join('')
  return `<div class="legend">${legend}</div><div class="scroll"><table class="matrix"><thead><tr><th></th>${head}</tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function chip(word: 'refused' | 'worked' | 'unknown', good: 'refused' | 'worked'): string {
  return `<span class="chip ${word === 'unknown' ? 'un' : word === good ? 'ok' : 'no'}">${word}</span>`
}

function attackTable(report: Report): string {
  const groups = new Map<string, string[]>()
  for (const { name, guard, guarded, control } of report.attacks) {
    const [kind = '', ...rest] = name.split(': ')
    const rows = groups.get(kind) ?? []
    rows.push(
      `<tr><td>${esc(rest.join(': '))}</td><td>${chip(guarded, 'refused')}</td><td>${chip(control, 'worked')}</td><td>${esc(guard)}</td></tr>`,
    )
    groups.set(kind, rows)
  }
  const body = [...groups].map(
    ([kind, rows]) => `<tr class="group"><td colspan="4">${esc(kind)}</td></tr>${rows.join('')}`,
  )
  return `<div class="scroll"><table class="list"><thead><tr><th>attack</th><th>all guards on</th><th>its guard taken out</th><th>what was taken out</th></tr></thead><tbody>${body.join('')}</tbody></table></div>`
}

function checkTable(checks: readonly Check[]): string {
  const rows = checks.map(({ area, name, outcome, detail }) => {
    const kind = outcome === 'pass' ? 'ok' : outcome === 'fail' ? 'no' : 'un'
    return `<tr><td>${esc(area)}</td><td>${esc(name)}</td><td><span class="chip ${kind}">${outcome}</span></td><td>${esc(detail ?? '')}</td></tr>`
  })
  return `<div class="scroll"><table class="list"><tbody>${rows.join('')}</tbody></table></div>`
}

export function toHtml(report: Report): string {
  const { passed, failed, skipped } = totals(report.checks)
  const { attacks } = report
  const proven = attacks.filter(each => each.guarded === 'refused' && each.control === 'worked').length
  const bad = report.checks.filter(({ outcome }) => outcome !== 'pass')
  const rest = report.checks.filter(
    ({ outcome, area }) => outcome === 'pass' && area !== 'attack' && area !== 'control',
  )
  const facts = [...report.facts].map(([name, value]) => `${name}: ${value}`).join(' · ')
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Isolation of tenants</title><style>${style}</style></head><body>
<h1>Isolation of tenants</h1>
<div class="verdict">${[
    tile(failed === 0 ? 'good' : 'bad', failed === 0 ? 'holds' : 'broken', 'the isolation of the tenants'),
    tile('', passed, 'checks passed'),
    tile(failed > 0 ? 'bad' : '', failed, 'failed'),
    tile(skipped > 0 ? 'note' : '', skipped, 'skipped'),
    tile('', `${proven}/${attacks.length}`, 'attacks refused that work without their guard'),
  ].join('')}</div>
<p>${esc(facts)}</p>
${bad.length === 0 ? '' : `<h2>Not passed</h2>${checkTable(bad)}`}
<h2>Who reaches whom (row to column)</h2>
${matrix(report)}
<h2>Attacks</h2>
${attackTable(report)}
<h2>What else was checked</h2>
${checkTable(rest)}
</body></html>
`
}
