// A host to be examined: a namespace of its own, and the doctor's checks run on it from outside, as `warren doctor` does inside.
import { tmpdir } from 'node:os'
import { parseConfig } from '../../agent/config.js'
import type { DoctorContext, Finding } from '../../agent/doctor/check.js'
import type { Daemon, Peer } from '../../agent/doctor/daemon-facts.js'
import { checks } from '../../agent/doctor/registry.js'
import { type DoctorReport, runDoctor } from '../../agent/doctor/run.js'
import { openConntrack } from '../../lib/conntrack/conntrack.js'
import { openIptables } from '../../lib/iptables/iptables.js'
import { openRtnl } from '../../lib/netlink/rtnl.js'
import { openNft } from '../../lib/nftables/nft.js'
import { createWorld, type World } from './netns-world.js'

export interface Patient extends World {
  /** Of all checks. */
  report(more: Look): Promise<DoctorReport>
  /** One check's findings. */
  look(id: string, more?: Look): Promise<readonly Finding[]>
  /** Its findings' codes, "OK" where all is well. */
  codes(id: string, more?: Look): Promise<readonly string[]>
}

export interface Look {
  readonly config?: string
  readonly daemon?: Daemon
  readonly peers?: readonly Peer[]
  readonly root?: string
  /** In place of the kernel's. */
  readonly conntrack?: Pick<DoctorContext['kernel']['conntrack'], 'count'>
}

export function createPatient(setup: string): Patient {
  const world = createWorld(setup)
  const { netns } = world
  const rtnl = openRtnl(netns)
  const nft = openNft(netns)
  const conntrack = openConntrack(netns)
  const kernel: DoctorContext['kernel'] = { netns, rtnl, nft, conntrack, iptables: openIptables(netns) }
  const report = (more: Look, wanted = checks): Promise<DoctorReport> => {
    const { config = '', daemon, conntrack: told, ...rest } = more
    const store = config.includes('store:') ? '' : `store: { file: ${tmpdir()} }\n`
    return runDoctor(wanted, {
      config: parseConfig(`node: h1\nunderlay: { interface: eth0 }\n${store}${config}`, 'test'),
      kernel: told === undefined ? kernel : { ...kernel, conntrack: { ...conntrack, ...told } },
      daemon,
      signal: AbortSignal.timeout(10_000),
      ...rest,
    })
  }
  const look = async (id: string, more: Look = {}): Promise<readonly Finding[]> => {
    const [result] = (
      await report(
        more,
        checks.filter(check => check.id === id),
      )
    ).checks
    if (result === undefined) throw new Error(`check "${id}" did not run`)
    return result.findings
  }
  return {
    ...world,
    look,
    report: more => report(more),
    codes: async (id, more) => [...new Set((await look(id, more)).map(({ code }) => code))],
    close() {
      conntrack.close()
      rtnl.close()
      nft.close()
      world.close()
    },
  }
}

/** A warrend that is well, but for what is given. */
export function daemonOf(
  more: Partial<Daemon['status']> = {},
  rest: Partial<Omit<Daemon, 'status'>> = {},
): Daemon {
  return {
    status: {
      node: 'h1',
      version: 'test',
      pid: 1,
      startedAt: '2026-01-01T00:00:00.000Z',
      roles: ['cluster'],
      backend: 'vxlan',
      mtu: 1450,
      underlay: { interface: 'eth0', addresses: ['192.0.2.11'], mtu: 1500 },
      revision: 1,
      appliedRevision: 1,
      converged: true,
      hold: undefined,
      lease: { ipv4: '10.244.1.0/24' },
      tables: [],
      sources: [],
      peers: [],
      problems: [],
      counts: { start: 0, model: 0, drift: 0, orphan: 0 },
      passes: 1,
      rss: 0,
      startup: {},
      ...more,
    },
    nodes: [],
    ...rest,
  }
}
