// The shared store that the configuration names. Only the one that is used is loaded.
import { readFileSync } from 'node:fs'
import { codeOf, WarrenError } from '../lib/errors.js'
import type { Kv } from '../lib/kv/kv.js'
import type { Config } from './config.js'

function secret(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    throw new WarrenError(`Cannot read passwordFile "${path}": ${codeOf(error)}`, {
      code: 'CONFIG',
      cause: error,
    })
  }
}

/** Errors: CONFIG when a file that it names cannot be read. Nothing is connected yet. */
export async function openKv(config: Config): Promise<Kv> {
  if ('file' in config.store) {
    const { fileKv } = await import('../lib/kv/file.js')
    return fileKv(config.store.file)
  }
  const { endpoints, prefix, tls, user, timeoutMs } = config.store.etcd
  const { etcdKv } = await import('../lib/etcd/etcd.js')
  const password = user?.password ?? (user?.passwordFile === undefined ? '' : secret(user.passwordFile))
  return etcdKv({
    endpoints,
    prefix,
    timeoutMs,
    ...(tls === undefined
      ? {}
      : {
          tls: {
            ...(tls.ca === undefined ? {} : { ca: tls.ca }),
            ...(tls.cert === undefined ? {} : { cert: tls.cert }),
            ...(tls.key === undefined ? {} : { key: tls.key }),
          },
        }),
    ...(user === undefined ? {} : { user: { name: user.name, password } }),
  })
}
