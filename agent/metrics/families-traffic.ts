// Metrics of what carries traffic: Services, BGP, tenants' networks, and what our rules drop.
import { byLabel, type FamilyGroup, flag } from './family.js'

const families = { family: '`ipv4`, `ipv6`' }
const byFamily = (counts: Readonly<Record<'inet' | 'inet6', number>>) =>
  byLabel('family', { ipv4: counts.inet, ipv6: counts.inet6 })

export const trafficFamilies: readonly FamilyGroup[] = [
  {
    title: 'Services',
    about:
      'Only where the Cluster has serviceCIDRs. One Service is looked at with `warren services` and `warren describe`.',
    families: [
      {
        name: 'warren_services',
        type: 'gauge',
        help: 'Services of the model.',
        read: ({ status }) => status.services?.count,
      },
      {
        name: 'warren_services_served',
        type: 'gauge',
        help: 'Services that this host serves; headless ones need nobody to.',
        read: ({ status }) => status.services?.served,
      },
      {
        name: 'warren_service_problems',
        type: 'gauge',
        help: 'Problems of Services, as warren status lists them.',
        read: ({ status }) => status.services?.problems,
      },
      {
        name: 'warren_service_entries',
        type: 'gauge',
        help: 'Entry points of Services on this host: addresses and nodePorts with their ports.',
        read: ({ status }) => status.services?.entries,
      },
      {
        name: 'warren_service_endpoints',
        type: 'gauge',
        help: 'Endpoints of Services that connections may reach from this host.',
        read: ({ status }) => status.services?.endpoints,
      },
      {
        name: 'warren_service_mode',
        type: 'gauge',
        help: 'Always 1; how this host serves Services.',
        labels: { mode: '`nftables`, `iptables`, `userspace`' },
        read: ({ status: { services } }) =>
          services === undefined ? [] : byLabel('mode', { [services.mode]: 1 }),
      },
      {
        name: 'warren_proxy_listeners',
        type: 'gauge',
        help: 'Listeners of the userspace mode.',
        read: ({ status, proxied }) =>
          status.services?.mode === 'userspace' ? proxied.listeners : undefined,
      },
      {
        name: 'warren_proxy_connections',
        type: 'gauge',
        help: 'Connections and UDP flows that the userspace mode carries now.',
        read: ({ status, proxied }) =>
          status.services?.mode === 'userspace' ? proxied.connections : undefined,
      },
    ],
  },
  {
    title: 'BGP',
    about: 'Only where BGP is spoken. One session is looked at with `warren bgp`.',
    families: [
      {
        name: 'warren_bgp_speaker_up',
        type: 'gauge',
        help: 'Whether gobgpd answers and what it had has been read (1) or not (0).',
        read: ({ bgp }) => (bgp === undefined ? undefined : flag(bgp.reachable)),
      },
      {
        name: 'warren_bgp_sessions',
        type: 'gauge',
        help: 'BGP sessions by state (RFC 4271); while gobgpd does not answer all are absent.',
        labels: { state: '`idle`, `connect`, `active`, `opensent`, `openconfirm`, `established`, `absent`' },
        read: ({ bgp }) => byLabel('state', bgp?.sessions ?? {}),
      },
      {
        name: 'warren_bgp_sessions_wanted',
        type: 'gauge',
        help: 'BGP sessions that the model asks for.',
        read: ({ bgp }) => bgp?.wanted,
      },
      {
        name: 'warren_bgp_prefixes_received',
        type: 'gauge',
        help: 'Prefixes that the neighbors announce to this host, as gobgpd counts them.',
        labels: families,
        read: ({ bgp }) => (bgp === undefined ? [] : byFamily(bgp.received)),
      },
      {
        name: 'warren_bgp_prefixes_advertised',
        type: 'gauge',
        help: 'Prefixes that this host announces, summed over its neighbors; known since somebody asked with warren bgp.',
        labels: families,
        read: ({ bgp }) => (bgp === undefined ? [] : byFamily(bgp.advertised)),
      },
      {
        name: 'warren_bgp_paths',
        type: 'gauge',
        help: 'Paths of all neighbors by what the import guard says of them.',
        labels: { result: '`accepted`, `rejected` (`warren bgp routes` says why)' },
        read: ({ bgp }) => byLabel('result', { ...bgp?.paths }),
      },
    ],
  },
  {
    title: 'Tenant networks',
    about: 'Only where the model has tenants. One port is looked at with `warren describe port`.',
    families: [
      {
        name: 'warren_tenant_networks',
        type: 'gauge',
        help: "Tenants' networks on this host.",
        read: ({ status }) => status.tenants?.networks,
      },
      {
        name: 'warren_tenant_routers',
        type: 'gauge',
        help: "Tenants' routers on this host.",
        read: ({ status }) => status.tenants?.routers,
      },
      {
        name: 'warren_tenant_ports',
        type: 'gauge',
        help: 'Ports of tenants that are bound to this host.',
        labels: { state: '`active`, `other` (`warren get ports` says why)' },
        read: ({ status: { tenants } }) =>
          tenants === undefined
            ? []
            : byLabel('state', { active: tenants.active, other: tenants.ports - tenants.active }),
      },
    ],
  },
  {
    title: 'Drops',
    about:
      'Packets that rules of ours dropped, summed over all ports and routers of this host; `warren describe port` tells those of one port. Read from the kernel at each scrape: what a rule counted between the last scrape and its end (its table was written anew, its router left) is missing.',
    families: [
      {
        name: 'warren_dropped_packets_total',
        type: 'counter',
        help: 'Packets that our nftables rules dropped.',
        labels: {
          scope:
            '`host` (the VXLAN guard, routed networks), `fabric` (tenant ports), `routed`, `router`, `dhcp`: namespaces of their own',
          reason:
            "the rule's comment in `nft list ruleset`, or what its chain guards; texts of our own rules only",
        },
        read: ({ drops }) =>
          drops.map(({ scope, reason, packets }) => ({ labels: { scope, reason }, value: packets })),
      },
    ],
  },
]
