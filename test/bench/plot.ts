// What sessions cost, as a picture (SVG): a full mesh against reflectors, by the number of nodes.
import type { Row } from './row.js'

interface Point {
  readonly x: number
  readonly y: number
}

interface Panel {
  readonly title: string
  readonly unit: string
  readonly lines: readonly {
    readonly name: string
    readonly colour: string
    readonly points: readonly Point[]
  }[]
}

const width = 420
const height = 260
const margin = { left: 56, right: 84, top: 34, bottom: 40 }
const colours = { mesh: '#c0392b', reflectors: '#2471a3' } as const

const log = (value: number): number => Math.log10(Math.max(1, value))

/** Both axes are logarithmic: what grows with the square is a line twice as steep. */
function panelSvg({ title, unit, lines }: Panel, left: number): string {
  const all = lines.flatMap(({ points }) => points)
  const most = { x: Math.max(...all.map(({ x }) => log(x))), y: Math.max(...all.map(({ y }) => log(y))) }
  const least = { x: Math.min(...all.map(({ x }) => log(x))), y: Math.min(...all.map(({ y }) => log(y))) }
  const place = ({ x, y }: Point): readonly [number, number] => [
    left +
      margin.left +
      ((log(x) - least.x) / (most.x - least.x || 1)) * (width - margin.left - margin.right),
    height -
      margin.bottom -
      ((log(y) - least.y) / (most.y - least.y || 1)) * (height - margin.top - margin.bottom),
  ]
  const xs = [...new Set(all.map(({ x }) => x))].sort((a, b) => a - b)
  const [x0, y0] = [left + margin.left, height - margin.bottom]
  const parts = [
    `<text x="${x0}" y="20" class="title">${title}</text>`,
    `<path d="M${x0} ${margin.top}V${y0}H${left + width - margin.right}" class="axis"/>`,
    ...xs.map(x => {
      const [at] = place({ x, y: 1 })
      return `<text x="${at.toFixed(1)}" y="${y0 + 16}" text-anchor="middle">${x}</text>`
    }),
    `<text x="${left + width - margin.right}" y="${y0 + 32}" text-anchor="end">nodes</text>`,
  ]
  for (const { name, colour, points } of lines) {
    const at = points.map(place)
    parts.push(
      `<polyline points="${at.map(each => each.map(n => n.toFixed(1)).join(',')).join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>`,
      ...at.map(([x, y], i) => {
        const point = points[i] as Point
        const label = `${Math.round(point.y)} ${unit}`.trim()
        return `<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="3" fill="${colour}"><title>${name}, ${point.x} nodes: ${label}</title></circle>`
      }),
    )
    const [x = 0, y = 0] = at.at(-1) ?? []
    const last = points.at(-1)
    if (last !== undefined)
      parts.push(
        `<text x="${(x + 8).toFixed(1)}" y="${(y + 4).toFixed(1)}" fill="${colour}">${name} ${Math.round(last.y)}${unit === '' ? '' : ` ${unit}`}</text>`,
      )
  }
  return parts.join('\n')
}

/** The rows `bgp-<topology>-<n>-<what>` of bgp-fleet.ts as lines by n. */
function lineOf(rows: readonly Row[], topology: keyof typeof colours, what: string) {
  const name = new RegExp(`^bgp-${topology}-(\\d+)-${what}$`)
  const points = rows.flatMap(row => {
    const n = name.exec(row.name)?.[1]
    return n === undefined || row.value === null ? [] : [{ x: Number(n), y: row.value }]
  })
  return { name: topology, colour: colours[topology], points: points.sort((a, b) => a.x - b.x) }
}

export function sessionPlot(rows: readonly Row[]): string {
  const panel = (title: string, unit: string, what: string): Panel => ({
    title,
    unit,
    lines: [lineOf(rows, 'mesh', what), lineOf(rows, 'reflectors', what)],
  })
  const panels = [panel('BGP sessions', '', 'sessions'), panel('memory of all gobgpd', 'MB', 'gobgpd')]
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width * panels.length} ${height}" role="img" aria-label="BGP sessions and memory of a full mesh and of two reflectors by the number of nodes">
<style>text{font:12px sans-serif;fill:#444}.title{font-weight:bold;fill:#222}.axis{stroke:#888;fill:none}</style>
<rect width="100%" height="100%" fill="#fff"/>
${panels.map((each, i) => panelSvg(each, i * width)).join('\n')}
</svg>
`
}
