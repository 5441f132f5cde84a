// What a metric is here: a name by the conventions of Prometheus, help, its labels with what bounds their values, and how it
// is read out of the facts of one scrape. The list of all of them is families.ts, docs/metrics.md is made of it.
import type { Histogram } from '../../lib/histogram.js'
import type { Facts } from './facts.js'

export interface Sample {
  readonly labels?: Readonly<Record<string, string>>
  readonly value: number
}

interface Described {
  /** With the unit in base units, `_total` for counters. */
  readonly name: string
  /** One sentence. */
  readonly help: string
}

export type Family = Described &
  (
    | {
        readonly type: 'counter' | 'gauge'
        /** By name of the label: which values there are, and why they are few. */
        readonly labels?: Readonly<Record<string, string>>
        /** A number where there are no labels; undefined or nothing: it does not apply to this host. */
        read(facts: Facts): number | undefined | readonly Sample[]
      }
    | { readonly type: 'histogram'; read(facts: Facts): Histogram }
  )

/** A section of docs/metrics.md. */
export interface FamilyGroup {
  readonly title: string
  readonly about?: string
  readonly families: readonly Family[]
}

/** One sample for each entry of a record, under that label. */
export function byLabel(
  label: string,
  values: Readonly<Record<string, number | undefined>>,
): readonly Sample[] {
  return Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [{ labels: { [label]: name }, value }],
  )
}

export const flag = (truth: boolean): number => (truth ? 1 : 0)
