// Metrics of the model: where it comes from, how far this host is behind it, what is in it.
import type { Facts } from './facts.js'
import { byLabel, type FamilyGroup, flag, type Sample } from './family.js'

const families = { family: '`ipv4`, `ipv6`' }

function blocks({ blocks: all }: Facts, pick: 'leased' | 'all'): readonly Sample[] {
  return byLabel('family', { ipv4: all.ipv4?.[pick], ipv6: all.ipv6?.[pick] })
}

export const modelFamilies: readonly FamilyGroup[] = [
  {
    title: 'The store',
    families: [
      {
        name: 'warren_source_in_sync',
        type: 'gauge',
        help: 'Whether a source has told all that it has (1), or is out of reach or lost (0): then the last model stays in force.',
        labels: { source: '`store` (etcd, or the file store), `directory` (what people wrote there)' },
        read: ({ status }) =>
          status.sources.map(({ inSync }, i) => ({
            labels: { source: i === 0 ? 'store' : 'directory' },
            value: flag(inSync),
          })),
      },
      {
        name: 'warren_store_revision',
        type: 'gauge',
        help: 'Revision of the shared store that this host knows.',
        read: ({ status }) => status.revision,
      },
      {
        name: 'warren_applied_revision',
        type: 'gauge',
        help: 'Revision of the model that the last pass without failures made true.',
        read: ({ status }) => status.appliedRevision,
      },
      {
        name: 'warren_store_lag_seconds',
        type: 'gauge',
        help: 'Since when something that the store told of is not in the kernel; 0: all is.',
        read: ({ meters, now }) =>
          meters.behindSince === undefined ? 0 : Math.max(0, now - meters.behindSince) / 1000,
      },
      {
        name: 'warren_store_events_total',
        type: 'counter',
        help: 'Batches of changes that the sources told of: of objects, of records, of being in sync.',
        read: ({ meters }) => meters.storeEvents,
      },
      {
        name: 'warren_store_to_kernel_duration_seconds',
        type: 'histogram',
        help: 'From the arrival of a change to the end of the pass that wrote what came of it; changes that this host has nothing to write for do not count.',
        read: ({ meters }) => meters.storeToKernel,
      },
      {
        name: 'warren_snapshot_saved_timestamp_seconds',
        type: 'gauge',
        help: 'When the last good model was written to disk, which is when it last changed; a cold boot without the store goes on from there.',
        read: ({ saved }) => saved?.at,
      },
      {
        name: 'warren_snapshot_size_bytes',
        type: 'gauge',
        help: 'Size of the last good model on disk.',
        read: ({ saved }) => saved?.bytes,
      },
    ],
  },
  {
    title: 'Nodes and blocks',
    families: [
      {
        name: 'warren_objects',
        type: 'gauge',
        help: 'Objects of the model.',
        labels: { kind: 'the kinds of `warren get`: `node`, `service`, `port` ...' },
        read: ({ objects }) => byLabel('kind', objects),
      },
      {
        name: 'warren_peers',
        type: 'gauge',
        help: 'Other nodes, as this host has them.',
        labels: { state: '`up`, `silent` (programmed, its agent does not run), `refused` (not programmed)' },
        read({ status }) {
          const states = { up: 0, silent: 0, refused: 0 }
          for (const { state } of status.peers) states[state] += 1
          return byLabel('state', states)
        },
      },
      {
        name: 'warren_peers_held',
        type: 'gauge',
        help: 'Other nodes whose record the store lost, and that are kept all the same.',
        read: ({ status }) => status.peers.filter(({ held }) => held).length,
      },
      {
        name: 'warren_lease_held',
        type: 'gauge',
        help: "Whether this node has its block of the pods' addresses (1) or not (0), for each family of podCIDRs.",
        labels: families,
        read: ({ status, blocks: all }) =>
          byLabel('family', {
            ipv4: all.ipv4 === undefined ? undefined : flag(status.lease?.ipv4 !== undefined),
            ipv6: all.ipv6 === undefined ? undefined : flag(status.lease?.ipv6 !== undefined),
          }),
      },
      {
        name: 'warren_blocks_leased',
        type: 'gauge',
        help: 'Blocks of podCIDRs that nodes have leased.',
        labels: families,
        read: facts => blocks(facts, 'leased'),
      },
      {
        name: 'warren_blocks',
        type: 'gauge',
        help: 'Blocks that podCIDRs hold.',
        labels: families,
        read: facts => blocks(facts, 'all'),
      },
    ],
  },
]
