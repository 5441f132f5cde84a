// warrend itself: does it answer, has it done what the model wants, is a table degraded. `warren status` has all of it.
import type { Status } from '../../api/control.js'
import { bad, type Check, type Finding, orOk, warn } from '../check.js'

export function judgeDaemon(status: Status | undefined, error: string | undefined): readonly Finding[] {
  if (status === undefined)
    return [
      warn(
        'NO_DAEMON',
        `warrend does not answer, so only the host itself is looked at: ${error ?? 'no socket'}`,
        {
          fix: 'systemctl status warrend; journalctl -u warrend',
        },
      ),
    ]
  const found: Finding[] = status.tables
    .filter(({ state }) => state === 'degraded')
    .map(({ name, error: why }) =>
      bad('TABLE_DEGRADED', `table "${name}" cannot be written: ${why ?? 'see the log'}`, {
        about: name,
        fix: `warren show desired ${name}; warren events`,
      }),
    )
  if (status.hold !== undefined)
    found.push(warn('HOLD', `nothing is written: ${status.hold}`, { fix: 'warren status' }))
  for (const { name, inSync, error: why, since } of status.sources)
    if (!inSync)
      found.push(
        bad(
          'SOURCE_LOST',
          `source "${name}" is not in sync since ${since}${why === undefined ? '' : `: ${why}`}`,
          { about: name, fix: 'see the check "store"' },
        ),
      )
  for (const { level, about, code, message, hint } of status.problems)
    found.push(
      (level === 'error' ? bad : warn)(code, message, {
        about,
        ...(hint === undefined ? {} : { fix: hint }),
      }),
    )
  if (found.length === 0 && !status.converged)
    found.push(
      warn('NOT_CONVERGED', 'the kernel is not yet as the model wants it', {
        fix: 'warren wait --converged; warren plan',
      }),
    )
  return orOk(found, `${status.version} on node ${status.node}: converged, ${status.peers.length} peers`)
}

export const daemonCheck: Check = {
  id: 'daemon',
  title: 'warrend',
  run: async ({ daemon, daemonError }) => judgeDaemon(daemon?.status, daemonError),
}
