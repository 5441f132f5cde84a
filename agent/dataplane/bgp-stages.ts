// The tables of the BGP speaker, in their order: what we announce is in before its neighbors are, and after its routes.
import type { TableName } from '../model/desired.js'
import type { Stage } from './stage.js'
import type { BgpTables } from './tables/bgp.js'

export function bgpStages(tables: BgpTables): readonly Stage[] {
  const below: readonly TableName[] = ['bgp-policy', 'bgp-path', 'bgp-peer']
  // A stage's own table only ever sees objects that it observed or that compute made for it.
  return [
    { name: 'bgp-speaker', table: tables.speaker, cascades: below },
    { name: 'bgp-policy', table: tables.policy },
    { name: 'bgp-path', table: tables.path },
    { name: 'bgp-peer', table: tables.peer },
  ] as unknown as readonly Stage[]
}
