// What the Grafana dashboard shows of the agents and their loop, and what a panel is; metrics-dashboard.ts makes the file of it.

export interface Query {
  readonly expr: string
  readonly legend: string
}

export interface PanelDraft {
  readonly title: string
  readonly about?: string
  readonly kind?: 'timeseries' | 'stat'
  readonly unit?: 's' | 'short' | 'bytes' | 'ops' | 'pps' | 'percentunit' | 'dateTimeFromNow'
  /** Values from which on a stat is red; below it is green. Default: none. */
  readonly redFrom?: number
  readonly queries: readonly Query[]
}

export const here = '{job=~"$job", instance=~"$instance"}'
/** A selector with these labels, too. */
const where = (labels: string): string => here.replace('}', `, ${labels}}`)

function quantiles(metric: string): readonly Query[] {
  return [0.5, 0.9, 0.99].map(quantile => ({
    expr: `histogram_quantile(${quantile}, sum by (le) (rate(${metric}_bucket${here}[$__rate_interval])))`,
    legend: `p${quantile * 100}`,
  }))
}

export type PanelRow = readonly [title: string, panels: readonly PanelDraft[]]

export const loopRows: readonly PanelRow[] = [
  [
    'Is all well?',
    [
      {
        title: 'Agents that answer',
        kind: 'stat',
        queries: [{ expr: 'sum(up{job=~"$job", instance=~"$instance"})', legend: 'up' }],
      },
      {
        title: 'Not converged',
        kind: 'stat',
        redFrom: 1,
        queries: [{ expr: `count(warren_converged${here} == 0) or vector(0)`, legend: 'hosts' }],
      },
      {
        title: 'Degraded tables',
        kind: 'stat',
        redFrom: 1,
        queries: [{ expr: `sum(warren_table_degraded${here})`, legend: 'tables' }],
      },
      {
        title: 'Sources out of sync',
        kind: 'stat',
        redFrom: 1,
        queries: [{ expr: `count(warren_source_in_sync${here} == 0) or vector(0)`, legend: 'sources' }],
      },
      {
        title: 'Problems',
        kind: 'stat',
        queries: [{ expr: `sum by (level) (warren_problems${here})`, legend: '{{level}}' }],
      },
      {
        title: 'Last good pass',
        kind: 'stat',
        unit: 's',
        redFrom: 900,
        queries: [
          { expr: `max(time() - warren_pass_last_success_timestamp_seconds${here})`, legend: 'oldest' },
        ],
      },
      {
        title: 'Degraded, by table',
        queries: [
          {
            expr: `sum by (instance, table) (warren_table_degraded${here}) > 0`,
            legend: '{{instance}} {{table}}',
          },
        ],
      },
      {
        title: 'Holding',
        queries: [{ expr: `warren_holding${here}`, legend: '{{instance}}' }],
      },
    ],
  ],
  [
    'From the store to the kernel',
    [
      {
        title: 'A change, from the store to the kernel',
        about: 'Changes that a host has nothing to write for do not count.',
        unit: 's',
        queries: quantiles('warren_store_to_kernel_duration_seconds'),
      },
      {
        title: 'Behind the store',
        unit: 's',
        queries: [{ expr: `warren_store_lag_seconds${here}`, legend: '{{instance}}' }],
      },
      {
        title: 'Revision of the store, and of what is applied',
        queries: [
          { expr: `max(warren_store_revision${here})`, legend: 'store' },
          { expr: `min(warren_applied_revision${here})`, legend: 'applied, the last host' },
        ],
      },
      {
        title: 'Changes from the store',
        unit: 'ops',
        queries: [
          { expr: `rate(warren_store_events_total${here}[$__rate_interval])`, legend: '{{instance}}' },
        ],
      },
      {
        title: 'Age of the last good model on disk',
        unit: 's',
        queries: [
          { expr: `time() - warren_snapshot_saved_timestamp_seconds${here}`, legend: '{{instance}}' },
        ],
      },
      {
        title: 'Its size',
        unit: 'bytes',
        queries: [{ expr: `warren_snapshot_size_bytes${here}`, legend: '{{instance}}' }],
      },
    ],
  ],
  [
    'The loop',
    [
      { title: 'A pass', unit: 's', queries: quantiles('warren_pass_duration_seconds') },
      {
        title: 'Passes',
        unit: 'ops',
        queries: [{ expr: `rate(warren_passes_total${here}[$__rate_interval])`, legend: '{{instance}}' }],
      },
      {
        title: 'Operations, by table',
        unit: 'ops',
        queries: [
          {
            expr: `sum by (table) (rate(warren_operations_total${where('result="ok"')}[$__rate_interval])) > 0`,
            legend: '{{table}}',
          },
        ],
      },
      {
        title: 'Failed operations, by table',
        unit: 'ops',
        queries: [
          {
            expr: `sum by (instance, table) (rate(warren_operations_total${where('result="failed"')}[$__rate_interval])) > 0`,
            legend: '{{instance}} {{table}}',
          },
        ],
      },
      {
        title: 'Operations, by cause',
        unit: 'ops',
        queries: [
          {
            expr: `sum by (cause) (rate(warren_operations_by_cause_total${here}[$__rate_interval]))`,
            legend: '{{cause}}',
          },
        ],
      },
      {
        title: 'Tables listed anew',
        unit: 'ops',
        queries: [
          {
            expr: `sum by (table) (rate(warren_table_observations_total${here}[$__rate_interval])) > 0`,
            legend: '{{table}}',
          },
        ],
      },
      {
        title: 'Objects in the kernel, by table',
        queries: [{ expr: `sum by (table) (warren_table_objects${here}) > 0`, legend: '{{table}}' }],
      },
    ],
  ],
  [
    'Repairs',
    [
      {
        title: 'Repairs, by whose hand',
        queries: [
          {
            expr: `sum by (instance, author) (increase(warren_repairs_total${here}[$__rate_interval])) > 0`,
            legend: '{{instance}} {{author}}',
          },
        ],
      },
      { title: 'Until it was repaired', unit: 's', queries: quantiles('warren_repair_duration_seconds') },
    ],
  ],
]
