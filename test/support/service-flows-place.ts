// Two hosts with agents for a file of tests of Services with real packets, and how all of it ends, whatever happens.
import t from 'tap'
import { buildPrograms, killAgents } from './agents.js'
import { createServiceWorld, type ServiceWorld } from './service-world.js'

export const proxyModes = ['nftables', 'iptables', 'userspace'] as const

/** `name`: of its directory. Ends with the file's tests; when they fail, with the ends of the agents' logs. */
export async function openServicePlace(name: string): Promise<ServiceWorld> {
  t.setTimeout(900_000)
  const programs = await buildPrograms()
  let world: ServiceWorld | undefined
  t.teardown(() => {
    if (!t.passing()) for (const { log } of Object.values(world?.agent ?? {})) t.comment(log().slice(-4000))
    killAgents()
    world?.close()
    programs.remove()
  })
  process.once('exit', killAgents)
  world = await createServiceWorld(programs, name, { proxyMode: proxyModes[0] })
  return world
}
