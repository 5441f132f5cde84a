// libnftables in this process (man 3 libnftables): a context belongs to the namespace of the thread that made it. Only
// ever used in an empty scratch namespace: what other people's nft left in a real one has crashed it.

import { WarrenError } from '../errors.js'
import { close, nativeFunction, socket } from '../netns/libc.js'

const library = 'libnftables.so.1'

/**
 * It waits with select(2), and libc ends a process that asks it for a descriptor of 1024 or above (FD_SETSIZE). A socket
 * gets the lowest one that is free; half of them are left for what other threads open meanwhile.
 */
const lowest = 512
const AF_UNIX = 1
const SOCK_DGRAM = 2

function checkDescriptors(): void {
  const fd = socket(AF_UNIX, SOCK_DGRAM, 0)
  close(fd)
  if (fd >= lowest)
    throw new WarrenError(`Cannot use "${library}": no descriptor below ${lowest} is free`, {
      code: 'EMFILE',
    })
}

/**
 * Runs commands in the namespace that this thread is in now. Returns what nft complains about; undefined is success.
 * Errors: ENOENT when the library is missing, EMFILE when too many descriptors are open for it.
 */
export function runLibrary(commands: string): string | undefined {
  checkDescriptors()
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
