// What a table should hold, by key, kept up to date by what changed: groups of objects are compared by identity, so that
// one changed owner among thousands costs its own objects.

import { diffMaps } from '../persistent/map.js'
import type { Desired } from './table.js'

export interface WantedChange {
  /** Keys of the groups that came, went or changed. */
  readonly keys: Iterable<string>
  /** Nothing was wanted before, or two owners want one key: any key may have another object now. */
  readonly all: boolean
}

export class Wanted<T> {
  readonly #keyOf: (object: T) => string
  #groups: Desired<T> = new Map()
  #objects = new Map<string, T>()
  /** Keys that nobody wants any more and that may still be there: their removal is the model's doing. */
  readonly #dropped = new Set<string>()
  #clashed = false

  constructor(keyOf: (object: T) => string) {
    this.#keyOf = keyOf
  }

  get(key: string): T | undefined {
    return this.#objects.get(key)
  }

  keys(): Iterable<string> {
    return this.#objects.keys()
  }

  /** It was wanted in this process's time and is not any more. */
  wasDropped(key: string): boolean {
    return this.#dropped.has(key)
  }

  /** It is gone, too. */
  forget(key: string): void {
    this.#dropped.delete(key)
  }

  /** Is this what was taken last? */
  has(desired: Desired<T>): boolean {
    return desired === this.#groups
  }

  take(desired: Desired<T>): WantedChange {
    const before = this.#groups
    const keys = new Set<string>()
    if (desired === before) return { keys, all: false }
    this.#groups = desired
    if (before.size === 0) {
      this.#rebuild(desired)
      for (const key of this.#dropped) if (this.#objects.has(key)) this.#dropped.delete(key)
      return { keys: { [Symbol.iterator]: () => this.#objects.keys() }, all: true }
    }
    let clash = false
    const added: (readonly T[])[] = []
    diffMaps(before, desired, (_owner, after, gone) => {
      if (gone !== undefined)
        for (const object of gone) {
          const key = this.#keyOf(object)
          keys.add(key)
          if (this.#objects.get(key) === object) this.#objects.delete(key)
        }
      if (after !== undefined) added.push(after)
    })
    for (let i = 0; i < added.length; i += 1) {
      const group = added[i] as readonly T[]
      for (let j = 0; j < group.length; j += 1) {
        const object = group[j] as T
        const key = this.#keyOf(object)
        keys.add(key)
        if (this.#objects.has(key)) clash = true
        else this.#objects.set(key, object)
      }
    }
    // An object wanted twice: the owners' groups are no longer enough to tell who still wants it.
    const all = clash || this.#clashed
    if (all) this.#rebuild(desired)
    // Of nearly all of them, nothing was dropped.
    keys.forEach(key => {
      if (!this.#objects.has(key)) this.#dropped.add(key)
      else if (this.#dropped.size > 0) this.#dropped.delete(key)
    })
    return { keys, all }
  }

  /** The first owner's object counts. */
  #rebuild(desired: Desired<T>): void {
    this.#clashed = false
    this.#objects = new Map()
    desired.forEach(group => {
      for (const object of group) {
        const key = this.#keyOf(object)
        if (this.#objects.has(key)) this.#clashed = true
        else this.#objects.set(key, object)
      }
    })
  }
}
