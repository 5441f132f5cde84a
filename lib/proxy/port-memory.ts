// The ports that listeners had, in a file: without systemd's store a restarted agent binds the same ones again where they
// are free, so that no rule has to change and fewer connections are refused. `jq . <stateDir>/proxy-ports.json` shows it.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

export interface PortMemory {
  get(key: string): number | undefined
  set(key: string, port: number): void
  delete(key: string): void
  /** Writes the file if something changed. Errors are of no consequence: another port does as well. */
  save(): void
}

function read(path: string): Map<string, number> {
  try {
    const data: unknown = JSON.parse(readFileSync(path, 'utf8'))
    if (typeof data !== 'object' || data === null) return new Map()
    return new Map(
      Object.entries(data).filter(
        (entry): entry is [string, number] => Number.isInteger(entry[1]) && entry[1] > 0 && entry[1] < 65_536,
      ),
    )
  } catch {
    return new Map()
  }
}

/** A file that is missing or spoilt is an empty one. */
export function openPortMemory(path: string): PortMemory {
  const ports = read(path)
  let changed = false
  return {
    get: key => ports.get(key),
    set(key, port) {
      if (ports.get(key) === port) return
      ports.set(key, port)
      changed = true
    },
    delete(key) {
      changed = ports.delete(key) || changed
    },
    save() {
      if (!changed) return
      changed = false
      try {
        mkdirSync(dirname(path), { recursive: true })
        writeFileSync(`${path}.new`, `${JSON.stringify(Object.fromEntries(ports))}\n`)
        renameSync(`${path}.new`, path)
      } catch {
        changed = true
      }
    },
  }
}
