// Writes what comes out of the metrics' definitions (agent/metrics/families.ts): docs/metrics.md and the Grafana dashboard. A unit
// test compares them with what this would write, so that they cannot go stale.
//
//   node --no-warnings --import ./test/support/register.mjs scripts/metrics-reference.ts
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { familyGroups } from '../agent/metrics/families.js'
import type { FamilyGroup } from '../agent/metrics/family.js'
import { parseYaml } from '../lib/yaml/yaml.js'
import { dashboard } from './metrics-dashboard.js'

const fileOf = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url))

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description: string }
}

export const rulesPath = 'docs/alerts/warren.rules.yml'

export function alertRules(): readonly Rule[] {
  const [document] = parseYaml(readFileSync(fileOf(rulesPath), 'utf8'))
  const { groups } = document?.value as { readonly groups: readonly { readonly rules: readonly Rule[] }[] }
  return groups.flatMap(({ rules }) => rules)
}

const cell = (text: string): string => text.replaceAll('|', '\\|')

function section({ title, about, families }: FamilyGroup): readonly string[] {
  return [
    `### ${title}`,
    '',
    ...(about === undefined ? [] : [about, '']),
    '| metric | type | labels | meaning |',
    '|---|---|---|---|',
    ...families.map(family => {
      const labels = family.type === 'histogram' ? {} : (family.labels ?? {})
      const words = Object.entries(labels).map(([name, values]) => `\`${name}\`: ${values}`)
      return `| \`${family.name}\` | ${family.type} | ${cell(words.join('; '))} | ${cell(family.help)} |`
    }),
    '',
  ]
}

const head = `# Metrics

<!-- Made by scripts/metrics-reference.ts out of agent/metrics/: change the texts there. -->

\`warrend\` tells of itself in Prometheus' text format: \`GET /metrics\` on a unix socket, and on a TCP address where one is configured.

\`\`\`sh
sudo curl -s --unix-socket /run/warren/metrics.sock http://warren/metrics
\`\`\`

## Scraping

In [warrend.yaml](warrend.yaml):

\`\`\`yaml
metrics: { address: "127.0.0.1:9487" }   # any free port; [::1]:9487, 192.0.2.11:9487
\`\`\`

\`\`\`yaml
# prometheus.yml, beside it on the host or with the hosts' own addresses
scrape_configs:
  - job_name: warren
    static_configs: [{ targets: ["127.0.0.1:9487"] }]
\`\`\`

There is no TLS and no password on that address: whoever reaches it reads sums, names of programs and versions; nothing can be changed there, and the
control API is not there. Prometheus on another host should come through a firewall, or through a proxy that does TLS and reads the unix socket:

\`\`\`
# nginx                                         # or, without TLS, one line:
location = /metrics {                           # socat TCP-LISTEN:9487,bind=127.0.0.1,fork,reuseaddr \\
  proxy_pass http://unix:/run/warren/metrics.sock:/metrics;   #       UNIX-CONNECT:/run/warren/metrics.sock
}
\`\`\`

The unix socket has mode 0660; \`metrics: { group: prometheus }\` gives it to a group, which that does not let use the control socket. Its default place is
\`metrics.sock\` beside the control socket; \`metrics: { socket: none }\` turns it off. Where an endpoint cannot be opened (an address that the host does not have
yet) a line in the log says so, and it is tried every 30 s; the agent goes on.

Alert rules are in [alerts/warren.rules.yml](alerts/warren.rules.yml) with [tests](alerts/warren.test.yml), a Grafana dashboard in
[grafana/warren.json](grafana/warren.json) (import it; it asks for the Prometheus data source).

## What it costs

Between scrapes nothing is rendered, timed or listed for metrics. The loop counts by plain additions: one observation of a histogram a pass, one comparison a
store event, one entry of a map for a repair of somebody else's hand. prom-client is loaded with the first scrape. A scrape reads what the agent knows anyway
and asks the kernel only for the counters of our own rules. An answer of less than 0.2 s ago is given again, so whoever asks in a loop costs a few renderings a second.
COSTS

## How many series

Some 250 a host, whatever the cluster's size: no label has a value for each node, Service, port, tenant, peer or address. \`table\` has 36 values at most, \`author\`
20 and three more, \`reason\` those of our own rules (100 at most), each other label the values that stand in its line. What concerns one object is asked for by
\`warren describe\`, \`warren services\`, \`warren bgp\` and \`warren events\`.

Counters begin at 0 with the process, but for the drops: those begin with what the kernel's rules have counted. Gauges that do not apply to a host are missing
(no BGP, no tenants, no block in that family).

## Metrics
`

/** By CPU time: test/netns/metrics.test.ts prints the scrapes' part. */
const costs =
  'Measured by CPU time on two busy cores, Node 20, a host with one peer: 0.2 to 0.45 us for a store event with its pass; 40 ms and 1.3 MB for the first scrape,\n' +
  '13.5 ms for each other one (300 series).\n'

function alertsSection(): readonly string[] {
  return [
    '## Alerts',
    '',
    '`severity: critical`: pods lose packets, or will at the next change. Traffic goes on in most of the others, and somebody should look.',
    '',
    '| alert | severity | after | when | what to do |',
    '|---|---|---|---|---|',
    ...alertRules().map(
      ({ alert, expr, labels, annotations, ...rule }) =>
        `| ${alert} | ${labels.severity} | ${rule.for ?? '0'} | \`${cell(expr)}\` | ${cell(annotations.description)} |`,
    ),
    '',
  ]
}

export function metricsPage(): string {
  const text = head.replace('COSTS\n', costs)
  return `${[text, ...familyGroups.flatMap(section), ...alertsSection()].join('\n').trimEnd()}\n`
}

/** Path below the repository -> its text. */
export const pages: Readonly<Record<string, () => string>> = {
  'docs/metrics.md': metricsPage,
  'docs/grafana/warren.json': () => `${JSON.stringify(dashboard(), null, 1)}\n`,
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, page] of Object.entries(pages)) {
    const text = page()
    let old = ''
    try {
      old = readFileSync(fileOf(path), 'utf8')
    } catch {}
    if (old !== text) writeFileSync(fileOf(path), text)
    process.stdout.write(`${path}: ${old === text ? 'as it was' : 'written'}\n`)
  }
}
