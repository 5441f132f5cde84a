// What the two sources have in common: how they say that they are in sync, and since when they are not.

export interface SourceStatus {
  readonly name: string
  /** It spoke, and what it said is the whole truth at this moment. */
  readonly inSync: boolean
  /** It has been in sync at least once in this process. */
  readonly everInSync: boolean
  /** Why it is not; with the hint, for people. */
  readonly error?: string
  /** ISO date of the last change of `inSync` or `error`. */
  readonly since: string
}

/** The error of a source that has not said anything. */
export const notReadYet = 'not read yet'
/** The error of one that is there, and of which what happened since the last good model is not known in full yet. */
export const settling = 'what changed since the last good model is on its way'

/** Neither in sync nor failed: it will say soon. */
export const isComing = (error: string | undefined): boolean => error === notReadYet || error === settling

/** The next status; the same value when nothing changed. */
export function nextStatus(
  before: SourceStatus,
  now: { readonly inSync: boolean; readonly error?: string | undefined },
  date: () => Date,
): SourceStatus {
  if (before.inSync === now.inSync && before.error === now.error) return before
  return {
    name: before.name,
    inSync: now.inSync,
    everInSync: before.everInSync || now.inSync,
    ...(now.error === undefined ? {} : { error: now.error }),
    since: date().toISOString(),
  }
}
