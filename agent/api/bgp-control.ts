// What the API and the CLI see of BGP.
import { WarrenError } from '../../lib/errors.js'
import { type BgpFacts, noBgpFacts } from '../model/bgp-facts.js'
import type { DesiredState } from '../model/desired.js'
import { bgpRoutes, bgpView } from './bgp-view.js'
import type { Control } from './control.js'

export interface BgpControlParts {
  desired(): DesiredState | undefined
  /** What this host knows of BGP is brought up to date. */
  bgpRefresh(): Promise<void>
  bgpFacts(): BgpFacts | undefined
}

export function createBgpControl(parts: BgpControlParts): Pick<Control, 'bgp' | 'bgpRoutes'> {
  function seen() {
    const desired = parts.desired()
    const state = desired?.bgp
    if (desired === undefined || state === undefined)
      throw new WarrenError('This host does not speak BGP', {
        code: 'NOT_FOUND',
        hint: 'backend: {type: bgp} in the Cluster object; warren status shows the backend in force',
      })
    return { facts: parts.bgpFacts() ?? noBgpFacts, desired, state }
  }
  return {
    async bgp() {
      seen()
      await parts.bgpRefresh()
      return bgpView(seen())
    },
    bgpRoutes: async within => bgpRoutes(seen(), within),
  }
}
