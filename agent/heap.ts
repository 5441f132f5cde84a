// V8's heap over a start. The launcher lets the old generation grow by a fifth between two collections, which keeps an
// agent small; while a start fills the heap from nothing, that is a dozen collections of what will live anyway (a third
// of the CPU of a start with 10,000 Services). So it may double until the start is over, and then is collected once: V8
// would not do so before it has doubled again.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** --heap-growing-percent of scripts/build.mjs. */
const steadyPercent = 20
const startPercent = 100
/** A start takes 1 to 3 s. */
const startMs = 5_000

/** A collection of everything; the function is shown to new contexts only while the flag is set. */
function collect(): void {
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  setFlagsFromString('--no-expose-gc')
  gc()
}

/** Call it first. */
export function growFreelyAtStart(): void {
  setFlagsFromString(`--heap-growing-percent=${startPercent}`)
  setTimeout(() => {
    setFlagsFromString(`--heap-growing-percent=${steadyPercent}`)
    collect()
  }, startMs).unref()
}
