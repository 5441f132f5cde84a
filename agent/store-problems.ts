// What is wrong with the sources of a store taken together, as people are told.
import type { WarrenError } from '../lib/errors.js'
import { keyOfRef } from './model/keys.js'
import type { Problem } from './model/object.js'

/** An object that stands in a hand-written file, which is in force, and in the shared store. */
export function conflictProblem(
  ref: string,
  { file, line }: { readonly file: string; readonly line: number },
  store: string,
): Problem {
  return {
    level: 'warning',
    about: ref,
    code: 'CONFLICT',
    message: `${ref} stands in ${file}:${line}, which is in force, and in ${store} as ${keyOfRef(ref)}`,
    hint: 'delete one of the two',
  }
}

/** What went wrong with the file of the last good model. */
export function fileProblems(path: string, errors: readonly (WarrenError | undefined)[]): Problem[] {
  return errors
    .filter(error => error !== undefined)
    .map(({ code, message, hint }) => ({ level: 'warning', about: path, code, message, hint }))
}
