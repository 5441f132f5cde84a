// The Grafana dashboard docs/grafana/warren.json: rows of panels, each an expression or several. Written by
// scripts/metrics-reference.ts; a unit test compares, and looks each metric up.

import { loopRows, type PanelDraft } from './metrics-panels.js'
import { trafficRows } from './metrics-panels-traffic.js'

const datasource = { type: 'prometheus', uid: '$datasource' }
const letters = 'ABCDEFGH'

function panel(draft: PanelDraft, id: number, at: { x: number; y: number; w: number; h: number }) {
  const { kind = 'timeseries', unit = 'short', redFrom } = draft
  const steps = [
    { color: redFrom === undefined ? 'text' : 'green', value: null },
    ...(redFrom === undefined ? [] : [{ color: 'red', value: redFrom }]),
  ]
  return {
    id,
    type: kind,
    title: draft.title,
    ...(draft.about === undefined ? {} : { description: draft.about }),
    datasource,
    gridPos: at,
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        thresholds: { mode: 'absolute', steps },
        ...(kind === 'timeseries' ? { custom: { fillOpacity: 5, showPoints: 'never' } } : {}),
      },
      overrides: [],
    },
    options:
      kind === 'stat'
        ? { reduceOptions: { calcs: ['lastNotNull'] }, colorMode: 'value', graphMode: 'area' }
        : { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
    targets: draft.queries.map(({ expr, legend }, i) => ({
      refId: letters[i],
      datasource,
      expr,
      legendFormat: legend,
    })),
  }
}

function variable(name: string, query: string) {
  return {
    name,
    type: 'query',
    datasource,
    query: { query, refId: name },
    definition: query,
    refresh: 2,
    includeAll: true,
    multi: true,
    current: { text: 'All', value: '$__all' },
    sort: 1,
  }
}

/** As Grafana 10 and newer import it. */
export function dashboard(): unknown {
  const panels: unknown[] = []
  let id = 0
  let y = 0
  for (const [title, drafts] of [...loopRows, ...trafficRows]) {
    id += 1
    panels.push({ id, type: 'row', title, collapsed: false, gridPos: { x: 0, y, w: 24, h: 1 }, panels: [] })
    y += 1
    let x = 0
    let high = 0
    for (const draft of drafts) {
      const size = draft.kind === 'stat' ? { w: 4, h: 4 } : { w: 12, h: 8 }
      if (x + size.w > 24) {
        x = 0
        y += high
        high = 0
      }
      id += 1
      panels.push(panel(draft, id, { x, y, ...size }))
      x += size.w
      high = Math.max(high, size.h)
    }
    y += high
  }
  return {
    uid: 'warren',
    title: 'Warren',
    description: 'Agents of Warren: docs/metrics.md',
    tags: ['warren', 'network'],
    schemaVersion: 39,
    editable: true,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Prometheus' },
        variable('job', 'label_values(warren_build_info, job)'),
        variable('instance', 'label_values(warren_build_info{job=~"$job"}, instance)'),
      ],
    },
    panels,
  }
}
