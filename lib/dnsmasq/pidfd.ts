// Processes that are not our children, held by a descriptor: a signal can reach nobody else, and one call tells which of
// a hundred have ended. man 2 pidfd_open, pidfd_send_signal, poll. Kernel 5.3; glibc has names for them only since 2.36.
import { close, lastErrno, nativeFunction } from '../netns/libc.js'

const SYS_pidfd_send_signal = 424
const SYS_pidfd_open = 434
const POLLIN = 1

/** undefined when there is no such process. Errors thrown: none; EMFILE and the like read as "no such process" too. */
export function openPidfd(pid: number): number | undefined {
  const open = nativeFunction('libc.so.6', 'long syscall(long, int, uint32_t)')
  const fd = open(SYS_pidfd_open, pid, 0) as number
  return fd < 0 ? undefined : fd
}

/** The name of the errno, "ESRCH" when it has ended; undefined is success. */
export function signalPidfd(fd: number, signal: number): string | undefined {
  const send = nativeFunction('libc.so.6', 'long syscall(long, int, int, void *, uint32_t)')
  return (send(SYS_pidfd_send_signal, fd, signal, null, 0) as number) < 0 ? lastErrno() : undefined
}

/** Which of them have ended (zombies count), without waiting. */
export function endedPidfds(fds: readonly number[]): readonly boolean[] {
  if (fds.length === 0) return []
  const bytes = Buffer.alloc(fds.length * 8)
  fds.forEach((fd, i) => {
    bytes.writeInt32LE(fd, i * 8)
    bytes.writeInt16LE(POLLIN, i * 8 + 4)
  })
  const poll = nativeFunction('libc.so.6', 'int poll(_Inout_ uint8_t *, unsigned long, int)')
  if ((poll(bytes, fds.length, 0) as number) < 0) return fds.map(() => false)
  return fds.map((_fd, i) => bytes.readInt16LE(i * 8 + 6) !== 0)
}

export { close as closePidfd }
