// Many things to be done, some at a time.

/**
 * Calls `f` with each of `all`, in that order, at most `lanes` at a time. Rejects with the first error, while the other lanes go
 * on: to end them too is up to `f` (`signal.throwIfAborted()`).
 */
export async function inLanes<T>(
  lanes: number,
  all: Iterable<T>,
  f: (each: T) => Promise<void>,
): Promise<void> {
  // One iterator for all lanes: each takes the next when it is done.
  const rest = all[Symbol.iterator]()
  const lane = async (): Promise<void> => {
    for (let next = rest.next(); next.done !== true; next = rest.next()) await f(next.value)
  }
  await Promise.all(Array.from({ length: lanes }, lane))
}
