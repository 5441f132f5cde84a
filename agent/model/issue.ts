// What a schema finds wrong beside the types of its fields, as zod takes it: what to do instead goes in `params.hint`, where
// check.ts finds it.
import type { z } from 'zod'

/** Of a superRefine. `path` begins at the value; []: the value itself. */
export function issuesOf(context: Pick<z.RefinementCtx, 'addIssue'>) {
  return (path: readonly (string | number)[], message: string, hint?: string): void =>
    context.addIssue({ code: 'custom', path: [...path], message, params: { hint } })
}
