// Links: ours by name prefix and alias "warren:..."; `ip -d link show`. What the kernel cannot change on a living
// device (VNI, port, local address, kind) costs a new device; everything else is set in place.
import { hasCode, WarrenError } from '../../../lib/errors.js'
import { formatOp } from '../../../lib/netlink/format.js'
import type { Link, LinkInfo, Rtnl, RtnlOp } from '../../../lib/netlink/types.js'
import type { OpResult, Table, TableChange, TableOp } from '../../../lib/reconcile/table.js'
import { aliasOf, aliasPrefix } from '../../model/marks.js'

/** The parts of a link that are fixed at its creation. */
function sameKind(desired: LinkInfo, observed: LinkInfo): boolean {
  if (desired.kind === 'vxlan') {
    return (
      observed.kind === 'vxlan' &&
      desired.vni === observed.vni &&
      desired.port === observed.port &&
      desired.learning === observed.learning &&
      (desired.local === undefined || desired.local === observed.local)
    )
  }
  return desired.kind === observed.kind
}

function bridgeFlags(desired: LinkInfo, observed: LinkInfo): boolean {
  if (desired.kind !== 'bridge' || observed.kind !== 'bridge') return true
  return (
    (desired.nfCallIptables === undefined || desired.nfCallIptables === observed.nfCallIptables) &&
    (desired.nfCallIp6tables === undefined || desired.nfCallIp6tables === observed.nfCallIp6tables)
  )
}

const attributes = ['alias', 'address', 'mtu', 'up', 'master', 'addrGenMode'] as const

function equalLink(desired: Link, observed: Link): boolean {
  return (
    desired.name === observed.name &&
    sameKind(desired.info, observed.info) &&
    bridgeFlags(desired.info, observed.info) &&
    attributes.every(name => desired[name] === undefined || desired[name] === observed[name])
  )
}

/** Only what differs: writing an MTU or a MAC again is not free of side effects. */
function differing(desired: Link, observed: Link): Link {
  const { kind, name } = desired
  const changes: Record<string, unknown> = {}
  for (const attribute of attributes) {
    if (desired[attribute] !== undefined && desired[attribute] !== observed[attribute])
      changes[attribute] = desired[attribute]
  }
  const info: LinkInfo = bridgeFlags(desired.info, observed.info)
    ? { kind: 'other', name: desired.info.kind }
    : desired.info
  return { kind, name, info, ...changes }
}

function messages(op: TableOp<Link>): RtnlOp[] {
  switch (op.verb) {
    case 'add':
      return [{ verb: 'add', object: op.desired }]
    case 'change':
      if (op.desired.name === op.observed.name && sameKind(op.desired.info, op.observed.info))
        return [{ verb: 'set', object: differing(op.desired, op.observed) }]
      return [
        { verb: 'delete', object: op.observed },
        { verb: 'add', object: op.desired },
      ]
    case 'remove':
      return [{ verb: 'delete', object: op.observed }]
  }
}

/** The device that is deleted and made anew, with all that stands on it; undefined: it is changed in place. */
export function renewed(change: TableChange<Link>): string | undefined {
  return messages(change)[0]?.verb === 'delete' ? change.observed.name : undefined
}

/**
 * A link of that name, kind and MAC without an alias of ours: made by us and left before it got its alias (the kernel
 * takes none with a new link), or robbed of it. The MAC is derived from the node's name and set with the link.
 */
async function half(desired: Link, rtnl: Rtnl, signal: AbortSignal): Promise<Link | undefined> {
  const [found] = await rtnl.list('link', { dev: desired.name }, signal)
  const same = found?.info.kind === desired.info.kind && found.address === desired.address
  return same && desired.address !== undefined && !(found.alias ?? '').startsWith(aliasPrefix)
    ? found
    : undefined
}

/** EEXIST on a new link: the name, or for a VXLAN device VNI and port, is somebody else's. Say whose. */
async function explain(
  error: WarrenError,
  link: Link,
  rtnl: Rtnl,
  signal: AbortSignal,
): Promise<WarrenError> {
  // How the kernel says that it knows no such kind and can load no module for it.
  if (hasCode(error, 'EOPNOTSUPP', 'EAFNOSUPPORT', 'EPROTONOSUPPORT')) {
    const kind = link.info.kind === 'other' ? link.info.name : link.info.kind
    return new WarrenError(`Cannot create link "${link.name}": this kernel has no ${kind} devices`, {
      code: error.code,
      hint: `modprobe ${kind}; where that fails, install the kernel package with that module (Debian, Ubuntu: linux-modules-extra, not the -cloud kernel)`,
      cause: error,
    })
  }
  if (!hasCode(error, 'EEXIST')) return error
  const links = await rtnl.list('link', {}, signal)
  const named = links.find(other => other.name === link.name)
  if (named !== undefined) {
    const kind = named.info.kind === 'other' ? named.info.name : named.info.kind
    return new WarrenError(
      `Cannot create link "${link.name}": a ${kind} device of that name is there and is not ours (no alias ${aliasPrefix}...)`,
      {
        code: 'EEXIST',
        hint: `rename or delete it (ip link delete ${link.name}), or set another namePrefix in warrend.yaml`,
        cause: error,
      },
    )
  }
  const { info } = link
  if (info.kind !== 'vxlan') return error
  const rival = links.find(
    other => other.info.kind === 'vxlan' && other.info.vni === info.vni && other.info.port === info.port,
  )
  if (rival === undefined) return error
  return new WarrenError(
    `Cannot create link "${link.name}": VNI ${info.vni} on UDP port ${info.port} is held by link "${rival.name}"`,
    {
      code: 'EEXIST',
      hint: `delete it (ip link delete ${rival.name}), or choose another vni or port in the Cluster's backend`,
      cause: error,
    },
  )
}

/**
 * A link's identity is its alias. One that lost name or alias in this process's time is known by its ifindex, and made
 * right again.
 */
export function linkTable(rtnl: Rtnl, prefix: string, node: string): Table<Link> {
  const mine = new Map<number, string>()
  // By our own alias under any name; by prefix and alias where the node had another name once.
  const marked = ({ name, alias = '' }: Link): boolean =>
    alias.startsWith(aliasOf(node, '')) || (alias.startsWith(aliasPrefix) && name.startsWith(prefix))
  const known = (link: Link): string | undefined =>
    link.index === undefined ? undefined : mine.get(link.index)
  return {
    name: 'link',
    key: link => ((link.alias ?? '').startsWith(aliasPrefix) ? link.alias : known(link)) ?? link.name,
    equal: equalLink,
    observe: async signal => {
      const found = (await rtnl.list('link', {}, signal)).filter(
        link => marked(link) || known(link) !== undefined,
      )
      const before = new Map(mine)
      mine.clear()
      for (const link of found) {
        if (link.index !== undefined)
          mine.set(link.index, (marked(link) ? link.alias : before.get(link.index)) ?? link.name)
      }
      return found
    },
    async apply(ops, signal) {
      // Few and not alike: a failing one must not take its neighbours along.
      const results: OpResult[] = []
      for (const op of ops) {
        let answers = await rtnl.apply(messages(op), signal)
        const torn =
          op.verb === 'add' && hasCode(answers[0], 'EEXIST')
            ? await half(op.desired, rtnl, signal)
            : undefined
        if (torn !== undefined && op.verb === 'add')
          answers = await rtnl.apply(
            messages({ verb: 'change', desired: op.desired, observed: torn }),
            signal,
          )
        const error = answers.find(answer => answer !== undefined)
        const gone = op.verb === 'remove' && hasCode(error, 'ENODEV')
        results.push(
          error === undefined || gone
            ? undefined
            : op.verb === 'remove'
              ? error
              : await explain(error, op.desired, rtnl, signal),
        )
      }
      return results
    },
    format: op => messages(op).map(formatOp).join('\n'),
  }
}
