// Without a free descriptor, as after `ulimit -n 64`: programs that cannot be started. Prints their errors' codes, one a line.
import { openSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { run } from '../../agent/support/item.js'
import { codeOf } from '../../lib/errors.js'
import { exec } from '../../lib/exec.js'

const codes: string[] = []
const failed = (error: unknown): void => void codes.push(codeOf(error))
// Whatever they load, they have loaded.
await exec(['true'])
await run(['true'], {}, new AbortController().signal)
try {
  for (let i = 0; i < 1_000; i += 1) openSync('/dev/null', 'r')
} catch (error) {
  failed(error)
}
await exec(['true']).catch(failed)
await run(['true'], {}, new AbortController().signal).catch(failed)
// Time for an 'error' event that nobody listens to.
await delay(50)
process.stdout.write(`${codes.join('\n')}\n`)
