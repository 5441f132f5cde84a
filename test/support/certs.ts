// A throw-away CA and certificates signed by it, made by openssl.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Certificate {
  readonly cert: string
  readonly key: string
}

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

export function opensslMissing(): string | undefined {
  try {
    openssl('version')
    return undefined
  } catch {
    return 'no openssl in PATH: apt-get install openssl'
  }
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export function makeCa(dir: string, name: string): Certificate {
  const ca = { cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) }
  openssl('req', '-x509', ...newKey, '-keyout', ca.key, '-out', ca.cert, '-subj', `/CN=${name}`, '-days', '2')
  return ca
}

/** For servers and clients; `names`: "IP:127.0.0.1,DNS:localhost". No common name: etcd takes that of a client for a user, and its gateway then refuses. */
export function makeCertificate(dir: string, ca: Certificate, name: string, names: string): Certificate {
  const made = { cert: join(dir, `${name}.crt`), key: join(dir, `${name}.key`) }
  const request = join(dir, `${name}.csr`)
  const extensions = join(dir, `${name}.ext`)
  writeFileSync(extensions, `subjectAltName=${names}\nextendedKeyUsage=serverAuth,clientAuth\n`)
  openssl('req', ...newKey, '-keyout', made.key, '-out', request, '-subj', `/O=${name}`)
  openssl(
    'x509',
    '-req',
    '-in',
    request,
    '-CA',
    ca.cert,
    '-CAkey',
    ca.key,
    '-CAcreateserial',
    '-days',
    '2',
    '-extfile',
    extensions,
    '-out',
    made.cert,
  )
  return made
}
