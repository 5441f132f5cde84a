// The fields of warrend.yaml, each with its check, its default and the words of warrend.yaml(5).
import { familyOf } from '../lib/net/address.js'
import { parseAddressPort } from '../lib/net/endpoint.js'
import { z } from './model/check.js'
import { prefixSchema, proxyModeSchema } from './model/cluster.js'
import { defaultPrefix } from './model/marks.js'
import { labelsSchema, nameSchema } from './model/object.js'
import { defaultConfigFile, defaultSocket } from './model/paths.js'

export const defaults = {
  config: defaultConfigFile,
  store: { file: '/var/lib/warren/cluster' },
  etcdPrefix: '/warren',
  socket: defaultSocket,
  stateDir: '/var/lib/warren',
  subnetFile: '/run/flannel/subnet.env',
  namePrefix: defaultPrefix,
  podBridge: `${defaultPrefix}0`,
  roles: ['cluster'],
  logLevel: 'info',
  /** Seconds: a silent agent's liveness ends after this. */
  liveTtl: 15,
  /** Hours: how long a dead node's block is kept for it. */
  leaseGrace: 24,
  /** Seconds: everything is looked at again that often, notices or not. */
  resyncInterval: 60,
  /** Seconds: connections of the userspace proxy may finish when warrend ends. */
  proxyDrain: 10,
  /** Milliseconds: deadline of every call to etcd. */
  etcdTimeout: 5000,
  gobgpSocket: '/run/warren-gobgpd/gobgpd.sock',
} as const

const pathSchema = z.string().regex(/^\//, 'must be an absolute path').meta({ title: 'path' })

const tlsSchema = z
  .strictObject({
    ca: pathSchema
      .optional()
      .describe('File with the certificates of the authorities that signed the server.'),
    cert: pathSchema.optional().describe("Client certificate's file."),
    key: pathSchema.optional().describe("Client key's file."),
  })
  .refine(
    ({ cert, key }) => (cert === undefined) === (key === undefined),
    'needs both cert and key, or neither',
  )

const storeSchema = z.union([
  z.strictObject({
    file: pathSchema.describe('Directory of YAML files, shared by the agents of this machine.'),
  }),
  z.strictObject({
    etcd: z
      .strictObject({
        endpoints: z
          .array(
            z
              .url({ protocol: /^https?$/, error: 'must be a URL such as https://192.0.2.1:2379' })
              .meta({ title: 'URL' }),
          )
          .min(1)
          .describe('Members of etcd; another is asked when one does not answer.'),
        prefix: z
          .string()
          .regex(/^\/[^\s]*[^/\s]$/, 'must start with a slash and not end with one')
          .default(defaults.etcdPrefix)
          .describe('Below this key is the whole model: one prefix is one cluster.'),
        tls: tlsSchema
          .optional()
          .describe('For https endpoints; without ca: the public authorities that Node knows.'),
        user: z
          .strictObject({
            name: z.string().min(1).describe('User of etcd.'),
            password: z.string().optional().describe('Its password; better in a file.'),
            passwordFile: pathSchema
              .optional()
              .describe('File with the password; white space around it does not count.'),
          })
          .refine(
            ({ password, passwordFile }) => (password === undefined) !== (passwordFile === undefined),
            'needs one of password and passwordFile',
          )
          .optional()
          .describe('Where etcd has authentication on.'),
        timeoutMs: z
          .int()
          .min(100)
          .max(60_000)
          .default(defaults.etcdTimeout)
          .describe('Milliseconds: deadline of each call.'),
      })
      .describe('An etcd cluster, 3.4 or newer.'),
  }),
])

const regexSchema = z.string().refine(text => {
  try {
    return new RegExp(text) instanceof RegExp
  } catch {
    return false
  }
}, 'is not a regular expression')

const exclusiveVXLAN = z
  .boolean()
  .optional()
  .describe("Drop VXLAN frames of other VNIs on the cluster's UDP port too: no Docker Swarm beside it.")

const underlaySchema = z
  .strictObject({
    interface: z.string().min(1).max(15).optional().describe('Name of the link.'),
    regex: regexSchema
      .optional()
      .describe('The link whose name matches; of several, one that is up and has an address.'),
    canReach: z
      .string()
      .refine(text => familyOf(text) !== undefined, 'is not an address')
      .optional()
      .describe('The link that the route to this address leads over.'),
    cidr: prefixSchema.optional().describe('The link with an address in this prefix.'),
    exclusiveVXLAN,
  })
  .refine(
    ({ exclusiveVXLAN: _, ...choices }) => Object.keys(choices).length <= 1,
    'may name one of interface, regex, canReach and cidr',
  )

export const configSchema = z.strictObject({
  node: nameSchema.optional().describe('Identity of this host; default: the host name.'),
  store: storeSchema.default(defaults.store).describe('Where the shared model is: a directory or etcd.'),
  underlay: underlaySchema
    .optional()
    .describe('Interface towards the other nodes; default: by route to the store or the peers.'),
  roles: z
    .array(z.enum(['cluster', 'fabric']))
    .min(1)
    .default([...defaults.roles])
    .describe('cluster: the container overlay and Services; fabric: tenant networks; or both.'),
  namePrefix: z
    .string()
    .regex(/^[a-z][a-z0-9]{0,7}$/, 'must be 1 to 8 lower-case letters and digits')
    .default(defaults.namePrefix)
    .describe('Prefix of our links and namespaces.'),
  netnsPrefix: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,30}$/, 'must be 1 to 31 lower-case letters, digits and "-"')
    .optional()
    .describe('Prefix of our namespaces where it is not namePrefix (several agents on one machine).'),
  socket: pathSchema.default(defaults.socket).describe('Control socket of warrend, mode 0660.'),
  stateDir: pathSchema
    .default(defaults.stateDir)
    .describe('Snapshot of the last good model, old sysctl values.'),
  subnetFile: z
    .union([pathSchema, z.literal('none')])
    .default(defaults.subnetFile)
    .describe("flannel's subnet.env, or none."),
  podBridge: z
    .string()
    .regex(/^[a-z][a-z0-9._-]{0,14}$/, 'must be a link name of 15 characters at most, or none')
    .optional()
    .describe(
      'Bridge that pods are plugged into; none: the pod side is somebody else\'s. Default: namePrefix and "0" (wrn0).',
    ),
  socketGroup: z
    .string()
    .optional()
    .describe('Group that may use the control socket; default: that of the process (root).'),
  liveTtl: z
    .int()
    .min(2)
    .max(3600)
    .default(defaults.liveTtl)
    .describe('Seconds: an agent that is silent for so long counts as dead; its routes stay all the same.'),
  leaseGrace: z
    .number()
    .min(0)
    .max(8760)
    .default(defaults.leaseGrace)
    .describe('Hours: how long the block of a dead node is kept for it before another node may have it.'),
  proxyMode: proxyModeSchema
    .optional()
    .describe("How this host serves Services; default: the Cluster's proxyMode."),
  proxyDrain: z
    .number()
    .min(0)
    .max(600)
    .default(defaults.proxyDrain)
    .describe('Seconds that connections of the userspace mode have to finish when warrend ends.'),
  labels: labelsSchema
    .optional()
    .describe("Of this host's own record: selectors of BGPPeers and reflectors match on them."),
  gobgp: z
    .strictObject({ socket: pathSchema.default(defaults.gobgpSocket).describe('Unix socket of its API.') })
    .default({ socket: defaults.gobgpSocket })
    .describe('The gobgpd beside warrend, for backend bgp.'),
  metrics: z
    .strictObject({
      socket: z
        .union([pathSchema, z.literal('none')])
        .optional()
        .describe('Unix socket, mode 0660, or none; default: metrics.sock beside the control socket.'),
      group: z
        .string()
        .optional()
        .describe(
          'Group that may read it; default: that of the process (root). Nothing else is granted by it.',
        ),
      address: z
        .string()
        .refine(
          text => parseAddressPort(text) !== undefined,
          'is not of the form ADDRESS:PORT, such as 127.0.0.1:9487 or [::1]:9487',
        )
        .optional()
        .describe('TCP address and port, without TLS and for whoever reaches it; default: none.'),
    })
    .default({})
    .describe('Where metrics are served, as Prometheus reads them: GET /metrics.'),
  resyncInterval: z
    .int()
    .min(1)
    .max(3600)
    .default(defaults.resyncInterval)
    .describe(
      'Seconds: everything is looked at again that often, notices or not; up to five times that where a look takes long.',
    ),
  log: z
    .strictObject({
      level: z
        .enum(['debug', 'info', 'warn', 'error'])
        .default(defaults.logLevel)
        .describe('debug: every operation, too, as ip, bridge and nft lines.'),
      format: z
        .enum(['auto', 'text', 'json', 'journal'])
        .default('auto')
        .describe('auto: journal under systemd, else text.'),
    })
    .default({ level: defaults.logLevel, format: 'auto' })
    .describe('What warrend prints on standard error.'),
})
