// The composition root: the only place that makes real things. Sources feed the store, compute makes the desired
// state of it, the reconciler makes that true, the API shows it. Lifetimes: runTogether.
import { type Clock, systemClock } from '../lib/clock.js'
import type { Kv } from '../lib/kv/kv.js'
import { aborted, runTogether } from '../lib/lifetime.js'
import type { Log } from '../lib/log.js'
import { createAnswers } from '../lib/probe/answers.js'
import { createReceipts } from '../lib/reconcile/receipt.js'
import { createAllocators } from './allocators.js'
import { createCompute } from './compute/compute.js'
import type { Config } from './config.js'
import { createBgpPart } from './dataplane/bgp.js'
import { openHostProxy } from './dataplane/host-proxy.js'
import { openKernel } from './dataplane/kernel.js'
import { acquireLock } from './dataplane/lock.js'
import { runMonitor } from './dataplane/monitor.js'
import { orderedStages, ownDevices, ownTables } from './dataplane/order.js'
import { Reconciler } from './dataplane/reconciler.js'
import { rehearseAtStart } from './dataplane/rehearsal.js'
import { createSpaceMonitor } from './dataplane/space-monitor.js'
import { openSpaces } from './dataplane/spaces.js'
import { watchSysctls } from './dataplane/sysctl-watch.js'
import { dhcpTable } from './dataplane/tables/dhcp.js'
import { readServicesAhead } from './dataplane/tables/service-ahead.js'
import { createHostWatch } from './host-watch.js'
import { holdIdentity } from './identity.js'
import type { ConfigReloads } from './live-config.js'
import { createLook } from './look.js'
import { createMeters } from './metrics/meters.js'
import { namesOf } from './model/marks.js'
import { createNodeLease } from './node-lease.js'
import { publishRecord } from './objects.js'
import { outsideParts } from './outside.js'
import { anyAddress, thisInstance, underlayChoice } from './own.js'
import { openPortHolders } from './port-holders.js'
import { openStore } from './store.js'
import { dhcpServers, namespaceCommand } from './unit.js'

export interface AgentOptions {
  readonly config: Config
  readonly kv: Kv
  readonly log: Log
  readonly version: string
  readonly clock?: Clock
  /** Tests end the process, or let a pass hang, between two batches. */
  readonly afterBatch?: () => void | Promise<void>
  readonly reloads?: ConfigReloads
}

/** Runs the agent until `signal` aborts; what it programmed stays and keeps forwarding. */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<void> {
  const { config, kv, log } = options
  const clock = options.clock ?? systemClock
  const startedAt = clock.date()
  const names = namesOf(config.namePrefix, config.podBridge, config.netnsPrefix)
  const kernel = openKernel(names)
  const lock = await acquireLock(kernel.netns, config).catch((error: unknown) => {
    kernel.close()
    throw error
  })
  const startup: Record<string, number> = {}
  const mark = (step: string): void => {
    startup[step] ??= Math.round(performance.now() * 10) / 10
  }
  const meters = createMeters(clock)
  const receipts = meters.counting(createReceipts())
  let appliedRevision = 0
  let identity = false

  // Read while the model is.
  const ahead = readServicesAhead(kernel.netns, names)
  const store = await openStore({
    kv,
    ...('file' in config.store ? { directory: config.store.file } : {}),
    snapshotFile: `${config.stateDir}/snapshot.json`,
    clock,
    log,
  })
  const kick = (): void => {
    lease.kick()
    bgp.kick()
    reconciler.kick()
  }
  const lease = createNodeLease({
    kv,
    store,
    node: config.node,
    graceMs: config.leaseGrace * 3_600_000,
    clock,
    log,
    identityHeld: () => identity,
    onChange: () => {
      mark('leased')
      reconciler.kick()
    },
  })
  // Their first look is at every object: after what stands in the model has been made true.
  const mayAllocate = (): boolean => identity && reconciler.passes > 0
  const allocators = createAllocators(config, { kv, store, clock, log, identityHeld: mayAllocate })
  const host = createHostWatch({
    kernel,
    choice: () => underlayChoice(config, store),
    ourTable: names.nftTable,
    clock,
    log,
    onChange: () => {
      mark('host')
      reconciler.kick()
    },
    onLegacy: table => reconciler.notice(table, 'iptables-legacy (the kernel does not tell whose)'),
  })
  const portHolders = openPortHolders(kernel.netns, {
    clock,
    log,
    everyMs: config.resyncInterval * 1000,
    desired: () => desired(),
    allocations: () => store.snapshot().allocations,
    onChange: () => reconciler.kick(),
  })
  const proxy = openHostProxy(config.stateDir, config.proxyDrain)
  const answers = createAnswers()
  const spaces = openSpaces(names.spaces, kernel.netns, namespaceCommand())
  const dhcp = dhcpTable(dhcpServers(config.stateDir))
  const bgp = createBgpPart({
    socket: config.gobgp.socket,
    stateDir: config.stateDir,
    rtnl: kernel.rtnl,
    clock,
    log,
    snapshot: () => store.snapshot(),
    desired: () => desired(),
    onChange: () => reconciler.kick(),
    notice: (table, by) => reconciler.notice(table, by),
  })
  rehearseAtStart(bgp)

  const { look, self, desired, revision, ownRecord } = createLook({
    config,
    names,
    store,
    compute: createCompute(),
    host: () => host.facts(),
    lease: () => lease.current(),
    bgp: { facts: () => bgp.facts(), ready: () => bgp.ready() },
    identityHeld: () => identity,
    problems: () => [...lease.problems(), ...portHolders.problems(), ...(options.reloads?.problems() ?? [])],
    onRecord: () => reconciler.notice('record', undefined),
    onReady: () => mark('in-sync'),
  })

  const reconciler = new Reconciler({
    stages: orderedStages({
      kernel,
      names,
      node: config.node,
      stateDir: config.stateDir,
      subnetFile: config.subnetFile,
      desired,
      proxy,
      answers,
      ahead,
      fabric: { spaces, dhcp },
      bgp: bgp.tables,
      record: {
        read: ownRecord,
        publish: async (node, inner) => void (await publishRecord(kv, node, { signal: inner })),
      },
    }),
    desired: meters.looking(look),
    clock,
    log,
    receipts,
    driftMs: config.resyncInterval * 1000,
    ...(options.afterBatch === undefined ? {} : { afterBatch: options.afterBatch }),
    onPass: report => {
      meters.passed(report)
      portHolders.kick()
      if (report.hold === undefined) mark('first-pass')
      if (report.failed === 0 && report.hold === undefined) appliedRevision = revision()
      if (desired()?.record.size !== 0 && report.failed === 0 && report.hold === undefined) mark('published')
      if (reconciler.passes === 1) allocators.kick()
      onPass.forEach(listener => {
        listener()
      })
    },
  })
  const spaceMonitor = createSpaceMonitor({
    spaces,
    reconciler,
    desired,
    host: kernel.netns,
    clock,
    isOurs: portId => kernel.rtnl.portIds.has(portId) || kernel.nft.portIds.has(portId),
  })
  const onPass = new Set<() => void>([() => spaceMonitor.sync()])

  const outside = outsideParts({
    config,
    startedAt,
    startup,
    kv,
    store,
    reconciler,
    receipts,
    lease,
    self,
    desired,
    onPass,
    clock,
    log,
    kernel,
    proxy,
    spaces,
    bgp,
    meters,
    names,
    version: options.version,
    reloads: options.reloads,
    applied: () => appliedRevision,
  })
  options.reloads?.onReload.add(() => {
    host.kick()
    reconciler.kick()
  })

  const instance = thisInstance(config.stateDir, startedAt)
  store.subscribe(meters.storeChanged)
  // What the kernel gets goes first: the others would take a third of the time until it has it.
  store.subscribe(() => reconciler.kick())
  store.subscribeLater(() => {
    lease.kick()
    bgp.kick()
  })
  try {
    await runTogether(
      {
        monitor: inner =>
          runMonitor(
            {
              ...kernel,
              reconciler,
              prefix: names.prefix,
              devices: ownDevices(names),
              tables: ownTables(names),
              underlay: () => host.facts()?.underlay?.name,
              onHost: () => host.kick(),
              onFilter: () => host.kick(),
            },
            inner,
          ),
        sysctls: inner => watchSysctls(kernel.netns, reconciler, inner),
        host: inner => host.run(inner),
        store: inner => store.run(inner),
        identity: inner =>
          holdIdentity(
            kv,
            config.node,
            { ...instance, address: host.facts()?.underlay?.addresses[0]?.address ?? anyAddress() },
            config.liveTtl,
            inner,
            {
              clock,
              onHeld: () => {
                mark('identity')
                identity = true
                allocators.kick()
                kick()
              },
              onLost: reason => {
                identity = false
                log.warn('liveness lost', { node: config.node, reason })
              },
            },
          ),
        // Without the role a block would only be kept from those who have it.
        lease: inner => (config.roles.includes('cluster') ? lease.run(inner) : aborted(inner)),
        ...allocators.parts,
        reconciler: inner => reconciler.run(inner),
        proxy: inner => proxy.proxy.run(inner),
        bgp: inner => bgp.run(inner),
        portHolders: inner => portHolders.run(inner),
        spaces: inner => spaceMonitor.run(inner),
        dhcp: inner =>
          dhcp.watch(inner, (_key, gone) => reconciler.notice('dhcp', `dnsmasq (pid ${gone.pid} ended)`)),
        ...outside,
      },
      signal,
    )
  } finally {
    answers.close()
    spaces.close()
    lock.release()
    kernel.close()
  }
}
