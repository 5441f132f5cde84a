// Label and field selectors of list and watch, as far as informers of node components use them: "!key", "key", "a=b",
// "a==b" and "a!=b", joined by commas (k8s.io/apimachinery pkg/labels, pkg/fields).
import type { KubeObject } from './kube-objects.js'

export type Selects = (object: KubeObject) => boolean

interface Term {
  readonly key: string
  readonly is: 'equal' | 'different' | 'there' | 'absent'
  readonly value: string
}

function termOf(text: string): Term {
  const both = /^([\w./-]+)\s*(!=|==|=)\s*([\w./-]*)$/.exec(text)
  if (both !== null)
    return { key: both[1] ?? '', is: both[2] === '!=' ? 'different' : 'equal', value: both[3] ?? '' }
  const one = /^(!?)([\w./-]+)$/.exec(text)
  if (one === null) throw new Error(`unable to parse requirement: "${text}"`)
  return { key: one[2] ?? '', is: one[1] === '!' ? 'absent' : 'there', value: '' }
}

function holds({ is, value }: Term, found: string | undefined): boolean {
  switch (is) {
    case 'absent':
      return found === undefined
    case 'there':
      return found !== undefined
    case 'equal':
      return found === value
    case 'different':
      return found !== value
  }
}

/** "spec.clusterIP": undefined where there is nothing of that name. */
function fieldOf(object: KubeObject, path: string): string | undefined {
  let found: unknown = object
  for (const name of path.split('.'))
    found = typeof found === 'object' && found !== null ? (found as Record<string, unknown>)[name] : undefined
  return typeof found === 'string' ? found : undefined
}

const termsOf = (text: string | null): readonly Term[] =>
  (text ?? '')
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '')
    .map(termOf)

/** Errors: a selector that is none of these. */
export function selectorOf(labelSelector: string | null, fieldSelector: string | null): Selects {
  const labels = termsOf(labelSelector)
  const fields = termsOf(fieldSelector)
  return object =>
    labels.every(term => holds(term, object.metadata.labels?.[term.key])) &&
    // A field that an object has not is the empty string to a field selector.
    fields.every(term => holds(term, fieldOf(object, term.key) ?? ''))
}
