// The BGP speaker beside warrend, where the cluster needs one: does it answer on its socket, with the API that we speak, and is it
// old enough to have holes that peers can use. `gobgp --unix ... global`, `gobgpd --version`.
import { codeOf, hasCode } from '../../../lib/errors.js'
import { exec } from '../../../lib/exec.js'
import { gobgpClient } from '../../../lib/gobgp/client.js'
import { bad, type Check, type Finding, ok, orOk, warn } from '../check.js'

export interface GobgpdFacts {
  readonly socket: string
  /** Why it cannot be used; undefined: it answers. */
  readonly failure: { readonly code: string; readonly message: string } | undefined
  /** "3.10.0"; undefined: there is no program of that name in the PATH. */
  readonly version: string | undefined
}

/** Malformed messages of a peer end older ones: CVE-2023-46565, CVE-2025-43970 to 43973. */
const sound = [3, 35] as const

export function judgeGobgpd({ socket, failure, version }: GobgpdFacts): readonly Finding[] {
  const found: Finding[] = []
  if (failure !== undefined)
    found.push(
      bad(
        'GOBGPD_DOWN',
        `gobgpd cannot be used on ${socket}: ${failure.message}; routes stay as they are, changes wait`,
        {
          fix:
            failure.code === 'GOBGP_UNSUPPORTED'
              ? 'install GoBGP 3'
              : 'systemctl status warren-gobgpd; gobgp.socket in warrend.yaml',
        },
      ),
    )
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number)
  if (version !== undefined && (major < sound[0] || (major === sound[0] && minor < sound[1])))
    found.push(
      warn(
        'GOBGPD_OLD',
        `gobgpd ${version} is older than ${sound.join('.')}: a peer can end it with a malformed message (CVE-2025-43970 to 43973), unless the distribution mended it`,
        {
          fix: 'install a newer gobgpd; let TCP 179 in from peers alone',
        },
      ),
    )
  return orOk(found, `gobgpd ${version ?? ''} answers`)
}

async function versionOf(signal: AbortSignal): Promise<string | undefined> {
  try {
    const { stdout } = await exec(['gobgpd', '--version'], { timeout: 800, signal })
    return /(\d+\.\d+(\.\d+)?)/.exec(stdout)?.[1]
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  }
}

export const gobgpdCheck: Check = {
  id: 'gobgpd',
  title: 'gobgpd',
  async run({ config, daemon, signal }) {
    const spec = daemon?.cluster?.spec
    if (spec?.backend.type !== 'bgp' && spec?.bgp === undefined) return [ok('this cluster speaks no BGP')]
    const { socket } = config.gobgp
    const client = gobgpClient({ socket, timeoutMs: 800 })
    let failure: GobgpdFacts['failure']
    try {
      await client.check()
    } catch (error) {
      failure = { code: codeOf(error), message: error instanceof Error ? error.message : String(error) }
    } finally {
      client.close()
    }
    return judgeGobgpd({ socket, failure, version: await versionOf(signal) })
  },
}
