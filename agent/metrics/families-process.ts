// Metrics of the process itself; those that every Prometheus client library has keep their usual names.
import { byLabel, type FamilyGroup } from './family.js'

export const processFamilies: readonly FamilyGroup[] = [
  {
    title: 'Process',
    families: [
      {
        name: 'process_cpu_user_seconds_total',
        type: 'counter',
        help: 'User CPU time of warrend.',
        read: facts => facts.process.cpu.user,
      },
      {
        name: 'process_cpu_system_seconds_total',
        type: 'counter',
        help: 'System CPU time of warrend.',
        read: facts => facts.process.cpu.system,
      },
      {
        name: 'process_cpu_seconds_total',
        type: 'counter',
        help: 'User and system CPU time of warrend.',
        read: facts => facts.process.cpu.user + facts.process.cpu.system,
      },
      {
        name: 'process_resident_memory_bytes',
        type: 'gauge',
        help: 'Resident memory of warrend.',
        read: facts => facts.process.rss,
      },
      {
        name: 'process_start_time_seconds',
        type: 'gauge',
        help: 'Start of warrend in seconds since 1970.',
        read: facts => facts.process.startTime,
      },
      {
        name: 'process_open_fds',
        type: 'gauge',
        help: 'Open file descriptors of warrend.',
        read: facts => facts.process.openFds,
      },
      {
        name: 'process_max_fds',
        type: 'gauge',
        help: 'As many file descriptors as warrend may have.',
        read: facts => facts.process.maxFds,
      },
      {
        name: 'warren_heap_used_bytes',
        type: 'gauge',
        help: "What lives in V8's heap, and what of it was not collected yet.",
        read: facts => facts.process.heap.used,
      },
      {
        name: 'warren_heap_size_bytes',
        type: 'gauge',
        help: "Size of V8's heap.",
        read: facts => facts.process.heap.total,
      },
      {
        name: 'warren_external_memory_bytes',
        type: 'gauge',
        help: "Memory outside V8's heap that objects in it hold: buffers.",
        read: facts => facts.process.heap.external,
      },
      {
        name: 'warren_event_loop_busy_seconds_total',
        type: 'counter',
        help: 'Time in which the event loop had something to do; its rate is the share of one CPU.',
        read: facts => facts.process.busy,
      },
      {
        name: 'warren_event_loop_lag_seconds',
        type: 'gauge',
        help: 'How late timers came since the last scrape (of whomever); measured from the first scrape on.',
        labels: { stat: '`mean`, `p99`, `max`' },
        read: facts => byLabel('stat', { ...facts.process.lag }),
      },
    ],
  },
]
