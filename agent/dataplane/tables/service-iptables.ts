// Services in iptables mode, in the variant that the host uses (iptables-nft or iptables-legacy): an object for each entry
// point, and a base per family that holds the jumps and what all have in common. Ours is every chain WRN-SVC-*;
// `iptables-save -t nat`, `iptables-save -t filter`. observe() reads both tables, where the kernel says that there is
// something of ours, and each rule tells whose it is; a change rewrites the chains that it touches, all of them in one
// iptables-restore --noflush per family and table. Established connections do not pass table nat: they go on.
import { asError, WarrenError } from '../../../lib/errors.js'
import type { IptablesText } from '../../../lib/iptables/restore.js'
import type { IptablesTableName } from '../../../lib/iptables/run.js'
import type { IptablesPlace, IptablesVariant } from '../../../lib/iptables/types.js'
import type { Family } from '../../../lib/netlink/types.js'
import type { OpResult, Table, TableOp } from '../../../lib/reconcile/table.js'
import type { ServiceFamilyBase } from '../../model/service-base.js'
import { entryKey, type ServiceEntry } from '../../model/service-entry.js'
import { renderBase } from './service-iptables-base.js'
import { formatObject } from './service-iptables-format.js'
import { ObservedEntry, observedBase, type ServiceIptablesStray } from './service-iptables-observed.js'
import { renderEntry } from './service-iptables-render.js'
import { scanTable } from './service-iptables-scan.js'
import {
  emptyTable,
  hasBase,
  isBase,
  isOwned,
  TableDraft,
  type TableState,
} from './service-iptables-state.js'
import { type Words, wordsOf } from './service-iptables-tree.js'

export type { ServiceIptablesStray } from './service-iptables-observed.js'

export type ServiceIptablesObject = ServiceEntry | ServiceFamilyBase | ServiceIptablesStray

export interface ServiceIptablesTable extends Table<ServiceIptablesObject> {
  /** What is wrong with the host's iptables, as of the last look: both variants are in use, or a program is missing. */
  readonly problem: string | undefined
}

type Op = TableOp<ServiceIptablesObject>

const families: readonly Family[] = ['inet', 'inet6']
const variants: readonly IptablesVariant[] = ['nft', 'legacy']
const tables: readonly IptablesTableName[] = ['nat', 'filter']

/** One family of the variant in use. */
interface FamilyState {
  readonly words: Words
  readonly nat: TableState
  readonly filter: TableState
}

const objectOf = (op: Op): ServiceIptablesObject => (op.verb === 'remove' ? op.observed : op.desired)

function isStray(state: TableState): boolean {
  const { dirty, standing, leading, owned } = state
  return dirty.size > 0 || (standing.size > 0 && !hasBase(state) && leading.length === 0 && owned.size === 0)
}

class ServiceIptables implements ServiceIptablesTable {
  readonly name = 'service-iptables'
  problem: string | undefined
  readonly #text: IptablesText
  readonly #states = new Map<Family, FamilyState>()
  /** Undefined: nothing of ours stood at the last look, and the host has not been asked. */
  #variant: IptablesVariant | undefined

  constructor(text: IptablesText) {
    this.#text = text
    for (const family of families) this.#states.set(family, this.#emptyState(family))
  }

  #emptyState(family: Family): FamilyState {
    const words = wordsOf(this.#text.prefix, family)
    return { words, nat: emptyTable('nat'), filter: emptyTable('filter') }
  }

  key(object: ServiceIptablesObject): string {
    if (object.kind === 'base') return `base ${object.family}`
    if (object.kind === 'stray') return `stray ${object.variant} ${object.family}`
    return entryKey(object)
  }

  equal(desired: ServiceIptablesObject): boolean {
    const state = this.#states.get(desired.family)
    if (state === undefined || desired.kind === 'stray') return false
    if (desired.kind === 'base') {
      const wanted = renderBase(desired, state.words)
      return tables.every(table => isBase(state[table], wanted[table]))
    }
    const key = entryKey(desired)
    const pieces = renderEntry(desired, state.words)
    return tables.every(table =>
      isOwned(
        state[table],
        key,
        pieces.filter(piece => piece.table === table),
      ),
    )
  }

  async observe(): Promise<readonly ServiceIptablesObject[]> {
    const texts = new Map<string, string>()
    for (const variant of variants)
      for (const family of families)
        for (const table of tables) {
          const text = await this.#text.read({ variant, family }, table)
          if (text !== undefined) texts.set(`${variant} ${family} ${table}`, text)
        }
    this.#variant = undefined
    for (const family of families) this.#states.set(family, this.#emptyState(family))
    if (texts.size === 0) return []
    await this.#choose()
    const found: ServiceIptablesObject[] = []
    for (const variant of variants)
      for (const family of families) {
        const [nat, filter] = tables.map(table => texts.get(`${variant} ${family} ${table}`))
        if (nat === undefined && filter === undefined) continue
        if (variant !== this.#variant) found.push({ kind: 'stray', variant, family })
        else found.push(...this.#scan({ variant, family }, nat ?? '', filter ?? ''))
      }
    return found
  }

  async #choose(): Promise<void> {
    const { variant, problem } = await this.#text.choose()
    this.#variant = variant
    this.problem = problem
  }

  #scan(place: IptablesPlace, natText: string, filterText: string): ServiceIptablesObject[] {
    const { family } = place
    const words = wordsOf(this.#text.prefix, family)
    const nat = scanTable(natText, 'nat', words)
    const filter = scanTable(filterText, 'filter', words)
    this.#states.set(family, { words, nat, filter })
    const found: ServiceIptablesObject[] = []
    if ([nat, filter].some(state => hasBase(state) || state.leading.length > 0))
      found.push(observedBase(family))
    for (const key of new Set([...nat.owned.keys(), ...filter.owned.keys()]))
      found.push(new ObservedEntry(key, family, nat, filter))
    if (isStray(nat) || isStray(filter)) found.push({ kind: 'stray', ...place })
    return found
  }

  async apply(ops: readonly Op[]): Promise<readonly OpResult[]> {
    const results: OpResult[] = new Array(ops.length).fill(undefined)
    const all = [...ops.keys()]
    try {
      if (this.#variant === undefined) await this.#choose()
    } catch (error) {
      return results.fill(asError(error))
    }
    for (const family of families) {
      const own = all.filter(index => ops[index] !== undefined && objectOf(ops[index]).family === family)
      const elsewhere = own.filter(index => this.#isElsewhere(ops[index]))
      for (const index of elsewhere) results[index] = await this.#clear(ops[index])
      const rest = own.filter(index => !elsewhere.includes(index))
      if (rest.length === 0) continue
      if (this.#variant === undefined) {
        const error = new WarrenError(this.problem ?? 'Cannot use iptables', {
          code: 'ENOENT',
          hint: 'install iptables, or set proxyMode to nftables',
        })
        for (const index of rest) results[index] = error
      } else await this.#write({ variant: this.#variant, family }, ops, rest, results)
    }
    return results
  }

  #isElsewhere(op: Op | undefined): boolean {
    if (op === undefined) return false
    const object = objectOf(op)
    return object.kind === 'stray' && object.variant !== this.#variant
  }

  async #clear(op: Op | undefined): Promise<OpResult> {
    const object = op === undefined ? undefined : objectOf(op)
    if (object?.kind !== 'stray') return undefined
    try {
      for (const table of tables) await this.#text.remove(object, table)
      return undefined
    } catch (error) {
      return asError(error)
    }
  }

  /** An op that iptables refuses is left out, and the others are tried again. */
  async #write(
    place: IptablesPlace,
    ops: readonly Op[],
    indices: readonly number[],
    results: OpResult[],
  ): Promise<void> {
    const state = this.#states.get(place.family)
    if (state === undefined) return
    const drafts = this.#draft(state, ops, indices)
    try {
      for (const table of tables) {
        if (drafts[table].isEmpty) {
          await this.#empty(place, table)
          continue
        }
        const draft = drafts[table].finish()
        if (draft === undefined) continue
        await this.#text.restore(place, table, draft.text.lines).catch((error: unknown) => {
          throw new Refusal(asError(error), draft.text)
        })
        draft.written()
      }
    } catch (error) {
      const refusal = error instanceof Refusal ? error : undefined
      const cause = refusal?.error ?? asError(error)
      const culprit = refusal?.owner
      const guilty = indices.filter(index => {
        const op = ops[index]
        return culprit !== undefined && op !== undefined && this.key(objectOf(op)) === culprit
      })
      // What is no fault of a rule (the lock is held, no such program) would meet the others too.
      if (cause.code !== 'IPTABLES' || indices.length === 1) {
        for (const index of indices) results[index] = cause
      } else if (guilty.length > 0) {
        for (const index of guilty) results[index] = cause
        const rest = indices.filter(index => !guilty.includes(index))
        if (rest.length > 0) await this.#write(place, ops, rest, results)
      } else {
        const middle = indices.length >> 1
        await this.#write(place, ops, indices.slice(0, middle), results)
        await this.#write(place, ops, indices.slice(middle), results)
      }
    }
  }

  /** Takes away whatever of ours may stand in the table, and what iptables-nft made for it. */
  async #empty(place: IptablesPlace, table: IptablesTableName): Promise<void> {
    const state = this.#states.get(place.family)
    if (state === undefined || state[table].standing.size + state[table].leading.length === 0) return
    await this.#text.remove(place, table)
    this.#states.set(place.family, { ...state, [table]: emptyTable(table) })
  }

  #draft(
    state: FamilyState,
    ops: readonly Op[],
    indices: readonly number[],
  ): Readonly<Record<IptablesTableName, TableDraft>> {
    const { words } = state
    const drafts = { nat: new TableDraft(state.nat, words), filter: new TableDraft(state.filter, words) }
    for (const index of indices) {
      const op = ops[index]
      if (op === undefined) continue
      const object = objectOf(op)
      // What another hand put into our chains goes with whatever is written.
      if (object.kind === 'stray') continue
      if (object.kind === 'base') {
        const rules = op.verb === 'remove' ? undefined : renderBase(object, words)
        for (const table of tables) drafts[table].setBase(rules?.[table])
        continue
      }
      const pieces = op.verb === 'remove' ? [] : renderEntry(object, words)
      for (const table of tables)
        drafts[table].set(
          entryKey(object),
          pieces.filter(piece => piece.table === table),
        )
    }
    return drafts
  }

  format(op: Op): string {
    const object = objectOf(op)
    const words = this.#states.get(object.family)?.words ?? wordsOf(this.#text.prefix, object.family)
    return formatObject(op, words, this.#variant)
  }
}

/** What iptables-restore refused, and whose line it named. */
class Refusal extends Error {
  readonly error: WarrenError
  readonly owner: string | undefined

  constructor(
    error: WarrenError,
    {
      lines,
      owners,
    }: { readonly lines: readonly string[]; readonly owners: readonly (string | undefined)[] },
  ) {
    super(error.message)
    this.error = error
    const { cause } = error
    const line = typeof cause === 'object' && cause !== null && 'line' in cause ? Number(cause.line) : 0
    // Line 1 is "*nat".
    this.owner = lines[line - 2] === undefined ? undefined : owners[line - 2]
  }
}

/** Services in the host's iptables; nothing runs, and nothing is written, as long as none are wanted. */
export function serviceIptablesTable(text: IptablesText): ServiceIptablesTable {
  return new ServiceIptables(text)
}
