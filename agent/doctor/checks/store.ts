// The shared store: every member of etcd by its /health, with the time it takes; or the directory. `etcdctl endpoint health`.
import { accessSync, constants, statSync } from 'node:fs'
import { codeOf } from '../../../lib/errors.js'
import { bad, type Check, type DoctorContext, type Finding, ok, orOk, unknown, warn } from '../check.js'
import { askEtcd, type EtcdAnswer } from '../etcd-http.js'

/** A healthy etcd answers within some 10 ms; warrend's calls end after etcdTimeout, 5 s. */
const slowMs = 150
const deadMs = 1200

export function judgeEtcd(answers: readonly EtcdAnswer[]): readonly Finding[] {
  const found: Finding[] = []
  const dead = answers.filter(({ ms, starved }) => ms === undefined && starved === undefined)
  for (const { endpoint, ms, failure, starved, healthy, reason } of answers) {
    if (starved !== undefined)
      found.push(
        unknown('STARVED', `no answer of etcd at ${endpoint} was seen: ${starved}`, {
          about: endpoint,
          fix: 'look again when the host is less busy',
        }),
      )
    else if (ms === undefined)
      found.push(
        (dead.length === answers.length ? bad : warn)(
          'ETCD_DOWN',
          `etcd at ${endpoint} does not answer: ${failure ?? ''}; traffic goes on, changes wait`,
          {
            about: endpoint,
            fix: `systemctl status etcd there; etcdctl --endpoints ${endpoint} endpoint health`,
          },
        ),
      )
    else if (healthy === false)
      found.push(
        bad(
          'ETCD_UNHEALTHY',
          `etcd at ${endpoint} says that it is not well${reason === undefined ? '' : `: ${reason}`}`,
          {
            about: endpoint,
            fix: `etcdctl --endpoints ${endpoint} alarm list; on NOSPACE: etcdctl compact, defrag, alarm disarm`,
          },
        ),
      )
    else if (failure !== undefined)
      found.push(
        bad('ETCD_UNHEALTHY', `what listens at ${endpoint} is no etcd: ${failure}`, {
          about: endpoint,
          fix: 'store.etcd.endpoints in warrend.yaml',
        }),
      )
    else if (ms > slowMs)
      found.push(
        warn('ETCD_SLOW', `etcd at ${endpoint} took ${Math.round(ms)} ms for one read (${slowMs} at most)`, {
          about: endpoint,
          fix: `etcdctl --endpoints ${endpoint} check perf; a slow disk? a way of many ms?`,
        }),
      )
  }
  const times = answers.map(({ ms }) => Math.round(ms ?? 0))
  return orOk(
    found,
    `${answers.length === 1 ? 'etcd' : `${answers.length} members of etcd`} ${answers[0]?.version ?? ''} in ${Math.max(...times)} ms`,
  )
}

/** Before warrend runs for the first time nobody has made it. */
function judgeDirectory(path: string, fault: typeof bad): readonly Finding[] {
  try {
    if (!statSync(path).isDirectory())
      return [bad('STORE_MISSING', `"${path}" is no directory`, { fix: 'store.file in warrend.yaml' })]
    accessSync(path, constants.R_OK | constants.W_OK)
    return [ok(`directory ${path}`)]
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EACCES')
      return [unknown('NO_PERMISSION', `"${path}" is not ours to read`, { fix: 'sudo warren doctor' })]
    return [
      fault('STORE_MISSING', `the store's directory "${path}" cannot be used: ${code}`, {
        fix: `mkdir -p ${path}, or store.file in warrend.yaml`,
      }),
    ]
  }
}

async function run({ config, daemon, signal }: DoctorContext): Promise<readonly Finding[]> {
  if ('file' in config.store) return judgeDirectory(config.store.file, daemon === undefined ? warn : bad)
  const { endpoints, tls } = config.store.etcd
  return judgeEtcd(await Promise.all(endpoints.map(endpoint => askEtcd(endpoint, tls, deadMs, signal))))
}

export const storeCheck: Check = { id: 'store', title: 'the shared store', run }
