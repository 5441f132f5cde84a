// How a dnsmasq is started, told of new lists and ended: as a daemon of its own in this process's surroundings, or as an
// instance of a unit of systemd (UNIT@ID.service), which puts it into its namespace itself and starts it again when it dies.
// `systemctl list-units 'warren-dnsmasq@*'`.
import { readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { WarrenError } from '../errors.js'
import { exec } from '../exec.js'
import { childArgv } from '../netns/child.js'
import type { Netns } from '../netns/netns.js'
import type { Account } from './files.js'
import { endProcess, hangUp, type ProcessFacts } from './processes.js'

export interface LaunchOptions {
  readonly id: string
  /** Name below /run/netns, and the same opened. */
  readonly name: string
  readonly netns: Netns
  readonly account: Account
  /** Of dnsmasq by itself. */
  readonly argv: readonly [string, ...string[]]
}

export interface Launcher {
  /** May warrend give files to dnsmasq's group? Else who starts it does. */
  readonly givesFiles: boolean
  /** Resolves when its sockets are open and its pid file is written. Errors: of exec; DNSMASQ. */
  start(options: LaunchOptions): Promise<void>
  /** False when it is not there any more. */
  reload(id: string, facts: ProcessFacts): Promise<boolean>
  /** Ends all of them; `starting`: this launcher's own may live on until start. Errors: DNSMASQ. */
  end(id: string, processes: readonly ProcessFacts[], starting: boolean): Promise<void>
  /** Why a process has to be started again by this launcher; undefined: it is one of its own. */
  foreign(id: string, facts: ProcessFacts): string | undefined
  format(id: string, name: string, argv: readonly string[]): string
}

/**
 * ms: more than TimeoutStartSec= of the unit, so that systemd gives up first. One that we gave up before comes up all the same,
 * and the next try ends it and starts anew: on a host that is busy with its boot that went on for ever.
 */
const patienceMs = 70_000

/** The instance whose control group the process is in: "warren-dnsmasq@100"; undefined when it is none of a template's. */
function instanceOf(pid: number): string | undefined {
  try {
    return /\/([\w-]+@\d+)\.service(?:\/|$)/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1]
  } catch {
    return undefined
  }
}

async function systemctl(...args: readonly string[]): Promise<void> {
  await exec(['systemctl', '--quiet', '--no-ask-password', ...args], { timeout: patienceMs })
}

/** Those of a unit by systemd, which would start them again; the others by signals. */
async function endEach(processes: readonly ProcessFacts[]): Promise<void> {
  for (const unit of new Set(processes.map(({ pid }) => instanceOf(pid))))
    if (unit !== undefined) await systemctl('stop', `${unit}.service`)
  // systemd is done with its own by now.
  for (const each of processes) await endProcess(each)
}

/** A daemon in a session of its own. */
export const daemonLauncher: Launcher = {
  givesFiles: true,
  async start({ netns, argv }) {
    await exec(childArgv(netns, argv))
  },
  reload: async (_id, facts) => await hangUp(facts),
  end: async (_id, processes) => await endEach(processes),
  foreign: () => undefined,
  format: (_id, name, argv) => `nsenter --net=/run/netns/${name} ${argv.join(' ')}`,
}

/** `unit`: the template's name without "@.service"; it reads `netns` and `account` in DIRECTORY/ID. */
export function unitLauncher(unit: string, directory: string): Launcher {
  const instance = (id: string): string => `${unit}@${id}.service`
  const isOwn = (id: string, pid: number): boolean => instanceOf(pid) === `${unit}@${id}`

  /** The last words of dnsmasq and systemd about it; empty where there is no journal. */
  async function journal(id: string): Promise<string> {
    const argv = ['journalctl', '-q', '-o', 'cat', '-n', '20', '-p', 'notice', '-u', instance(id)] as const
    const { stdout } = await exec(argv, { timeout: 2000 }).catch(() => ({ stdout: '' }))
    return stdout
      .split('\n')
      .filter(line => /^dnsmasq: /.test(line))
      .slice(-1)
      .join()
  }

  return {
    givesFiles: false,
    async start({ id, name, account }) {
      const path = `${directory}/${id}/netns`
      rmSync(`${path}.new`, { force: true })
      symlinkSync(`/run/netns/${name}`, `${path}.new`)
      renameSync(`${path}.new`, path)
      writeFileSync(`${directory}/${id}/account`, `USER=${account.user}\nGROUP=${account.group}\n`)
      try {
        await systemctl('restart', instance(id))
      } catch (error) {
        const said = await journal(id)
        throw new WarrenError(error instanceof Error ? error.message : String(error), {
          code: 'EXIT',
          cause: { code: 1, stderr: said },
        })
      }
    },
    async reload(id, facts) {
      if (!isOwn(id, facts.pid)) return await hangUp(facts)
      return await systemctl('reload', instance(id)).then(
        () => true,
        () => false,
      )
    },
    async end(id, processes, starting) {
      // One that just waits to be started again has no process.
      if (!starting) await systemctl('stop', instance(id))
      await endEach(processes.filter(({ pid }) => !starting || !isOwn(id, pid)))
    },
    foreign: (id, { pid }) => (isOwn(id, pid) ? undefined : `it does not run in ${instance(id)}`),
    format: id => `systemctl restart ${instance(id)}`,
  }
}
