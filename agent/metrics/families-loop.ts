// Metrics of the loop: is this host as the model wants it, how long does that take, and who undoes it.
import { byLabel, type FamilyGroup, flag } from './family.js'
import { mostAuthors } from './meters.js'

const tables = { table: 'the tables of `warren status`, 36 at most' }

export const loopFamilies: readonly FamilyGroup[] = [
  {
    title: 'State of the agent',
    families: [
      {
        name: 'warren_build_info',
        type: 'gauge',
        help: 'Always 1; version of this warrend, its Node.js and the backend in force.',
        labels: {
          version: 'one',
          node_version: 'one',
          backend: '`vxlan`, `host-gw`, `bgp` or `none` (no Cluster yet)',
        },
        read: ({ status }) => [
          {
            labels: {
              version: status.version,
              node_version: process.versions.node,
              backend: status.backend ?? 'none',
            },
            value: 1,
          },
        ],
      },
      {
        name: 'warren_ready',
        type: 'gauge',
        help: 'Whether the first full pass is over (1) or not (0).',
        read: ({ ready }) => flag(ready),
      },
      {
        name: 'warren_converged',
        type: 'gauge',
        help: 'Whether nothing is left to do and no table failed (1) or not (0).',
        read: ({ status }) => flag(status.converged),
      },
      {
        name: 'warren_holding',
        type: 'gauge',
        help: 'Whether nothing is written at all (1), for the reason that warren status gives; what stands keeps forwarding.',
        read: ({ status }) => flag(status.hold !== undefined),
      },
      {
        name: 'warren_problems',
        type: 'gauge',
        help: 'Problems that warren status lists.',
        labels: { level: '`warning`, `error`' },
        read: ({ status }) =>
          byLabel('level', {
            warning: status.problems.filter(({ level }) => level === 'warning').length,
            error: status.problems.filter(({ level }) => level === 'error').length,
          }),
      },
      {
        name: 'warren_parts_unread_total',
        type: 'counter',
        help: 'Parts of a scrape that could not be read; their metrics are missing or old in that scrape.',
        labels: { part: '`drops`, `bgp`' },
        read: ({ unread }) => byLabel('part', unread),
      },
    ],
  },
  {
    title: 'The loop',
    families: [
      {
        name: 'warren_passes_total',
        type: 'counter',
        help: 'Passes of the loop: observe, diff, apply.',
        read: ({ status }) => status.passes,
      },
      {
        name: 'warren_pass_duration_seconds',
        type: 'histogram',
        help: 'How long passes took, those that wrote nothing too.',
        read: ({ meters }) => meters.passes,
      },
      {
        name: 'warren_pass_last_success_timestamp_seconds',
        type: 'gauge',
        help: 'End of the last pass in which nothing failed and nothing was held; without a change passes come with resyncInterval.',
        read: ({ meters, date, now }) =>
          meters.lastGoodPass === undefined ? undefined : date - (now - meters.lastGoodPass) / 1000,
      },
      {
        name: 'warren_operations_total',
        type: 'counter',
        help: 'Operations written to the kernel, gobgpd or the store.',
        labels: { ...tables, result: '`ok`, `failed`' },
        read: ({ status }) =>
          status.tables.flatMap(({ name, written, failed }) => [
            { labels: { table: name, result: 'ok' }, value: written },
            { labels: { table: name, result: 'failed' }, value: failed },
          ]),
      },
      {
        name: 'warren_operations_by_cause_total',
        type: 'counter',
        help: 'Operations by why they were needed; a failed one counts when its error is a new one.',
        labels: {
          cause:
            '`start` (first pass), `model` (it changed), `drift` (somebody else changed it), `orphan` (ours, not wanted)',
        },
        read: ({ status }) => byLabel('cause', { ...status.counts }),
      },
      {
        name: 'warren_table_observations_total',
        type: 'counter',
        help: 'How often a table was listed anew, because of a notice, a failure or the drift timer.',
        labels: tables,
        read: ({ status }) =>
          status.tables.map(({ name, observed }) => ({ labels: { table: name }, value: observed })),
      },
      {
        name: 'warren_table_objects',
        type: 'gauge',
        help: 'Objects of ours that stand in a table, as last known.',
        labels: tables,
        read: ({ status }) =>
          status.tables.map(({ name, objects }) => ({ labels: { table: name }, value: objects })),
      },
      {
        name: 'warren_table_degraded',
        type: 'gauge',
        help: 'Whether something in a table could not be written or listed (1) or not (0).',
        labels: tables,
        read: ({ status }) =>
          status.tables.map(({ name, state }) => ({
            labels: { table: name },
            value: flag(state === 'degraded'),
          })),
      },
    ],
  },
  {
    title: 'Repairs',
    about:
      "What others changed or removed of ours, and how long it was that way. `warren events` has each one's line.",
    families: [
      {
        name: 'warren_repairs_total',
        type: 'counter',
        help: 'Repairs of what somebody else changed or removed, by the program whose hand it was.',
        labels: {
          author: `name of the program, as far as the kernel tells; the first ${mostAuthors} of this process, then \`other\`; \`unknown\`, \`kernel\``,
        },
        read: ({ meters }) => byLabel('author', Object.fromEntries(meters.authors)),
      },
      {
        name: 'warren_repair_duration_seconds',
        type: 'histogram',
        help: "From the kernel's notice (or the look that found it) to the acknowledged repair.",
        read: ({ meters }) => meters.repairs,
      },
    ],
  },
]
