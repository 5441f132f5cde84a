// What the kernel can do, tried out: links of each kind are made in a namespace of a moment that nobody sees, tables are
// asked for. The kernel may load a module for it, as it would for warrend. `modinfo vxlan`, `zgrep VXLAN /proc/config.gz`.
import { existsSync } from 'node:fs'
import { release } from 'node:os'
import { codeOf, hasCode } from '../../../lib/errors.js'
import { encodeLinkCreate } from '../../../lib/netlink/codec/link.js'
import { MessageWriter } from '../../../lib/netlink/codec/message.js'
import { NETLINK_ROUTE } from '../../../lib/netlink/raw.js'
import { openNetlink } from '../../../lib/netlink/socket.js'
import type { LinkInfo } from '../../../lib/netlink/types.js'
import { anonymousNetns } from '../../../lib/netns/netns.js'
import { bad, type Check, type DoctorContext, type Finding, orOk, unknown, warn } from '../check.js'

/** README: the oldest kernel that everything is tested with. */
const oldest = [5, 15] as const

export interface Feature {
  readonly name: string
  /** What does not work without it. */
  readonly what: string
  readonly needed: boolean
  /** undefined: there; a code: why not; 'EPERM': cannot be told. */
  readonly failure: string | undefined
}

export function judgeKernel(version: string, features: readonly Feature[]): readonly Finding[] {
  const found: Finding[] = []
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major < oldest[0] || (major === oldest[0] && minor < oldest[1]))
    found.push(
      warn('KERNEL_OLD', `kernel ${version} is older than ${oldest.join('.')}, the oldest that is tested`, {
        fix: 'upgrade the kernel',
      }),
    )
  const untold = features.filter(({ failure }) => failure === 'EPERM')
  if (untold.length > 0)
    found.push(
      unknown('NO_CAPABILITY', `cannot try ${untold.map(({ name }) => name).join(', ')}: EPERM`, {
        fix: 'sudo warren doctor',
      }),
    )
  for (const { name, what, needed, failure } of features)
    if (failure !== undefined && failure !== 'EPERM')
      found.push(
        (needed ? bad : warn)('NO_FEATURE', `the kernel has no ${name} (${failure}): ${what}`, {
          about: name,
          fix: `modprobe ${name}; is the kernel's extra package installed (linux-modules-extra-$(uname -r))?`,
        }),
      )
  return orOk(found, `${version} with ${features.map(({ name }) => name).join(', ')}`)
}

const kinds: readonly { readonly info: LinkInfo; readonly what: string }[] = [
  { info: { kind: 'bridge' }, what: 'pods have nothing to be plugged into' },
  { info: { kind: 'veth' }, what: 'pods have no links' },
  {
    info: { kind: 'vxlan', vni: 1, port: 4789, learning: false },
    what: 'backend vxlan and tenant networks cannot work',
  },
]

async function tryLinks(fabric: boolean): Promise<readonly Feature[]> {
  const failures = new Map<string, string>()
  try {
    const scratch = anonymousNetns()
    const socket = openNetlink(scratch, NETLINK_ROUTE)
    try {
      const names = { nameOf: () => 'lo', indexOf: () => 0 }
      const results = await socket.batch(
        kinds.map(({ info }) =>
          encodeLinkCreate(new MessageWriter(256), { kind: 'link', name: `try${info.kind}`, info }, names),
        ),
      )
      results.forEach((failure, i) => {
        const kind = kinds[i]?.info.kind
        if (failure !== undefined && kind !== undefined) failures.set(kind, failure.code)
      })
    } finally {
      socket.close()
      scratch.close()
    }
  } catch (error) {
    if (!hasCode(error, 'EPERM')) throw error
    for (const { info } of kinds) failures.set(info.kind, 'EPERM')
  }
  return [
    ...kinds.map(({ info, what }) => ({
      name: info.kind,
      what,
      needed: true,
      failure: failures.get(info.kind),
    })),
    {
      name: 'tun',
      what: "VMs' taps cannot be made",
      needed: false,
      failure: fabric && !existsSync('/dev/net/tun') ? 'ENOENT' : undefined,
    },
  ]
}

async function tryNetfilter({ kernel, sysctl, procNet, signal }: DoctorContext): Promise<readonly Feature[]> {
  const failureOf = async (work: () => Promise<unknown>): Promise<string | undefined> => {
    try {
      await work()
      return undefined
    } catch (error) {
      signal.throwIfAborted()
      return codeOf(error)
    }
  }
  const tracked =
    sysctl('net.netfilter.nf_conntrack_max') !== undefined || procNet('stat/nf_conntrack') !== undefined
  return [
    {
      name: 'nf_tables',
      what: 'no guard, no masquerade, no Services',
      needed: true,
      failure: await failureOf(() => kernel.nft.tables()),
    },
    {
      name: 'nf_conntrack',
      what: 'no masquerade and no Services',
      needed: false,
      // Not loaded is not missing: rules that need it bring it.
      failure: tracked ? undefined : await failureOf(() => kernel.conntrack.count(signal)),
    },
  ]
}

export const kernelCheck: Check = {
  id: 'kernel',
  title: 'kernel and its features',
  run: async context => [
    ...judgeKernel(release(), [
      ...(await tryLinks(context.config.roles.includes('fabric'))),
      ...(await tryNetfilter(context)),
    ]),
  ],
}
