// libnftables in this process (man 3 libnftables): a context belongs to the namespace of the thread that made it. Only
// ever used in an empty scratch namespace: what other people's nft left in a real one has crashed it.

import { WarrenError } from '../errors.js'
import { nativeFunction } from '../netns/libc.js'

const library = 'libnftables.so.1'

/**
 * Runs commands in the namespace that this thread is in now. Returns what nft complains about; undefined is success.
 * Errors: ENOENT when the library is missing.
 */
export function runLibrary(commands: string): string | undefined {
  const f = (prototype: string): ReturnType<typeof nativeFunction> => {
    try {
      return nativeFunction(library, prototype)
    } catch (cause) {
      throw new WarrenError(
        `Cannot load "${library}": ${cause instanceof Error ? cause.message : String(cause)}`,
        {
          code: 'ENOENT',
          cause,
          hint: 'install the package libnftables1',
        },
      )
    }
  }
  const context = f('void *nft_ctx_new(uint32_t)')(0)
  if (context === null) throw new WarrenError(`Cannot open "${library}": no context`, { code: 'ENOMEM' })
  try {
    f('int nft_ctx_buffer_error(void *)')(context)
    f('int nft_ctx_buffer_output(void *)')(context)
    if (f('int nft_run_cmd_from_buffer(void *, str)')(context, commands) === 0) return undefined
    const text = f('const char *nft_ctx_get_error_buffer(void *)')(context)
    return typeof text === 'string' && text !== '' ? text : 'unknown error'
  } finally {
    f('void nft_ctx_free(void *)')(context)
  }
}
