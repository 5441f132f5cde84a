// Takes secrets out of what leaves the host, in three ways: values by the name of their field; the values that were found so,
// wherever else they stand and however they are written there; and what looks like a secret in any text. Where in doubt it goes.

export const removed = '(removed)'

/** Fields whose values are secrets; names of files with secrets in them (passwordFile) are none. */
const secretField =
  /^(?!.*(?:file|path|type|at|time)$).*(?:pass(?:word|wd|phrase)|secret|token|credential|private_?key|(?:^|_)psk)s?$/i
/** Shorter ones would take words of everything with them; where their field is known they go all the same. */
const shortest = 3

/** `//user:password@` of a URL. */
const userinfo = /(\/\/[^/\s:@"'\\]*):([^@/\s"'\\]+)@/g
const pem = /(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g
/** password=x, "password": "x", stable_secret = x, also in JSON within JSON. Bounded: a text may be made to take for ever. */
const assigned =
  /((?:password|passwd|passphrase|secret|token|credential|private_?key)\\{0,8}["']?\s{0,20}[:=]\s{0,20})(\\+"(?:(?!\\+")[\s\S]){0,4096}\\+"|"(?:[^"\\]|\\.){0,4096}"|'[^']{0,4096}'|["']?[^\s,;}\]"'\\]+)/gi
const authorization = /(authorization\\*["']?\s*[:=]\s*\\*["']?\s*(?:basic|bearer)\s+)[^\s"'\\,]+/gi
const option = /(--?(?:password|passwd|token|secret)[= ])[^\s"'\\,]+/gi

function quotedRemoved(value: string): string {
  const quotes = /^(?:\\+"|"|')/.exec(value)?.[0]
  return quotes === undefined ? removed : `${quotes}${removed}${quotes}`
}

/** As texts of all kinds would have it. */
function spellings(secret: string): readonly string[] {
  const json = JSON.stringify(secret).slice(1, -1)
  return [
    secret,
    json,
    JSON.stringify(json).slice(1, -1),
    encodeURIComponent(secret),
    Buffer.from(secret).toString('base64').replace(/=+$/, ''),
    Buffer.from(secret).toString('hex'),
  ].filter(text => text.length >= shortest)
}

export interface Redactor {
  /** A secret that is known from elsewhere: the text of a file of passwords. */
  add(secret: string): void
  /** A copy without the secrets that its fields' names give away; those are remembered. */
  value(value: unknown): unknown
  /** Without what is remembered so far, and without what looks like a secret. */
  text(text: string): string
  /** Values that were taken out so far. */
  readonly count: number
}

export function createRedactor(): Redactor {
  const secrets = new Set<string>()
  let count = 0

  function add(secret: string): void {
    if (secret.length >= shortest && secret !== removed)
      for (const text of spellings(secret)) secrets.add(text)
  }

  function take(secret: unknown): unknown {
    if (typeof secret === 'string' || typeof secret === 'number') {
      count += 1
      add(String(secret))
      return removed
    }
    if (Array.isArray(secret)) return secret.map(take)
    if (typeof secret === 'object' && secret !== null)
      return Object.fromEntries(Object.entries(secret).map(([key, inner]) => [key, take(inner)]))
    return secret
  }

  function value(from: unknown): unknown {
    if (typeof from === 'string') {
      for (const [, , password = ''] of from.matchAll(userinfo)) {
        add(password)
        try {
          add(decodeURIComponent(password))
        } catch {
          // not encoded at all
        }
      }
      return from
    }
    if (Array.isArray(from)) return from.map(value)
    if (typeof from !== 'object' || from === null) return from
    if (from instanceof Map) return value(Object.fromEntries(from))
    return Object.fromEntries(
      Object.entries(from).map(([key, inner]) => [key, secretField.test(key) ? take(inner) : value(inner)]),
    )
  }

  function replace(text: string, pattern: RegExp, by: (...groups: string[]) => string): string {
    return text.replace(pattern, (...groups: unknown[]) => {
      const made = by(...(groups as string[]))
      if (made !== groups[0]) count += 1
      return made
    })
  }

  return {
    add,
    value,
    text(from) {
      let text = from
      // The longest first: one may be a part of another.
      for (const secret of [...secrets].sort((a, b) => b.length - a.length)) {
        if (!text.includes(secret)) continue
        const parts = text.split(secret)
        count += parts.length - 1
        text = parts.join(removed)
      }
      text = replace(text, pem, (_, begin = '') => `${begin} ${removed}`)
      text = replace(text, userinfo, (_, user = '') => `${user}:${removed}@`)
      text = replace(text, authorization, (_, name = '') => `${name}${removed}`)
      text = replace(text, option, (_, name = '') => `${name}${removed}`)
      return replace(text, assigned, (_, name = '', secret = '') => `${name}${quotedRemoved(secret)}`)
    },
    get count() {
      return count
    },
  }
}
