// Random sets of Services and what each should answer, by rules of its own: the model's, said a second time.

import type { Random } from './random.js'
import { type FlowService, flowService } from './service-flows-model.js'

export interface WalkService {
  readonly service: FlowService
  /** Rows about it; none where it has session affinity. */
  readonly rows: readonly string[]
}

const names = ['w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w7']
const pods = ['a1', 'a2', 'b1'] as const
const states = ['', '', '', ':leaving', ':down'] as const

type Pod = (typeof pods)[number]

interface Endpoint {
  readonly at: Pod
  readonly state: (typeof states)[number]
}

/** Ready ones, else those that serve while they leave. */
function chosen(all: readonly Endpoint[]): Pod[] {
  const ready = all.filter(({ state }) => state === '')
  const usable = ready.length > 0 ? ready : all.filter(({ state }) => state === ':leaving')
  return usable.map(({ at }) => at)
}

/** Answer of an entry point to somebody on A or to whom A serves; `mark`: how backends see them. */
function answerOf(all: readonly Endpoint[], local: boolean, mark: string): string {
  const everywhere = chosen(all)
  const found = local ? chosen(all.filter(({ at }) => at.startsWith('a'))) : everywhere
  if (found.length > 0) return found.map(at => `${at}${mark}`).join(' ')
  return everywhere.length > 0 ? 'dropped' : 'refused'
}

function serviceOf(name: string, index: number, random: Random): WalkService {
  const maybe = (percent: number): boolean => random.below(100) < percent
  const type = random.pick(['ClusterIP', 'NodePort', 'LoadBalancer'] as const)
  const endpoints = pods.filter(() => maybe(60)).map((at): Endpoint => ({ at, state: random.pick(states) }))
  const externalLocal = type !== 'ClusterIP' && maybe(40)
  const internalLocal = maybe(30)
  const affinity = maybe(5)
  const external = maybe(50)
  // Several numbers each, so that addresses and ports change; a value that was given up is nobody's for a minute.
  const service = flowService(name, 100 + 4 * index + random.below(4), {
    type,
    port: random.pick([80, 8080]),
    endpoints: endpoints.map(({ at, state }) => `${at}${state}`).join(' '),
    ...(external ? { x: 60 + index } : {}),
    ...(maybe(50) ? { lb: 80 + index } : {}),
    spec: {
      ...(externalLocal ? { externalTrafficPolicy: 'Local' } : {}),
      ...(internalLocal ? { internalTrafficPolicy: 'Local' } : {}),
      ...(affinity
        ? {
            sessionAffinity: 'ClientIP',
            sessionAffinityConfig: { clientIP: { timeoutSeconds: random.pick([10, 20]) } },
          }
        : {}),
    },
  })
  const outside = answerOf(endpoints, externalLocal, externalLocal ? '' : '@A')
  const rows = [
    `ac | ${name} | ${answerOf(endpoints, internalLocal, '')}`,
    `ac | ${name}:81 | refused`,
    ...(type === 'ClusterIP' ? [] : [`ext | ${name}@A | ${outside}`]),
    ...(external
      ? [`ext | ${name}+x | ${outside}`, `ac | ${name}+x | ${answerOf(endpoints, false, '')}`]
      : []),
    ...(type === 'LoadBalancer' && service.lb !== undefined ? [`ext | ${name}+lb | ${outside}`] : []),
  ]
  return { service, rows: affinity ? [] : rows }
}

/** From none to all of eight Services. */
export function randomServices(random: Random): WalkService[] {
  const percent = random.pick([0, 40, 60, 80, 100])
  return names.flatMap((name, index) => (random.below(100) < percent ? [serviceOf(name, index, random)] : []))
}
