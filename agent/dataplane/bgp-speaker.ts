// The tables of the gobgpd beside us, with its client, which is opened when it is first needed: without BGP neither the
// library nor the daemon is.
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Gobgp } from '../../lib/gobgp/types.js'
import { type BgpTables, bgpTables } from './tables/bgp.js'

export const bgpTableNames = ['bgp-speaker', 'bgp-policy', 'bgp-path', 'bgp-peer'] as const

/** Remembers over a restart of gobgpd or of ourselves that this host has spoken BGP since it booted. */
function marker(stateDir: string): { read: () => boolean; write: (spoke: boolean) => void } {
  const path = `${stateDir}/bgp-boot`
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  let known: boolean | undefined
  return {
    read() {
      try {
        known ??= readFileSync(path, 'utf8').trim() === boot
      } catch {
        known = false
      }
      return known
    },
    write(spoke) {
      known = spoke
      if (spoke) writeFileSync(path, `${boot}\n`, { mode: 0o600 })
      else rmSync(path, { force: true })
    },
  }
}

/** The tables alone, for those who only remove what is there. */
export function openBgpTables(
  socket: string,
  stateDir: string,
  options: { readonly wanted: () => boolean; readonly asn: () => number; readonly now: () => number },
): { readonly tables: BgpTables; close(): void } {
  const spoken = marker(stateDir)
  let client: Promise<Gobgp> | undefined
  const tables = bgpTables({
    async client() {
      if (!options.wanted() && !spoken.read()) return undefined
      client ??= openSpeaker(socket)
      return client
    },
    spoke: spoken.read,
    setSpoke: spoken.write,
    asn: options.asn,
    now: options.now,
  })
  return { tables, close: () => void client?.then(each => each.close()) }
}

export async function openSpeaker(socket: string): Promise<Gobgp> {
  const { gobgpClient } = await import('../../lib/gobgp/client.js')
  return gobgpClient({ socket })
}
