// V8's heap over a start. The launcher lets the old generation grow by a fifth between two collections, which keeps an
// agent small; while a start fills the heap from nothing, that is a dozen collections of what will live anyway (a third
// of the CPU of a start with 10,000 Services).
import { setFlagsFromString } from 'node:v8'

/** --heap-growing-percent of scripts/build.mjs. */
const steadyPercent = 20
const startPercent = 100
/** A start takes 1 to 3 s. V8 looks at the flag at the end of each collection. */
const startMs = 5_000

/** Call it first. */
export function growFreelyAtStart(): void {
  setFlagsFromString(`--heap-growing-percent=${startPercent}`)
  setTimeout(() => setFlagsFromString(`--heap-growing-percent=${steadyPercent}`), startMs).unref()
}
