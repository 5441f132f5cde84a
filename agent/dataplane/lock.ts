// One agent per prefix and per role in a namespace: abstract unix sockets belong to the network namespace and go with
// their process, so the lock can be neither stale nor bypassed. `ss -xl src '@warren/*'`.
import { createServer, type Server } from 'node:net'
import { hasCode, WarrenError } from '../../lib/errors.js'
import type { Netns } from '../../lib/netns/netns.js'
import type { Config } from '../config.js'

export interface Lock {
  release(): void
}

async function hold(netns: Netns, name: string): Promise<Server> {
  const server = createServer(connection => connection.end(`${process.pid}\n`))
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // libuv makes, binds and listens within listen(), so it happens inside the namespace's window.
    netns.run(() => {
      server.listen(`\0${name}`, () => resolve())
    })
  })
  server.unref()
  return server
}

/** Errors: BUSY when another agent holds the prefix, or a role, in this namespace. */
export async function acquireLock(netns: Netns, config: Pick<Config, 'namePrefix' | 'roles'>): Promise<Lock> {
  const held: Server[] = []
  const release = (): void => {
    for (const server of held) server.close()
  }
  const names = [`warren/prefix/${config.namePrefix}`, ...config.roles.map(role => `warren/role/${role}`)]
  for (const name of names) {
    try {
      held.push(await hold(netns, name))
    } catch (error) {
      release()
      if (!hasCode(error, 'EADDRINUSE')) throw error
      throw new WarrenError(`Cannot run here: another warrend holds "${name}" in this network namespace`, {
        code: 'BUSY',
        hint: "find it with: ss -xlp src '@warren/*'; stop it first (systemctl stop warrend)",
        cause: error,
      })
    }
  }
  return { release }
}
