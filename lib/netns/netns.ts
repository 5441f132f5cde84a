// Network namespaces from one process: sockets, sysctls and children that live in another namespace are made inside a
// short synchronous window. `ip netns` shows the named ones, below /run/netns. man 7 network_namespaces.
import { closeSync, openSync } from 'node:fs'
import { WarrenError } from '../errors.js'
import { ifIndex, ifName, lastErrno, setns, unshareNet } from './libc.js'

export type NetnsTarget = 'self' | { readonly path: string } | { readonly pid: number }

/** An open namespace: stays alive as long as the handle, even when its name is deleted. */
export interface Netns {
  /** For messages: "self", the path, or "pid 4711". */
  readonly label: string
  readonly fd: number
  /**
   * Runs `f` with this thread inside the namespace and comes home. `f` must be synchronous (an await would leak other
   * work into the namespace): a returned promise is an error. Only *Sync fs calls and native calls follow the thread.
   */
  run<T>(f: () => T): T
  /** ifindex of a link inside, by a direct call: 5 us, no cache. */
  linkIndex(name: string): number | undefined
  linkName(index: number): string | undefined
  close(): void
}

let home: number | undefined
/** The namespace that this thread is in now; undefined is home. */
let current: number | undefined

// thread-self: /proc/self is the main thread's, wrong in a worker.
function homeFd(): number {
  home ??= openSync('/proc/thread-self/ns/net', 'r')
  return home
}

function enter(fd: number | undefined, label: string): void {
  if (fd === current) return
  if (!setns(fd ?? homeFd())) {
    const code = lastErrno()
    throw new WarrenError(`Cannot enter namespace "${label}": ${code}`, {
      code,
      ...(code === 'EPERM' ? { hint: 'run as root, or with CAP_SYS_ADMIN' } : {}),
    })
  }
  current = fd
}

/** There is no safe way to go on in a wrong namespace: everything after it would be written there. */
function comeBack(fd: number | undefined): void {
  if (fd === current) return
  if (!setns(fd ?? homeFd())) process.abort()
  current = fd
}

function isThenable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

function within<T>(fd: number | undefined, label: string, f: () => T): T {
  homeFd() // before leaving: it names the namespace we are in
  const before = current
  enter(fd, label)
  let result: T
  try {
    result = f()
  } finally {
    comeBack(before)
  }
  if (isThenable(result))
    throw new WarrenError(`Cannot run in namespace "${label}": the function is asynchronous`, {
      code: 'ASYNC',
    })
  return result
}

function handle(fd: number, label: string, self: boolean): Netns {
  let open = true
  const run = <T>(f: () => T): T => {
    if (!open) throw new WarrenError(`Cannot enter namespace "${label}": it is closed`, { code: 'EBADF' })
    return within(self ? undefined : fd, label, f)
  }
  return {
    label,
    fd,
    run,
    linkIndex: name => run(() => ifIndex(name)),
    linkName: index => run(() => ifName(index)),
    close: () => {
      if (open) closeSync(fd)
      open = false
    },
  }
}

/** Errors: ENOENT when there is no such namespace or process; EPERM or EINVAL on the first run when it is no namespace. */
export function openNetns(target: NetnsTarget): Netns {
  const [path, label] =
    target === 'self'
      ? ['/proc/thread-self/ns/net', 'self']
      : 'path' in target
        ? [target.path, target.path]
        : [`/proc/${target.pid}/ns/net`, `pid ${target.pid}`]
  try {
    return handle(openSync(path, 'r'), label, target === 'self')
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'UNKNOWN'
    const hint = code === 'ENOENT' ? { hint: 'see "ip netns list"' } : {}
    throw new WarrenError(`Cannot open namespace "${label}": ${code}`, { code, cause, ...hint })
  }
}

/** A fresh namespace without a name: it is gone when the handle, its sockets and its processes are. */
export function anonymousNetns(): Netns {
  homeFd()
  const before = current
  try {
    unshareNet()
    current = -1
    return handle(openSync('/proc/thread-self/ns/net', 'r'), 'anonymous', false)
  } finally {
    comeBack(before)
  }
}
