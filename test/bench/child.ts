// A part of a benchmark in a process of its own: this same program, started again with `child NAME` and one JSON value.
// What it sends is its result.
import { fork } from 'node:child_process'
import { once } from 'node:events'

/** V8's settings in the first seconds of a warrend (its launcher's, and agent/heap.ts). */
export const startFlags: readonly string[] = [
  '--max-semi-space-size=2',
  '--heap-growing-percent=100',
  '--no-parallel-scavenge',
  '--no-memory-reducer',
  ...(process.versions.v8.startsWith('11.') ? ['--interrupt-budget=1000000'] : []),
]

export type ChildMain = (argument: never) => Promise<unknown>

/** Errors: the child's own are on stderr; here only that it ended. */
export async function runChild<T>(
  name: string,
  argument: unknown,
  flags: readonly string[] = [],
): Promise<T> {
  const child = fork(process.argv[1] ?? '', ['child', name, JSON.stringify(argument)], {
    execArgv: [...flags],
  })
  const ended = once(child, 'exit')
  const result = await Promise.race([
    once(child, 'message'),
    ended.then(() => Promise.reject(new Error(`the measuring process "${name}" ended early`))),
  ])
  await ended
  return (result as [T])[0]
}

export async function childMain(mains: Readonly<Record<string, ChildMain>>): Promise<void> {
  const [, , , name = '', argument = 'null'] = process.argv
  const main = mains[name]
  if (main === undefined || process.send === undefined) throw new Error(`no part of the name "${name}"`)
  process.send(await main(JSON.parse(argument) as never))
  process.disconnect()
}
