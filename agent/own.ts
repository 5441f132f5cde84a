// What this agent is and was asked for, before anything is looked at: the id of its installation, an address for people
// to find it by, where its underlay is to be sought, and roles that this version cannot fill.
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { codeOf, hasCode, WarrenError } from '../lib/errors.js'
import { isLinkLocal } from '../lib/net/address.js'
import type { Config } from './config.js'
import type { Instance } from './identity.js'
import type { UnderlayChoice } from './sources/host.js'
import type { Store } from './store.js'

/** The same after a restart: tells our own previous life from another agent of our name. */
function instanceId(stateDir: string): string {
  const path = `${stateDir}/instance`
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
  const id = randomUUID()
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 })
    writeFileSync(path, `${id}\n`, { mode: 0o600 })
  } catch (error) {
    throw new WarrenError(`Cannot write "${path}": ${codeOf(error)}`, {
      code: codeOf(error),
      hint: 'set stateDir in warrend.yaml to a directory that warrend may write',
      cause: error,
    })
  }
  return id
}

/** This process, as the store says who runs as a node. Its address is told when it is known. */
export function thisInstance(stateDir: string, startedAt: Date): Instance {
  return {
    instanceId: instanceId(stateDir),
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    pid: process.pid,
    address: '',
    startedAt: startedAt.toISOString(),
  }
}

/** For people, where the underlay is not known yet: some address of this host. */
export function anyAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap(each => each ?? [])
  return all.find(({ internal, address }) => !internal && !isLinkLocal(address))?.address ?? ''
}

/** Where to find the interface to the other nodes: as configured, else by route to the store, then to any of those addresses. */
export function underlayTowards(config: Config, peers: readonly string[]): UnderlayChoice {
  const { underlay } = config
  if (underlay !== undefined && Object.keys(underlay).some(key => key !== 'exclusiveVXLAN'))
    return underlay as UnderlayChoice
  const endpoints = 'etcd' in config.store ? config.store.etcd.endpoints : []
  const hosts = endpoints
    .map(endpoint => new URL(endpoint).hostname.replace(/^\[|\]$/g, ''))
    .filter(host => /^[0-9a-f:.]+$/i.test(host))
  return { auto: [...hosts, ...peers] }
}

/** Of the peers that the store knows, the first addresses. */
export function underlayChoice(config: Config, store: Store): UnderlayChoice {
  const peers: string[] = []
  for (const { metadata, spec } of store.snapshot().nodes.values()) {
    if (metadata.name !== config.node) peers.push(...spec.addresses)
    if (peers.length >= 8) break
  }
  return underlayTowards(config, peers.slice(0, 8))
}
