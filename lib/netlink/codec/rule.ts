// Policy rules: `ip rule`. struct fib_rule_hdr and FRA_* of linux/fib_rules.h. Only rules that look into a table.
import type { ListFilter, RtnlOp, Rule } from '../types.js'
import { Attributes, HEADER, type MessageWriter } from './message.js'
import { familyName, familyNumber, ipText, prefixParts } from './text.js'
import { writeFlags } from './verbs.js'

export const RTM_NEWRULE = 32
export const RTM_DELRULE = 33
export const RTM_GETRULE = 34

const RULE = 12
const FRA = {
  DST: 1,
  SRC: 2,
  IIFNAME: 3,
  PRIORITY: 6,
  FWMARK: 10,
  TABLE: 15,
  FWMASK: 16,
  PROTOCOL: 21,
} as const
const FR_ACT_TO_TBL = 1
const ALL_ONES = 0xffff_ffff

/** The kernel knows no replace for rules: it is an add, and an equal rule is no error (rtnl.ts). Errors: ADDRESS. */
export function encodeRule(out: MessageWriter, verb: RtnlOp['verb'], rule: Rule): Buffer {
  const from = rule.from === undefined ? undefined : prefixParts(rule.from, rule.family)
  const to = rule.to === undefined ? undefined : prefixParts(rule.to, rule.family)
  out.begin(verb === 'delete' ? RTM_DELRULE : RTM_NEWRULE, verb === 'delete' ? 0 : writeFlags('add'))
  out
    .u8(familyNumber(rule.family))
    .u8(to?.length ?? 0)
    .u8(from?.length ?? 0)
    .u8(0)
  out
    .u8(rule.table < 256 ? rule.table : 0)
    .u8(0)
    .u8(0)
    .u8(FR_ACT_TO_TBL)
    .u32(0)
  if (to !== undefined && to.length > 0) out.attrBytes(FRA.DST, to.bytes)
  if (from !== undefined && from.length > 0) out.attrBytes(FRA.SRC, from.bytes)
  if (rule.iif !== undefined) out.attrString(FRA.IIFNAME, rule.iif)
  out.attrU32(FRA.PRIORITY, rule.priority).attrU32(FRA.TABLE, rule.table).attrU8(FRA.PROTOCOL, rule.protocol)
  if (rule.fwmark !== undefined)
    out.attrU32(FRA.FWMARK, rule.fwmark.value).attrU32(FRA.FWMASK, rule.fwmark.mask)
  return out.finish()
}

export function encodeRuleDump(out: MessageWriter, family: Rule['family']): Buffer {
  out.begin(RTM_GETRULE, 0)
  return out
    .u8(familyNumber(family))
    .zeros(RULE - 1)
    .finish()
}

const attributes = new Attributes(FRA.PROTOCOL)

export function decodeRule(
  data: Buffer,
  start: number,
  end: number,
  filter: ListFilter = {},
): Rule | undefined {
  const at = start + HEADER
  const family = familyName(data[at] as number)
  if (family === undefined || data[at + 7] !== FR_ACT_TO_TBL) return undefined
  if (filter.family !== undefined && filter.family !== family) return undefined
  attributes.read(data, at + RULE, end)
  const protocol = attributes.u8(data, FRA.PROTOCOL) ?? 0
  const table = attributes.u32(data, FRA.TABLE) ?? (data[at + 4] as number)
  if (filter.protocol !== undefined && filter.protocol !== protocol) return undefined
  if (filter.table !== undefined && filter.table !== table) return undefined
  const iif = attributes.string(data, FRA.IIFNAME)
  if (filter.dev !== undefined && filter.dev !== iif) return undefined
  const prefix = (type: number, length: number): string | undefined =>
    attributes.has(type)
      ? `${ipText(data, attributes.at(type), attributes.length(type))}/${length}`
      : undefined
  const from = prefix(FRA.SRC, data[at + 2] as number)
  const to = prefix(FRA.DST, data[at + 1] as number)
  const mark = attributes.u32(data, FRA.FWMARK) ?? (attributes.has(FRA.FWMASK) ? 0 : undefined)
  const mask = attributes.u32(data, FRA.FWMASK) ?? ALL_ONES
  return {
    kind: 'rule',
    family,
    priority: attributes.u32(data, FRA.PRIORITY) ?? 0,
    table,
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(iif === undefined ? {} : { iif }),
    ...(mark === undefined ? {} : { fwmark: { value: mark, mask } }),
    protocol,
  }
}
