// Two maps of groups as one, in step with their changes: neither is copied for a change of the other. Their keys differ.
import { diffMaps, PersistentMap } from '../../../lib/persistent/map.js'

export function createUnion<T>(): (a: PersistentMap<T>, b: PersistentMap<T>) => PersistentMap<T> {
  let lastA: PersistentMap<T> = PersistentMap.empty()
  let lastB: PersistentMap<T> = PersistentMap.empty()
  let all: PersistentMap<T> = PersistentMap.empty()
  return (a, b) => {
    if (b.size === 0 && lastB.size === 0) {
      lastA = a
      all = a
      return a
    }
    const changes: (readonly [string, T | undefined])[] = []
    const follow = (key: string, after: T | undefined): void => void changes.push([key, after])
    if (lastA !== a) diffMaps(lastA, a, follow)
    if (lastB !== b) diffMaps(lastB, b, follow)
    if (changes.length > 0) all = all.withAll(changes)
    lastA = a
    lastB = b
    return all
  }
}
