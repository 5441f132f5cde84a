// The Grafana dashboard docs/grafana/warren.json: rows of panels, each an expression or several. Written by
// scripts/metrics-reference.ts; a unit test compares, and looks each metric up.

interface Query {
  readonly expr: string
  readonly legend: string
}

interface PanelDraft {
  readonly title: string
  readonly about?: string
  readonly kind?: 'timeseries' | 'stat'
  readonly unit?: 's' | 'short' | 'bytes' | 'ops' | 'pps' | 'percentunit' | 'dateTimeFromNow'
  /** Values from which on a stat is red; below it is green. Default: none. */
  readonly redFrom?: number
  readonly queries: readonly Query[]
}

const here = '{job=~"$job", instance=~"$instance"}'
/** A selector with these labels, too. */
const where = (labels: string): string => here.replace('}', `, ${labels}}`)

function quantiles(metric: string): readonly Query[] {
  return [0.5, 0.9, 0.99].map(quantile => ({
    expr: `histogram_quantile(${quantile}, sum by (le) (rate(${metric}_bucket${here}[$__rate_interval])))`,
    legend: `p${quantile * 100}`,
  }))
}

const rows: readonly (readonly [title: string, panels: readonly PanelDraft[]])[] = [
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
  [
    'Nodes',
    [
      {
        title: 'Peers, as each host has them',
        queries: [
          { expr: `max by (state) (warren_peers${here})`, legend: '{{state}}, most on a host' },
          { expr: `max(warren_peers_held${here})`, legend: 'held, most on a host' },
        ],
      },
      {
        title: 'Hosts without their block',
        kind: 'stat',
        redFrom: 1,
        queries: [
          { expr: `count by (family) (warren_lease_held${here} == 0) or vector(0)`, legend: '{{family}}' },
        ],
      },
      {
        title: 'Blocks of podCIDRs that are leased',
        unit: 'percentunit',
        queries: [
          {
            expr: `max by (family) (warren_blocks_leased${here} / warren_blocks${here})`,
            legend: '{{family}}',
          },
        ],
      },
      {
        title: 'Objects of the model',
        queries: [{ expr: `max by (kind) (warren_objects${here}) > 0`, legend: '{{kind}}' }],
      },
    ],
  ],
  [
    'Services',
    [
      {
        title: 'Services',
        queries: [
          { expr: `max(warren_services${here})`, legend: 'of the model' },
          { expr: `max(warren_services_served${here})`, legend: 'served, most on a host' },
          { expr: `max(warren_service_problems${here})`, legend: 'problems, most on a host' },
        ],
      },
      {
        title: 'Entry points and endpoints',
        queries: [
          { expr: `max(warren_service_entries${here})`, legend: 'entries, most on a host' },
          { expr: `max(warren_service_endpoints${here})`, legend: 'endpoints, most on a host' },
        ],
      },
      {
        title: 'Hosts by mode',
        queries: [{ expr: `count by (mode) (warren_service_mode${here})`, legend: '{{mode}}' }],
      },
      {
        title: 'Userspace proxy',
        queries: [
          { expr: `sum(warren_proxy_connections${here})`, legend: 'connections' },
          { expr: `sum(warren_proxy_listeners${here})`, legend: 'listeners' },
        ],
      },
    ],
  ],
  [
    'BGP',
    [
      {
        title: 'gobgpd that do not answer',
        kind: 'stat',
        redFrom: 1,
        queries: [{ expr: `count(warren_bgp_speaker_up${here} == 0) or vector(0)`, legend: 'hosts' }],
      },
      {
        title: 'Sessions, by state',
        queries: [
          { expr: `sum by (state) (warren_bgp_sessions${here}) > 0`, legend: '{{state}}' },
          { expr: `sum(warren_bgp_sessions_wanted${here})`, legend: 'wanted' },
        ],
      },
      {
        title: 'Prefixes',
        queries: [
          { expr: `max by (family) (warren_bgp_prefixes_received${here})`, legend: 'received {{family}}' },
          {
            expr: `max by (family) (warren_bgp_prefixes_advertised${here})`,
            legend: 'advertised {{family}}',
          },
        ],
      },
      {
        title: 'Paths and the import guard',
        queries: [{ expr: `sum by (result) (warren_bgp_paths${here})`, legend: '{{result}}' }],
      },
    ],
  ],
  [
    'Tenants, and what is dropped',
    [
      {
        title: 'Ports of tenants',
        queries: [{ expr: `sum by (state) (warren_tenant_ports${here})`, legend: '{{state}}' }],
      },
      {
        title: 'Networks and routers of tenants, by host',
        queries: [
          { expr: `warren_tenant_networks${here}`, legend: 'networks {{instance}}' },
          { expr: `warren_tenant_routers${here}`, legend: 'routers {{instance}}' },
        ],
      },
      {
        title: 'Dropped, by reason',
        unit: 'pps',
        queries: [
          {
            expr: `sum by (scope, reason) (rate(warren_dropped_packets_total${here}[$__rate_interval])) > 0`,
            legend: '{{scope}}: {{reason}}',
          },
        ],
      },
      {
        title: 'Dropped, by host',
        unit: 'pps',
        queries: [
          {
            expr: `sum by (instance) (rate(warren_dropped_packets_total${here}[$__rate_interval]))`,
            legend: '{{instance}}',
          },
        ],
      },
    ],
  ],
  [
    'The process',
    [
      {
        title: 'CPU',
        unit: 'percentunit',
        queries: [
          { expr: `rate(process_cpu_seconds_total${here}[$__rate_interval])`, legend: '{{instance}}' },
        ],
      },
      {
        title: 'Resident memory',
        unit: 'bytes',
        queries: [{ expr: `process_resident_memory_bytes${here}`, legend: '{{instance}}' }],
      },
      {
        title: 'Heap',
        unit: 'bytes',
        queries: [
          { expr: `max(warren_heap_used_bytes${here})`, legend: 'used, most on a host' },
          { expr: `max(warren_heap_size_bytes${here})`, legend: 'size, most on a host' },
          { expr: `max(warren_external_memory_bytes${here})`, legend: 'buffers, most on a host' },
        ],
      },
      {
        title: 'Event loop: busy',
        unit: 'percentunit',
        queries: [
          {
            expr: `rate(warren_event_loop_busy_seconds_total${here}[$__rate_interval])`,
            legend: '{{instance}}',
          },
        ],
      },
      {
        title: 'Event loop: late',
        unit: 's',
        queries: [{ expr: `max by (stat) (warren_event_loop_lag_seconds${here})`, legend: '{{stat}}' }],
      },
      {
        title: 'File descriptors',
        queries: [{ expr: `process_open_fds${here}`, legend: '{{instance}}' }],
      },
      {
        title: 'Running since, and parts of scrapes that could not be read',
        queries: [
          { expr: `time() - process_start_time_seconds${here}`, legend: 'seconds {{instance}}' },
          { expr: `sum by (part) (warren_parts_unread_total${here})`, legend: 'unread {{part}}' },
        ],
      },
      {
        title: 'Versions',
        queries: [
          {
            expr: `count by (version, node_version, backend) (warren_build_info${here})`,
            legend: '{{version}}, Node {{node_version}}, {{backend}}',
          },
        ],
      },
    ],
  ],
]

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
  for (const [title, drafts] of rows) {
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
