// Fields of a schema as rows that people read: path, type, range, default, meaning. The references of warrend.yaml and of the
// kinds are made of them (scripts/reference.ts).
import { z } from './check.js'

export interface Field {
  /** "backend.vni"; entries of a list: "subnets[].cidr". */
  readonly path: string
  /** Of a union's form: the field that chooses it, "type: vxlan". */
  readonly form: string | undefined
  /** "integer", "list of prefix", "object". */
  readonly type: string
  /** "1 to 65535", "one of a, b"; "" where anything of the type goes. */
  readonly range: string
  /** As YAML (flow style); undefined: there is none. */
  readonly default: string | undefined
  /** It has to be there, where its form is. */
  readonly required: boolean
  readonly meaning: string
}

/** What of JSON Schema (draft 2020-12) zod writes for our schemas. */
interface Shape {
  readonly type?: string
  readonly title?: string
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly maxLength?: number
  readonly items?: Shape
  readonly properties?: Readonly<Record<string, Shape>>
  readonly required?: readonly string[]
  readonly additionalProperties?: Shape | boolean
  readonly anyOf?: readonly Shape[]
  readonly oneOf?: readonly Shape[]
}

const formsOf = (shape: Shape): readonly Shape[] => shape.oneOf ?? shape.anyOf ?? []
const unique = (texts: readonly string[]): readonly string[] =>
  [...new Set(texts)].filter(text => text !== '')

/** A value as YAML in one line, with quotes only where YAML needs them. */
function flow(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flow).join(', ')}]`
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map(([name, member]) => `${name}: ${flow(member)}`)
    return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`
  }
  if (typeof value !== 'string') return String(value)
  return /^[a-zA-Z/][\w./-]*$/.test(value) ? value : JSON.stringify(value)
}

function typeOf(shape: Shape): string {
  if (shape.title !== undefined) return shape.title
  const forms = formsOf(shape)
  if (forms.length > 0) return unique(forms.map(typeOf)).join(' or ')
  if (shape.const !== undefined) return flow(shape.const)
  if (shape.enum !== undefined) return 'word'
  if (shape.type === 'array') return `list of ${typeOf(shape.items ?? {})}`
  if (shape.type === 'object' && typeof shape.additionalProperties === 'object')
    return `map of ${typeOf(shape.additionalProperties)}`
  return shape.type ?? 'any'
}

const numbers = (low: number | undefined, high: number | undefined, unit = ''): string => {
  // zod bounds every integer by what a double holds.
  const least = low === undefined || low <= Number.MIN_SAFE_INTEGER ? undefined : low
  const most = high === undefined || high >= Number.MAX_SAFE_INTEGER ? undefined : high
  if (least === undefined && most === undefined) return ''
  if (least === undefined) return `at most ${most}${unit}`
  if (most === undefined) return `${least} or more${unit}`
  return least === most ? `${least}${unit}` : `${least} to ${most}${unit}`
}

function rangeOf(shape: Shape): string {
  const forms = formsOf(shape)
  if (forms.length > 0) return unique(forms.map(rangeOf)).join('; ')
  if (shape.enum !== undefined) return shape.enum.map(flow).join(', ')
  if (shape.type === 'array') {
    const entries = numbers(shape.minItems, shape.maxItems, ' entries')
    return unique([rangeOf(shape.items ?? {}), entries]).join('; ')
  }
  if (shape.maxLength !== undefined) return `at most ${shape.maxLength} characters`
  return numbers(shape.minimum, shape.maximum)
}

/** The member with a constant value that tells the forms of a union apart. */
function chooser(forms: readonly Shape[]): string | undefined {
  const [first] = forms
  return Object.keys(first?.properties ?? {}).find(name =>
    forms.every(form => form.properties?.[name]?.const !== undefined),
  )
}

function members(shape: Shape, path: string, form: string | undefined): readonly Field[] {
  if (shape.type === 'array') return members(shape.items ?? {}, `${path}[]`, form)
  const forms = formsOf(shape)
  if (forms.length > 0) {
    const name = chooser(forms)
    return forms.flatMap(each => {
      const chosen = name === undefined ? form : `${name}: ${flow(each.properties?.[name]?.const)}`
      return members(each, path, chosen)
    })
  }
  return Object.entries(shape.properties ?? {}).flatMap(([name, member]) => {
    const below = path === '' ? name : `${path}.${name}`
    const field: Field = {
      path: below,
      form,
      type: typeOf(member),
      range: rangeOf(member),
      default: member.default === undefined ? undefined : flow(member.default),
      required: shape.required?.includes(name) === true,
      meaning: member.description ?? '',
    }
    return [field, ...members(member, below, form)]
  })
}

/** Every field that people may write, parents before what is in them. */
export function fieldsOf(schema: z.ZodType): readonly Field[] {
  return members(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape, '', undefined)
}
