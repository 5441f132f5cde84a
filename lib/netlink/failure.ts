// What the kernel says when it refuses a message: an errno and, by NETLINK_EXT_ACK, a sentence.
import { WarrenError } from '../errors.js'
import { errnoName } from '../netns/libc.js'
import { Attributes, align4, HEADER, NLM_F_ACK_TLVS, NLM_F_CAPPED } from './codec/message.js'

export interface NetlinkFailure {
  /** "EEXIST"; also ETIMEDOUT, ABORTED and EPIPE (closed) when the kernel did not answer. */
  readonly code: string
  /** The kernel's extended ack, e.g. "Nexthop has invalid gateway". */
  readonly text?: string
}

const NLMSGERR_ATTR_MSG = 1
const attributes = new Attributes(NLMSGERR_ATTR_MSG)

/** Reads NLMSG_ERROR (or the tail of NLMSG_DONE, which has no copy of the request); undefined is an acknowledgement. */
export function readFailure(
  data: Buffer,
  start: number,
  end: number,
  done: boolean,
): NetlinkFailure | undefined {
  if (start + HEADER + 4 > end) return undefined
  const errno = -data.readInt32LE(start + HEADER)
  if (errno === 0) return undefined
  const code = errnoName(errno)
  const flags = data.readUInt16LE(start + 6)
  if ((flags & NLM_F_ACK_TLVS) === 0) return { code }
  let at = start + HEADER + 4
  if (!done) {
    const length = data.readUInt32LE(at)
    at += (flags & NLM_F_CAPPED) !== 0 ? HEADER : align4(length)
  }
  const text = attributes.read(data, at, end).string(data, NLMSGERR_ATTR_MSG)
  return text === undefined || text === '' ? { code } : { code, text }
}

const hints: Readonly<Record<string, string>> = {
  EPERM: 'run as root, or with CAP_NET_ADMIN',
  ETIMEDOUT: 'the kernel did not answer in time; the state is unknown until it is observed again',
}

/** `action`: what could not be done, with its value in quotes: `add route "10.244.2.0/24 dev wrn-ovl"`. */
export function failureError(action: string, failure: NetlinkFailure): WarrenError {
  const hint = hints[failure.code]
  const text = failure.text === undefined ? '' : ` (${failure.text})`
  return new WarrenError(`Cannot ${action}: ${failure.code}${text}`, {
    code: failure.code,
    ...(hint === undefined ? {} : { hint }),
  })
}
