// From facts to the text that Prometheus reads. prom-client has the format, its escaping and its checks; it is loaded with the
// first scrape. Its metrics hold nothing between two scrapes: collect() puts in what the facts say.
import type * as Prom from 'prom-client'
import type { Histogram as Counts } from '../../lib/histogram.js'
import type { Facts } from './facts.js'
import type { Family, Sample } from './family.js'

export interface Exposition {
  readonly contentType: string
  /** One at a time. */
  render(facts: Facts): Promise<string>
}

function samplesOf(read: number | undefined | readonly Sample[]): readonly Sample[] {
  if (read === undefined) return []
  return typeof read === 'number' ? [{ value: read }] : read
}

/** Buckets as Prometheus wants them: each counts what is below, too. */
function bucketSamples(name: string, { bounds, buckets, count, sum }: Counts) {
  let below = 0
  const each = bounds.map((le, i) => {
    below += buckets[i] ?? 0
    return { metricName: `${name}_bucket`, labels: { le }, value: below }
  })
  return [
    ...each,
    { metricName: `${name}_bucket`, labels: { le: '+Inf' }, value: count },
    { metricName: `${name}_sum`, labels: {}, value: sum },
    { metricName: `${name}_count`, labels: {}, value: count },
  ]
}

export async function createExposition(families: readonly Family[]): Promise<Exposition> {
  const { Counter, Gauge, Histogram, Registry }: typeof Prom = await import('prom-client')
  const registry = new Registry()
  let facts: Facts | undefined

  /** prom-client counts observations itself; ours are counted already. */
  class Counted extends Histogram {
    readonly #family: Extract<Family, { type: 'histogram' }>

    constructor(family: Extract<Family, { type: 'histogram' }>) {
      super({ name: family.name, help: family.help, registers: [registry] })
      this.#family = family
    }

    override async get(): ReturnType<Prom.Histogram['get']> {
      const { name, help, read } = this.#family
      const values = facts === undefined ? [] : bucketSamples(name, read(facts))
      const metric = { name, help, type: 'histogram', values, aggregator: 'sum' }
      return metric as unknown as Awaited<ReturnType<Prom.Histogram['get']>>
    }

    /** What the registry asks where there is one. */
    getForPromString(): ReturnType<Prom.Histogram['get']> {
      return this.get()
    }
  }

  for (const family of families) {
    if (family.type === 'histogram') {
      new Counted(family)
      continue
    }
    const { name, help, labels = {}, read } = family
    const common = { name, help, labelNames: Object.keys(labels), registers: [registry] }
    const samples = (): readonly Sample[] => (facts === undefined ? [] : samplesOf(read(facts)))
    if (family.type === 'counter')
      new Counter({
        ...common,
        collect() {
          this.reset()
          if (common.labelNames.length === 0) this.remove()
          for (const { labels: own = {}, value } of samples()) this.inc(own, value)
        },
      })
    else
      new Gauge({
        ...common,
        collect() {
          this.reset()
          if (common.labelNames.length === 0) this.remove()
          for (const { labels: own = {}, value } of samples()) this.set(own, value)
        },
      })
  }
  return {
    contentType: registry.contentType,
    async render(now) {
      facts = now
      try {
        return await registry.metrics()
      } finally {
        facts = undefined
      }
    },
  }
}
