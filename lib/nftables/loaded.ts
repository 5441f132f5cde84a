// What a load has just put into a table that it made: whoever lists its sets next need not ask the kernel, as long as no
// other transaction came since (`nft monitor` shows the generation). Each set is told once: who looks again wants to see.
import { setAttribute, setFlag, type TableImage } from './image.js'
import type { NftElement, NftSetRef, NftTableName } from './types.js'
import { u32Of } from './wire.js'

/** Sets that change by themselves (NFT_SET_TIMEOUT, NFT_SET_EVAL), or that the kernel may list in other pieces. */
const others = setFlag.interval | 0x10 | 0x20

const nameOf = ({ family, name }: NftTableName): string => `${family} ${name}`

export class LoadedSets {
  #generation = 0
  readonly #sets = new Map<string, readonly NftElement[]>()

  /** The table is new in the transaction that followed on `before`, with no other in between. */
  loaded(table: TableImage, initial: readonly NftElement[], before: number): void {
    if (before !== this.#generation) this.#sets.clear()
    this.#generation = before + 1
    const elements = new Map<string, NftElement[]>()
    for (const set of table.sets)
      if (!set.anonymous && (u32Of(set.attributes.get(setAttribute.flags)) & others) === 0)
        elements.set(set.name, [])
    for (const element of initial) elements.get(element.set.set)?.push(element)
    for (const [set, all] of elements) this.#sets.set(`${nameOf(table)} ${set}`, all)
  }

  /** Elements were written: nothing known here is true any more. */
  forget(): void {
    this.#sets.clear()
  }

  /** The elements of a set; undefined when they have to be listed. `generation`: asks for that of now. */
  async take(set: NftSetRef, generation: () => Promise<number>): Promise<readonly NftElement[] | undefined> {
    const key = `${set.family} ${set.table} ${set.set}`
    const known = this.#sets.get(key)
    if (known === undefined) return undefined
    this.#sets.delete(key)
    if ((await generation()) === this.#generation) return known
    this.#sets.clear()
    return undefined
  }
}
