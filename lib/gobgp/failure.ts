// gRPC's status codes and gobgpd's words as WarrenErrors. GoBGP 3 gives nearly every refusal as UNKNOWN with a text, so
// the texts are matched here, and only here (pkg/server/server.go and internal/pkg/table/policy.go of 3.10 and 3.37).
import { WarrenError } from '../errors.js'
import type { GobgpCode } from './types.js'

const notStarted = /hasn't started yet/
const exists = /can't overwrite the existing peer|already started|already defined/
const notFound = /doesn't exist|not found|can't find|no such|not exist|can't delete a peer configuration/
/** Of a path that lacks something. */
const incomplete = /^(nlri|nexthop) not found/
const portTaken = /address already in use/

/** `status`: google.golang.org/grpc/codes; `words`: what gobgpd said. */
export function gobgpFailure(what: string, name: string, status: number, words: string): WarrenError {
  const fail = (code: GobgpCode, text: string, hint?: string): WarrenError =>
    new WarrenError(`Cannot ${what} at ${name}: ${text}`, { code, ...(hint === undefined ? {} : { hint }) })
  switch (status) {
    case 1: // CANCELLED
    case 14: // UNAVAILABLE
      return fail('GOBGP_UNREACHABLE', 'nobody answers', 'is gobgpd running? see its journal')
    case 4: // DEADLINE_EXCEEDED
      return fail('GOBGP_TIMEOUT', 'no answer in time', 'gobgpd hangs or is stopped: restart it')
    case 12: // UNIMPLEMENTED
      return fail(
        'GOBGP_UNSUPPORTED',
        'it does not speak the API of GoBGP 3',
        'GoBGP 4 renamed it: install gobgpd 3.10 or newer, below 4 (Debian: apt-get install gobgpd)',
      )
    case 13: // INTERNAL: the stream broke, or an answer cannot be read
      if (/RST_STREAM|ECONNRESET|stream/i.test(words))
        return fail('GOBGP_UNREACHABLE', 'the connection broke', 'is gobgpd running? see its journal')
      return fail('GOBGP_REFUSED', words)
    case 5:
      return fail('GOBGP_NOT_FOUND', words)
    case 6:
      return fail('GOBGP_EXISTS', words)
    default:
      if (notStarted.test(words)) return fail('GOBGP_NOT_STARTED', 'it has no AS and router id yet')
      if (portTaken.test(words))
        return fail('GOBGP_PORT_TAKEN', words, 'which process listens there: ss -tlnp')
      if (exists.test(words)) return fail('GOBGP_EXISTS', words)
      if (notFound.test(words) && !incomplete.test(words)) return fail('GOBGP_NOT_FOUND', words)
      return fail('GOBGP_REFUSED', words)
  }
}
