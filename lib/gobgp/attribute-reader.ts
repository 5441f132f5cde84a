// Path attributes (RFC 4271 5.1, 4456, 4760) out of the bytes of gobgpd's answers: each is a google.protobuf.Any, field numbers
// are those of proto.ts. Errors: RangeError of a message that is cut short.
import { type Fields, listed } from './fields.js'

export interface Attributes {
  nextHop?: string
  localPref?: number
  med?: number
  origin?: number
  asPath?: readonly number[]
  communities?: readonly number[]
  originatorId?: string
  clusterList?: readonly string[]
}

/**
 * What the attribute of that name says, `inner` standing at its content; `deeper` is for a message within. Unknown names say
 * nothing.
 */
export function readAttribute(name: string, inner: Fields, deeper: Fields, into: Attributes): void {
  switch (name) {
    case 'OriginAttribute':
      into.origin = 0
      while (inner.next()) if (inner.field === 1) into.origin = inner.value
      break
    case 'NextHopAttribute':
      into.nextHop = ''
      while (inner.next()) if (inner.field === 1) into.nextHop = inner.text()
      break
    case 'MpReachNLRIAttribute': {
      // The first is the global one; a link-local one may follow (RFC 2545).
      let first: string | undefined
      while (inner.next()) if (inner.field === 2) first ??= inner.text()
      if (first !== undefined) into.nextHop = first
      break
    }
    case 'LocalPrefAttribute':
      into.localPref = 0
      while (inner.next()) if (inner.field === 1) into.localPref = inner.value
      break
    case 'MultiExitDiscAttribute':
      into.med = 0
      while (inner.next()) if (inner.field === 1) into.med = inner.value
      break
    case 'AsPathAttribute': {
      const numbers: number[] = []
      while (inner.next())
        if (inner.field === 1) {
          deeper.over(inner.from, inner.to)
          while (deeper.next()) if (deeper.field === 2) numbers.push(...listed(deeper))
        }
      into.asPath = numbers
      break
    }
    case 'CommunitiesAttribute': {
      const numbers: number[] = []
      while (inner.next()) if (inner.field === 1) numbers.push(...listed(inner))
      into.communities = numbers
      break
    }
    case 'OriginatorIdAttribute':
      into.originatorId = ''
      while (inner.next()) if (inner.field === 1) into.originatorId = inner.text()
      break
    case 'ClusterListAttribute': {
      const ids: string[] = []
      while (inner.next()) if (inner.field === 1) ids.push(inner.text())
      into.clusterList = ids
      break
    }
  }
}
