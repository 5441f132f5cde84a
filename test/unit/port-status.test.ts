// How a Port fares, told from what is wanted and what the mirrors know; and links that wait for their rules.
import t from 'tap'
import { ruleText } from '../../agent/api/tenant-view.js'
import { rulesFirst } from '../../agent/dataplane/rules-first.js'
import type { DesiredState, FabricLink } from '../../agent/model/desired.js'
import type { Port } from '../../agent/model/port.js'
import { type PortFacts, portStatus, type Trouble } from '../../agent/port-status.js'
import { WarrenError } from '../../lib/errors.js'
import type { NftTableSpec } from '../../lib/nftables/types.js'
import type { OpResult, Table, TableOp } from '../../lib/reconcile/table.js'

const port = (spec: Partial<Port['spec']> = {}): Port => ({
  apiVersion: 'warren/v1',
  kind: 'Port',
  metadata: { name: 'web', tenant: 'red' },
  spec: {
    network: 'a',
    node: 'h1',
    device: { kind: 'veth', netns: 'c1', name: 'eth0' },
    portSecurity: true,
    adminState: 'up',
    allowedAddressPairs: [],
    ...spec,
  },
})

const tables = [
  'netns',
  'fabric-filter',
  'fabric-element',
  'fabric-link',
  'fabric-sysctl',
  'fabric-neighbor',
  'fabric-fdb',
  'guest',
]

/** Objects are their own names here. */
const desired = (more: Partial<DesiredState> = {}): DesiredState =>
  ({
    ...Object.fromEntries(tables.map(name => [name, new Map()])),
    netns: new Map([
      ['fabric/base', ['fabric']],
      ['space/r', ['router']],
    ]),
    'fabric-filter': new Map([['fabric/base', ['rules']]]),
    'fabric-link': new Map([
      ['network/red/a', ['bridge']],
      ['port/red/web', ['link']],
    ]),
    guest: new Map([['port/red/web', ['guest']]]),
    problems: [],
    fabric: {
      ports: new Map([['red/web', { network: 'red/a' }]]),
      networks: new Map([['red/a', { router: 'red/r' }]]),
      routers: new Map([['red/r', { netns: 'r' }]]),
    },
    ...more,
  }) as unknown as DesiredState

function facts(
  more: Partial<PortFacts> = {},
  failures: Readonly<Record<string, Trouble>> = {},
  missing: readonly string[] = [],
): PortFacts {
  return {
    node: 'h1',
    fabric: true,
    desired: desired(),
    failureOf: (_, object) => failures[String(object)],
    stands: (_, object) => !missing.includes(String(object)),
    complete: () => false,
    ...more,
  }
}
const trouble = (code: string): Trouble => ({ code, message: `no ${code}`, hint: 'look' })

t.test('ports: before anything is written, the reason is what a person has to do', async t => {
  t.equal(portStatus(port({ node: 'h2' }), facts()), undefined, 'the other host knows')
  const unbound = port()
  const { node: _node, ...spec } = unbound.spec
  t.match(portStatus({ ...unbound, spec }, facts()), {
    state: 'DOWN',
    code: 'UNBOUND',
    hint: /port attach red.web/,
  })
  const { device: _device, ...bare } = unbound.spec
  t.match(portStatus({ ...unbound, spec: bare }, facts()), { state: 'DOWN', code: 'NO_DEVICE' })
  t.match(portStatus(port({ adminState: 'down' }), facts()), { state: 'DOWN', code: 'ADMIN_DOWN' })
  t.match(portStatus(port(), facts({ fabric: false })), { state: 'DOWN', code: 'NO_ROLE' })
  t.match(portStatus(port(), facts({ desired: undefined })), { state: 'BUILD', code: 'STARTING' })
  t.match(portStatus(port(), facts({ desired: desired({ hold: 'no store' }) })), {
    state: 'BUILD',
    reason: 'no store',
  })
  const nothing = {
    ports: new Map(),
    networks: new Map(),
    routers: new Map(),
  } as unknown as DesiredState['fabric']
  const without = desired(nothing === undefined ? {} : { fabric: nothing })
  t.match(portStatus(port(), facts({ desired: without })), { state: 'BUILD', code: 'VALUES' })
  const problems = [
    { level: 'error', about: 'port/red/web', code: 'DEVICE_TAKEN', message: 'taken', hint: 'another' },
  ] as const
  t.match(portStatus(port(), facts({ desired: { ...without, problems } })), {
    state: 'DOWN',
    code: 'DEVICE_TAKEN',
    hint: 'another',
  })
})

t.test('ports: what failed first is the reason; what is only not there yet is BUILD', async t => {
  t.same(portStatus(port(), facts()), { state: 'ACTIVE' })
  t.match(portStatus(port(), facts({}, {}, ['link'])), {
    state: 'BUILD',
    code: 'WRITING',
    reason: /fabric-link/,
  })
  const both = { link: trouble('NO_NETNS'), guest: trouble('NO_LINK') }
  t.match(portStatus(port(), facts({}, both, ['link', 'guest'])), {
    state: 'DOWN',
    code: 'NO_NETNS',
    hint: 'look',
  })
  t.match(
    portStatus(port(), facts({}, { ...both, rules: trouble('EXIT') })),
    { code: 'EXIT' },
    'rules before links',
  )
  t.match(portStatus(port(), facts({}, { guest: trouble('EPERM') })), { state: 'DOWN', code: 'EPERM' })
  const asked = facts({ complete: table => table !== 'guest' }, both, ['link', 'guest'])
  t.match(portStatus(port(), asked), { code: 'NO_LINK' }, 'no object of a complete table is asked for')
  t.match(
    portStatus(port(), facts({}, { router: trouble('EEXIST') })),
    { code: 'EEXIST' },
    "its router's namespace",
  )
  t.match(portStatus(port(), facts({}, { bridge: trouble('ENODEV') })), { code: 'ENODEV' }, 'its network')
})

t.test('rules in words', async t => {
  const rule = {
    direction: 'ingress',
    family: 'inet',
    protocol: 'tcp',
    ports: '8080',
    icmp: undefined,
    remoteCidr: undefined,
    remoteGroup: undefined,
  } as const
  t.equal(ruleText(rule), 'in tcp 8080 from anywhere')
  t.equal(ruleText({ ...rule, family: 'inet6' }), 'in tcp 8080 from anywhere (IPv6)')
  t.equal(ruleText({ ...rule, remoteCidr: '10.0.0.0/8' }), 'in tcp 8080 from 10.0.0.0/8')
  t.equal(
    ruleText({ ...rule, protocol: undefined, ports: undefined, remoteGroup: 'red/db' }),
    'in IPv4 from group red/db',
  )
  t.equal(
    ruleText({
      ...rule,
      direction: 'egress',
      family: 'inet6',
      protocol: 'icmpv6',
      ports: undefined,
      icmp: { type: 128, code: 0 },
    }),
    'out icmpv6 type 128 code 0 to anywhere',
  )
})

t.test(
  'links wait for their rules: made, not set up, with a reason; once the rules are taken they are set up',
  async t => {
    const { signal } = new AbortController()
    let answer: OpResult = new WarrenError('no', { code: 'EXIT' })
    const written: boolean[] = []
    const plain = <T>(apply: Table<T>['apply']): Table<T> => ({
      name: 'x',
      key: () => '',
      equal: () => true,
      observe: async () => [],
      apply,
      format: () => '',
    })
    const gate = rulesFirst()
    const rules = gate.rules(
      'wrn-fabric',
      plain<NftTableSpec>(async ops => ops.map(() => answer)),
    )
    const linksOf = (space: string) =>
      gate.links(
        space,
        plain<FabricLink>(async ops =>
          ops.map(op => {
            written.push(op.verb !== 'remove' && op.desired.up === true)
            return undefined
          }),
        ),
      )
    const spec: NftTableSpec = { family: 'bridge', name: 'warren', text: '' }
    const own: FabricLink = {
      kind: 'link',
      name: 'p1',
      info: { kind: 'veth' },
      up: true,
      port: { learning: false },
    }
    const ops: readonly TableOp<FabricLink>[] = [
      { verb: 'add', desired: own },
      { verb: 'add', desired: { kind: 'link', name: 'br1', info: { kind: 'bridge' }, up: true } },
      { verb: 'remove', observed: own },
    ]
    const codes = async (space: string) => {
      written.length = 0
      return (await linksOf(space).apply(ops, signal)).map(error => error?.code)
    }
    await rules.apply([{ verb: 'add', desired: spec }], signal)
    t.same(await codes('wrn-fabric'), ['RULES', undefined, undefined])
    t.same(written, [false, true, false])
    t.same(await codes('wrn-r-1'), [undefined, undefined, undefined], 'of another namespace')
    answer = undefined
    await rules.apply([{ verb: 'add', desired: spec }], signal)
    t.same(await codes('wrn-fabric'), [undefined, undefined, undefined])
    t.same(written, [true, true, false])
  },
)
