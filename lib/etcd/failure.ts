// What went wrong between us and etcd, as one of our codes and a sentence that says what to do. The only place that
// looks at etcd's and OpenSSL's texts.
import { codeOf, WarrenError } from '../errors.js'

/** One endpoint's answer that is no result. */
export interface Failure {
  readonly endpoint: string
  readonly code: 'UNAVAILABLE' | 'UNAUTHENTICATED' | 'COMPACTED' | 'LEASE' | 'EINVAL'
  readonly cause: string
  readonly hint: string
  /** Another endpoint may do better. */
  readonly elsewhere: boolean
  /** The request may have been carried out all the same. */
  readonly ambiguous: boolean
  /** An idle connection was found dead: a new one to the same endpoint may do. */
  readonly staleConnection?: boolean
  /** The token is old: authenticate again. */
  readonly staleToken?: boolean
  readonly error?: unknown
}

type Known = readonly [code: Failure['code'], cause: string, hint: string]

const untrusted: Known = [
  'UNAUTHENTICATED',
  'its certificate is not signed by the CA in tls.ca',
  'tls.ca must be the CA that signed the certificate of etcd',
]
const clientRefused: Known = [
  'UNAUTHENTICATED',
  'it refuses our client certificate, or demands one',
  'set tls.cert and tls.key to a client certificate signed by the CA that etcd trusts (its --trusted-ca-file)',
]

const bySystemCode: Readonly<Record<string, Known>> = {
  ECONNREFUSED: [
    'UNAVAILABLE',
    'connection refused',
    'is etcd running there, with that --listen-client-urls?',
  ],
  ENOTFOUND: ['UNAVAILABLE', 'its name does not resolve', 'correct store.etcd.endpoints, or the resolver'],
  EAI_AGAIN: ['UNAVAILABLE', 'its name does not resolve just now', 'check the resolver, or give an address'],
  EHOSTUNREACH: ['UNAVAILABLE', 'host unreachable', 'check the route and the firewall'],
  ENETUNREACH: ['UNAVAILABLE', 'network unreachable', 'check the route to it'],
  ETIMEDOUT: ['UNAVAILABLE', 'connection timed out', 'check the route and the firewall, and that etcd runs'],
  ECONNRESET: ['UNAVAILABLE', 'connection lost', 'etcd was restarted, or speaks TLS (https://) there'],
  EPIPE: ['UNAVAILABLE', 'connection lost', 'etcd was restarted, or speaks TLS (https://) there'],
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  UNABLE_TO_GET_ISSUER_CERT: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  CERT_SIGNATURE_FAILURE: untrusted,
  CERT_HAS_EXPIRED: [
    'UNAUTHENTICATED',
    'its certificate has expired',
    'renew it, or set the clock of this host',
  ],
  CERT_NOT_YET_VALID: ['UNAUTHENTICATED', 'its certificate is not valid yet', 'set the clock of this host'],
  ERR_TLS_CERT_ALTNAME_INVALID: [
    'UNAUTHENTICATED',
    'its certificate is for another name',
    'use a name or address that the certificate carries as subjectAltName',
  ],
  EPROTO: [
    'UNAVAILABLE',
    'it does not speak TLS',
    'write http:// in store.etcd.endpoints, or give etcd a certificate',
  ],
  ERR_SSL_WRONG_VERSION_NUMBER: [
    'UNAVAILABLE',
    'it does not speak TLS',
    'write http:// in store.etcd.endpoints, or give etcd a certificate',
  ],
}

/** From an error of the socket, TLS or HTTP layer. `sent`: the request may have reached etcd. */
export function connectionFailure(endpoint: string, error: unknown, sent: boolean, reused = false): Failure {
  const system = codeOf(error)
  // Alerts come as ERR_SSL_<version>_ALERT_<name>; after a TLS 1.3 handshake, so also on a request under way.
  const handshake = !sent && endpoint.startsWith('https:') && ['ECONNRESET', 'EPIPE'].includes(system)
  const alert = /ALERT_(\w+)/.exec(system)?.[1]
  const known = alert !== undefined ? clientRefused : bySystemCode[handshake ? 'EPROTO' : system]
  const text = error instanceof Error ? error.message : String(error)
  const [code, cause, hint] = known ?? ['UNAVAILABLE', text, 'check that this is etcd, version 3.4 or newer']
  return {
    endpoint,
    code,
    cause,
    hint,
    elsewhere: true,
    ambiguous: sent && alert === undefined,
    staleConnection: reused,
    error,
  }
}

export function timeoutFailure(endpoint: string, ms: number): Failure {
  const hint =
    'etcd hangs or is stopped, has no quorum, or the network drops packets: etcdctl endpoint status'
  const cause = `no answer for ${ms} ms`
  return { endpoint, code: 'UNAVAILABLE', cause, hint, elsewhere: true, ambiguous: true }
}

/** gRPC codes, as the gateway puts them into its JSON: google.golang.org/grpc/codes. */
const grpc = {
  invalidArgument: 3,
  notFound: 5,
  permissionDenied: 7,
  failedPrecondition: 9,
  outOfRange: 11,
  unauthenticated: 16,
}

/** From an HTTP answer that is not 200, or an error inside a stream. etcd 3.6 dropped the field "error" in favour of "message". */
export function answerFailure(endpoint: string, status: number, body: unknown): Failure {
  const fields = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>
  const said = fields['message'] ?? fields['error']
  const text = typeof said === 'string' ? said : `HTTP status ${status}`
  const code = Number(fields['code'] ?? fields['grpc_code'] ?? -1)
  const base = { endpoint, cause: text, elsewhere: false, ambiguous: false }
  if (code === grpc.outOfRange) return { ...base, code: 'COMPACTED', hint: 'list it again' }
  if (code === grpc.unauthenticated || text.includes('auth: revision')) {
    return { ...base, code: 'UNAUTHENTICATED', hint: 'check store.etcd.user', staleToken: true }
  }
  if (code === grpc.permissionDenied) {
    const hint =
      'grant the user a role for our prefix: etcdctl role grant-permission ROLE readwrite --prefix PREFIX'
    return { ...base, code: 'UNAUTHENTICATED', hint }
  }
  if (/user name is empty|authentication failed|authentication is not enabled/.test(text)) {
    return {
      ...base,
      code: 'UNAUTHENTICATED',
      hint: 'set store.etcd.user to the name and password that etcd knows',
    }
  }
  if (code === grpc.notFound && text.includes('lease'))
    return { ...base, code: 'LEASE', hint: 'take a new lease' }
  if (code === grpc.invalidArgument)
    return { ...base, code: 'EINVAL', hint: 'see the limits of etcd: --max-request-bytes, --max-txn-ops' }
  if (status === 404)
    return {
      ...base,
      code: 'UNAVAILABLE',
      cause: 'it has no /v3 gateway',
      hint: 'etcd 3.4 or newer, with --enable-grpc-gateway',
      elsewhere: true,
    }
  return { ...base, code: 'UNAVAILABLE', hint: 'etcdctl endpoint status', elsewhere: true, ambiguous: true }
}

/** One error out of what every endpoint tried said. */
export function failureError(action: string, failures: readonly Failure[]): WarrenError {
  const worst = failures.find(failure => failure.code !== 'UNAVAILABLE') ?? failures.at(-1)
  const causes = failures.map(failure => `etcd "${failure.endpoint}": ${failure.cause}`)
  return new WarrenError(`Cannot ${action}: ${[...new Set(causes)].join('; ')}`, {
    code: worst?.code ?? 'UNAVAILABLE',
    hint: worst?.hint ?? 'check store.etcd.endpoints',
    cause: worst?.error,
  })
}
