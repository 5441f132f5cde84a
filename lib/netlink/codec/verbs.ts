// iproute2's verbs as header flags: add is CREATE|EXCL, replace CREATE|REPLACE, change (our `set`) REPLACE alone.
import type { RtnlOp } from '../types.js'
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from './message.js'

const flags: Readonly<Record<RtnlOp['verb'], number>> = {
  add: NLM_F_CREATE | NLM_F_EXCL,
  replace: NLM_F_CREATE | NLM_F_REPLACE,
  append: NLM_F_CREATE | NLM_F_APPEND,
  set: NLM_F_REPLACE,
  delete: 0,
}

export function writeFlags(verb: RtnlOp['verb']): number {
  return flags[verb]
}
