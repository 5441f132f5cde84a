// The endpoints that somebody asks about, indexed for that question alone: the agent's own index is compute's.
import { Selection } from '../compute/services/selection.js'
import { createRoutedPods, isPort } from '../model/routed-pods.js'
import type { Snapshot } from '../model/snapshot.js'

/** Those entries of a map that are wanted. */
export function chosen<T>(
  all: ReadonlyMap<string, T>,
  wanted: (name: string, each: T) => boolean,
): ReadonlyMap<string, T> {
  const found = new Map<string, T>()
  all.forEach((each, name) => {
    if (wanted(name, each)) found.set(name, each)
  })
  return found
}

/** `only`: for Services of that namespace, in front of those Pods and Endpoints. */
export function selectEndpoints(
  snapshot: Snapshot,
  only: { readonly namespace?: string | undefined; readonly service?: string; readonly from?: string } = {},
): Selection {
  const { namespace, service, from } = only
  const { services, endpoints } = snapshot
  const pods = new Map([...snapshot.pods, ...createRoutedPods()(snapshot)])
  const selection = new Selection()
  selection.update(
    {
      services: chosen(services, (name, { metadata }) =>
        service === undefined
          ? namespace === undefined || metadata.namespace === namespace
          : name === service,
      ),
      endpoints: chosen(endpoints, (name, { metadata, spec }) => {
        if (namespace !== undefined && metadata.namespace !== namespace) return false
        if (from !== undefined) return from === `endpoints/${name}`
        return service === undefined || service === `${metadata.namespace}/${spec.service}`
      }),
      pods: chosen(pods, (name, pod) => {
        if (namespace !== undefined && pod.metadata.namespace !== namespace) return false
        return from === undefined || from === (isPort(pod) ? name : `pod/${name}`)
      }),
    },
    () => undefined,
  )
  return selection
}
