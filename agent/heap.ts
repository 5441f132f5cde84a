// V8's heap over a start. The launcher lets the old generation grow by a fifth between two collections, which keeps an
// agent small; while a start fills the heap from nothing, that is a dozen collections of what will live anyway (a third
// of the CPU of a start with 10,000 Services). So it may double until the start is over, and then is collected once: V8
// would not do so before it has doubled again. From then on pages of the heap are put together where a fifth of one is
// unused (--optimize-for-size), not only where most of it is: each change replaces some small objects here and there, and
// after 10,000 changes among 10,000 Services a third of the heap was holes.
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { nativeFunction } from '../lib/netns/libc.js'

/** --heap-growing-percent of scripts/build.mjs. */
const steadyPercent = 20
const startPercent = 100
/**
 * --interrupt-budget, bytes of bytecode until V8 11 (Node 20) thinks of giving a function to TurboFan: fifteen times its default
 * (67,584) while a start lasts, of whose CPU time compiling took a quarter. From then on a thirteenth of it: a change of one
 * endpoint runs through hundreds of functions once each, and took a third longer for the thousands of changes until they were
 * compiled. Later V8s do not know the flag, and count calls.
 */
const startBudget = 1_000_000
const preparingBudget = 20_000
const steadyBudget = 5_000
/** The start is over when the event loop had nothing to do for half of such a time. */
const lookMs = 3_000
const idleShare = 0.5
const longestStartMs = 60_000
/** V8's compiler and others leave holes in malloc's heap, two thirds of it after a start. */
const trimMs = 60_000

/**
 * A collection of everything, after which no page of the heap has holes; the function is shown to new contexts only while the
 * flag is set. V8 itself would do so 8 s after each collection, up to three times (--no-memory-reducer of scripts/build.mjs):
 * 50 ms each with 10,000 Services, during which no change reaches the kernel.
 */
function collect(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  setFlagsFromString('--no-expose-gc')
  setFlagsFromString('--compact-on-every-full-gc')
  gc()
  setFlagsFromString('--no-compact-on-every-full-gc')
}

/** Gives back what malloc holds and nobody uses, malloc_trim(3): some milliseconds. Only glibc has it. */
function trim(): void {
  try {
    nativeFunction('libc.so.6', 'int malloc_trim(size_t)')(0)
  } catch {
    // another libc
  }
}

/** madvise(2), asm-generic/mman-common.h. */
const MADV_DONTNEED = 4
/** A head of /proc/self/smaps: a file that is mapped without the right to write. proc_pid_smaps(5). */
const readOnlyFile = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d* .*$/

/**
 * The parts of Node's program and of libraries that are read only and unchanged (no page of them is this process's own),
 * as [address, bytes].
 */
export function unchangedFiles(smaps: string): readonly (readonly [bigint, bigint])[] {
  const found: (readonly [bigint, bigint])[] = []
  for (const part of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, from, to] = readOnlyFile.exec(part.slice(0, part.indexOf('\n'))) ?? []
    if (from === undefined || to === undefined || !/^Anonymous: +0 kB$/m.test(part)) continue
    found.push([BigInt(`0x${from}`), BigInt(`0x${to}`) - BigInt(`0x${from}`)])
  }
  return found
}

/**
 * Lets go of the pages of Node's program that a start ran through, some 25 MB: those needed again come back out of the kernel's
 * page cache, some 10 MB, at a fraction of a microsecond each. Changed pages (relocations, a debugger's breakpoints) stay.
 */
function letGoOfProgram(): void {
  try {
    const madvise = nativeFunction('libc.so.6', 'int madvise(uintptr_t, size_t, int)')
    for (const [address, bytes] of unchangedFiles(readFileSync('/proc/self/smaps', 'ascii')))
      madvise(address, bytes, MADV_DONTNEED)
  } catch {
    // another libc, or no /proc
  }
}

function compileAfter(budget: number): void {
  if (process.versions.v8.startsWith('11.')) setFlagsFromString(`--interrupt-budget=${budget}`)
}

/** What is to come yet that a start is not over without. */
interface Awaited {
  /** What comes late is as much as what came at first: the start lasts as long as that is true. */
  more(): boolean
  /** Called once, when there is nothing else to do but to wait for it. */
  prepare(): Promise<void>
}
const awaited = new Set<Awaited>()

export function startLastsFor(what: Awaited): void {
  awaited.add(what)
}

/** While it runs a function is compiled by TurboFan as soon as it was seen a few hundred times. */
async function prepare(): Promise<void> {
  collect()
  compileAfter(preparingBudget)
  // Nothing depends on it but how long the rest takes.
  for (const each of awaited) if (each.more()) await each.prepare().catch(() => undefined)
  compileAfter(startBudget)
}

/** Call it first. */
export function growFreelyAtStart(): void {
  // V8 takes a code cache only under the flags under which it was written: those of the launcher (scripts/build.mjs).
  if (process.env['WARREN_CODE_CACHE'] === 'write') return
  setFlagsFromString(`--heap-growing-percent=${startPercent}`)
  compileAfter(startBudget)
  let last = performance.eventLoopUtilization()
  let preparing: 'yes' | 'over' | undefined
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, last)
    last = now
    const late = performance.now() >= longestStartMs
    if (preparing === 'yes' || (utilization > idleShare && !late)) return
    if (!late && [...awaited].some(({ more }) => more())) {
      if (preparing === 'over') return
      preparing = 'yes'
      void prepare().finally(() => {
        preparing = 'over'
      })
      return
    }
    clearInterval(timer)
    setFlagsFromString(`--heap-growing-percent=${steadyPercent}`)
    compileAfter(steadyBudget)
    setFlagsFromString('--optimize-for-size')
    collect()
    trim()
    letGoOfProgram()
    setInterval(trim, trimMs).unref()
  }, lookMs)
  timer.unref()
}
