// Where the product's tables stand in the lab, for taking guards out of them. The agents must be dead meanwhile, or they put
// each back within milliseconds.
import type { Guard } from '../attacks/arena.js'
import { type LiveTable, liftGuards } from '../attacks/live-guards.js'
import type { Lab } from './lab.js'
import { hosts, placesOf } from './plan.js'

const fabrics = hosts.map(host => `fabric/${host}`)
const routers = hosts.flatMap(host => placesOf(host).map(tenant => `router/${tenant}/${host}`))

const tables: Readonly<Record<Guard['table'], LiveTable>> = {
  bridge: { table: 'bridge warren', places: fabrics },
  state: { table: 'inet warren', places: fabrics },
  router: { table: 'inet warren', places: routers },
  arp: { table: 'arp warren', places: routers },
  host: { table: 'inet warren', places: hosts.map(host => `host/${host}`) },
}

/** Takes them out everywhere; returns what puts them back. */
export function takeOut(lab: Lab, guards: readonly Guard[]): () => void {
  return liftGuards((place, script) => lab.sh(place, script), tables, guards)
}
