// Errors with a code that programs test and a message that people act on.
// Text: action, value in quotes, colon, cause, what to do. See docs/reference/errors.md for the codes.

export interface ErrorDetail {
  /** What a program tests: an errno name ("EEXIST") at the kernel boundary, else one of our own ("CONFIG", "CONFLICT"). */
  readonly code: string
  /** What the reader should do next; printed after the message. */
  readonly hint?: string
  readonly cause?: unknown
}

/** The one error class of the program. Compare `code`, never the text. */
export class WarrenError extends Error {
  readonly code: string
  readonly hint: string | undefined

  constructor(message: string, detail: ErrorDetail) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause })
    this.name = 'WarrenError'
    this.code = detail.code
    this.hint = detail.hint
  }
}

/** The code of any thrown value: a WarrenError's, a Node system error's, else "UNKNOWN". */
export function codeOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string')
    return error.code
  return 'UNKNOWN'
}

export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return codes.includes(codeOf(error))
}

/** One line for a log or a status row; the hint behind it when there is one. */
export function describeError(error: unknown): string {
  if (error instanceof WarrenError)
    return error.hint === undefined ? error.message : `${error.message} (${error.hint})`
  if (error instanceof Error) return error.message
  return String(error)
}

export function asError(error: unknown): WarrenError {
  if (error instanceof WarrenError) return error
  return new WarrenError(error instanceof Error ? error.message : String(error), {
    code: codeOf(error),
    cause: error,
  })
}
