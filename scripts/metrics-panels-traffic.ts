// What the Grafana dashboard shows of nodes, Services, BGP, tenants and the process.
import { here, type PanelRow } from './metrics-panels.js'

export const trafficRows: readonly PanelRow[] = [
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
