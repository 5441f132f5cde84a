// Writes the references that come out of the schemas: docs/reference/configuration.md and docs/reference/resources.md. A unit test
// compares them with what this would write, so that they cannot go stale.
//
//   node --no-warnings --import ./test/support/register.mjs scripts/reference.ts
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { configSchema } from '../agent/config-schema.js'
import { liveFields } from '../agent/live-config.js'
import { type Field, fieldsOf } from '../agent/model/fields.js'
import { type Kind, type KindInfo, kinds } from '../agent/model/kinds.js'

const made =
  '<!-- Made by scripts/reference.ts out of the schemas: change the descriptions there (agent/config-schema.ts, agent/model/). -->'

/** What a kind is for, and a document of it that can be applied beside the others of this page. */
const about: Readonly<Record<Kind, { text: string; more?: string; example: string }>> = {
  Cluster: {
    text: 'The pod network that all nodes share. There is one, named `default`.',
    more: '[backends](../packet-walk.md), [Services](../services.md), [BGP](../bgp.md)',
    example: `spec:
  podCIDRs: [10.244.0.0/16, "fd00:244::/48"]
  serviceCIDRs: [10.96.0.0/16]
  backend: { type: vxlan, directRouting: true }`,
  },
  Node: {
    text: 'A host. Its own agent writes it; people write it only where nothing is allocated (a `file` store that is copied to the hosts).',
    example: `spec:
  addresses: [192.0.2.12]
  podCIDRs: [10.244.2.0/24]
  vtepMAC: "02:00:00:00:00:02"
  mtu: 1500`,
  },
  BGPPeer: {
    text: 'A router outside the cluster that nodes speak BGP with.',
    more: '[BGP](../bgp.md)',
    example: `spec:
  address: 192.0.2.1
  asn: 65001
  import: [203.0.113.0/24]
  nodes: { rack: r1 }`,
  },
  Service: {
    text: 'A stable address in front of endpoints. Fields and meanings are those of Kubernetes.',
    more: '[Services](../services.md)',
    example: `spec:
  type: NodePort
  selector: { app: web }
  ports: [{ port: 80, targetPort: 8080 }]`,
  },
  Endpoints: {
    text: 'Where a Service without a selector leads; several may name one Service. Fields are those of an EndpointSlice in Kubernetes.',
    example: `spec:
  service: db
  endpoints: [{ addresses: [10.244.1.9], nodeName: h1 }]
  ports: [{ port: 5432 }]`,
  },
  Pod: {
    text: 'A workload with addresses, as far as Services select it.',
    example: `spec:
  nodeName: h1
  addresses: [10.244.1.2]`,
  },
  Tenant: {
    text: 'Who owns networks, routers, ports and groups. Tenants may use the same addresses, and never meet.',
    more: '[Tenant networks](../tenants.md)',
    example: `spec:
  quotas: { networks: 10, ports: 500 }`,
  },
  Network: {
    text: 'One layer 2 of a tenant, with its subnets.',
    more: '[Tenant networks](../tenants.md)',
    example: `spec:
  subnets:
    - { cidr: 10.0.1.0/24 }
    - { cidr: "fd00:0:0:1::/64" }`,
  },
  Router: {
    text: 'Routes between networks of a tenant, on every host that has a port of one of them.',
    example: `spec:
  networks: [a]`,
  },
  Port: {
    text: "A plug on a Network: a VM's tap or a container's veth.",
    more: '[states of a Port](../tenants.md#ports)',
    example: `spec:
  network: a
  node: h1
  device: { kind: veth, netns: c1, name: eth0 }
  fixedIPs: [10.0.1.11]
  securityGroups: [web]`,
  },
  SecurityGroup: {
    text: 'What ports of it may send and be sent, beside replies. Rules only allow.',
    more: '[groups](../tenants.md#groups)',
    example: `spec:
  rules:
    - { direction: ingress, protocol: tcp, ports: 8080, remoteCIDR: 0.0.0.0/0 }`,
  },
}

/** Names in the examples; one that another example points at has to be the same there. */
const exampleNames: Partial<Record<Kind, string>> = {
  Cluster: 'default',
  Node: 'h2',
  BGPPeer: 'tor-1',
  Endpoints: 'db-1',
  Tenant: 'red',
  Network: 'a',
  Router: 'r',
  Port: 'web-1',
  SecurityGroup: 'web',
}

export function exampleOf(info: KindInfo): string {
  const tenant = info.scope === 'tenant' ? ', tenant: red' : ''
  const name = exampleNames[info.kind] ?? 'web'
  return `apiVersion: warren/v1
kind: ${info.kind}
metadata: { name: ${name}${tenant} }
${about[info.kind].example}
`
}

const code = (text: string): string => (text === '' ? '' : `\`${text}\``)
/** For a cell of a table. */
const cell = (text: string): string => text.replaceAll('|', '\\|')

function row({ path, form, type, range, required, meaning, ...field }: Field): string {
  const chooses = form !== undefined && path.endsWith(`.${form.split(':')[0]}`)
  const shown = form === undefined || chooses ? '' : ` (${form})`
  const initial = field.default === undefined ? (required ? 'required' : '') : code(field.default)
  const kind = chooses ? code(form) : type
  return `| ${code(path)}${shown} | ${[kind, range, initial, meaning].map(cell).join(' | ')} |`
}

/** A field that only holds others, and whose default is theirs, has no default of its own to show. */
function trimmed(fields: readonly Field[]): readonly Field[] {
  return fields.map(field => {
    const holds = field.type === 'object' && fields.some(({ path }) => path.startsWith(`${field.path}.`))
    return holds && field.path !== 'store' && field.path !== 'backend'
      ? { ...field, default: undefined }
      : field
  })
}

const head = ['| field | type | range | default | meaning |', '|---|---|---|---|---|']

export function configurationPage(): string {
  const live = liveFields.map(name => (name === 'log' ? '`log.level`' : `\`${name}\``)).join(', ')
  return `${[
    '# warrend.yaml',
    '',
    made,
    '',
    'The configuration of one host: `/etc/warren/warrend.yaml`, or the file of `warrend --config FILE`. Every field may be left out; what all',
    'hosts share (addresses, backend, Services) is not here but in the model: [resources](resources.md). A field that is not known, or a',
    'value that does not fit, is refused with file, line and what to do, and `warrend` does not start; `warrend --check` tells before.',
    'The same with every default, to copy: [warrend.yaml](../warrend.yaml).',
    '',
    ...head,
    ...trimmed(fieldsOf(configSchema)).map(row),
    '',
    '`store` is one of its two forms ([which, and how to guard it](../store.md)). `underlay` names one of interface, regex, canReach and cidr, or none.',
    '',
    '## Changing it',
    '',
    'Restart `warrend`: no packet is lost, and what it wrote stays. ' +
      `At \`systemctl reload warrend\` (SIGHUP) ${live} take effect at once; of other changed fields`,
    '`warren status` says `RESTART_NEEDED`. A file with a fault is refused, and what was in force stays.',
    '',
    '`node`, `namePrefix` and `netnsPrefix` are how a host knows its own objects and its block: stop `warrend`, `warren cleanup --leave`, then change them.',
    '',
    '## Environment',
    '',
    '| variable | for | meaning |',
    '|---|---|---|',
    '| `WARREN_SOCKET` | `warren` | control socket, where neither `--socket` nor `--config` is given |',
    '| `WARREN_CONFIG` | `warren` | configuration file, as `--config` |',
    '| `NO_COLOR` | `warren` | no colours |',
  ].join('\n')}\n`
}

function section(info: KindInfo): readonly string[] {
  const { text, more } = about[info.kind]
  const names =
    info.singular === info.plural ? `\`${info.singular}\`` : `\`${info.singular}\`, \`${info.plural}\``
  const scope = { cluster: 'the cluster', tenant: 'its tenant', namespace: 'its namespace' }[info.scope]
  const fields = fieldsOf(info.schema)
    .filter(({ path }) => path.startsWith('spec.'))
    .map(field => ({ ...field, path: field.path.slice('spec.'.length) }))
  return [
    `## ${info.kind}`,
    '',
    `${text} At the command line ${names}; the name is unique in ${scope}.${more === undefined ? '' : ` More: ${more}.`}`,
    '',
    '```yaml',
    exampleOf(info).trimEnd(),
    '```',
    '',
    ...head,
    ...trimmed(fields).map(row),
    '',
  ]
}

export function resourcesPage(): string {
  const all = Object.values(kinds)
  const links = all.map(({ kind }) => `[${kind}](#${kind.toLowerCase()})`).join(' · ')
  return `${[
    '# Resources: the kinds of the model',
    '',
    made,
    '',
    'What `warren apply` takes: YAML documents, any number in a file, divided by `---`. `warren schema` prints the same as JSON Schema, for editors.',
    'Fields that are not known are errors in what people write.',
    '',
    links,
    '',
    '## What all have',
    '',
    '| field | type | default | meaning |',
    '|---|---|---|---|',
    '| `apiVersion` | `warren/v1` | required | |',
    '| `kind` | one of this page | required | |',
    '| `metadata.name` | name: lower-case letters, digits, "-" and "." | required | |',
    '| `metadata.tenant` | name | required | Network, Router, Port and SecurityGroup only: whose it is |',
    '| `metadata.namespace` | name | `default` | Service, Endpoints and Pod only |',
    '| `metadata.labels` | map of string | | free; selectors match on them |',
    '| `spec` | object | required | the tables below |',
    '',
    'Prefixes are written without host bits (`10.0.1.0/24`, not `10.0.1.7/24`), and those with colons in quotes where YAML wants it.',
    '',
    ...all.flatMap(section),
  ]
    .join('\n')
    .trimEnd()}\n`
}

/** Path below the repository -> its text. */
export const pages: Readonly<Record<string, () => string>> = {
  'docs/reference/configuration.md': configurationPage,
  'docs/reference/resources.md': resourcesPage,
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, page] of Object.entries(pages)) {
    const file = fileURLToPath(new URL(`../${path}`, import.meta.url))
    const text = page()
    let old = ''
    try {
      old = readFileSync(file, 'utf8')
    } catch {}
    if (old !== text) writeFileSync(file, text)
    process.stdout.write(`${path}: ${old === text ? 'as it was' : 'written'}\n`)
  }
}
