// A histogram as plain numbers: what the hot path writes, and whoever asks for metrics reads. One observation is a walk over
// some twenty bounds and three additions; nothing is allocated.

export class Histogram {
  /** Upper bounds of the buckets, ascending; what is above the last one is only in `count`. */
  readonly bounds: readonly number[]
  /** Observations of each bucket alone, the one above all bounds last. */
  readonly buckets: Float64Array
  sum = 0
  count = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.buckets = new Float64Array(bounds.length + 1)
  }

  /** `value` in the unit of the bounds; what is not finite or below zero (a clock that was set) counts as zero. */
  observe(value: number): void {
    const seen = value >= 0 && value < Number.POSITIVE_INFINITY ? value : 0
    const { bounds } = this
    let at = 0
    while (at < bounds.length && seen > (bounds[at] as number)) at += 1
    this.buckets[at] = (this.buckets[at] as number) + 1
    this.sum += seen
    this.count += 1
  }
}

/** 1, 2.5 and 5 of each power of ten from 10^`from` on, up to 10^`to`: bounds in seconds. */
export function decades(from: number, to: number): readonly number[] {
  const bounds: number[] = []
  for (let power = from; power < to; power += 1)
    for (const digits of ['1', '2.5', '5']) bounds.push(Number(`${digits}e${power}`))
  bounds.push(Number(`1e${to}`))
  return bounds
}
