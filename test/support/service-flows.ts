// Rows of packets: who asks what, and who answers. A row is text, "FROM | TO | ANSWER | NOTES":
//
//   FROM     stations; ext2 is ext by its second address
//   TO       web          its cluster IP         web+x web+lb  its external IP, its load balancer IP
//            web@A web@B  its nodePort there     web@A2 web@lo  by the second address of A, by loopback
//            web:99       another port of it     void leak     unallocated addresses of serviceCIDRs
//            =a1          no Service: a1's own address
//   ANSWER   refused, dropped, or every backend that answers: a1 (that sees who asked), a1@A (that sees an address of A),
//            a1:8081 (on another port than 8080); the userspace mode's own: see rowsOf
//   NOTES    tcp udp sctp  only these; default: tcp and udp. userspace=refused: the answer in that mode
//
// Every row runs in both families. All answers must be expected ones, and all that are expected must come.
import type { Family } from '../../lib/netlink/types.js'
import { type Fixture, nodePortOf } from './service-flows-model.js'
import {
  externalAddress,
  type NodeName,
  nodeOf,
  type ServiceWorld,
  type StationName,
  second,
  stationNames,
  unallocated,
} from './service-world.js'
import { type Answer, families, type Protocol, type Question } from './service-world-sockets.js'

interface Expected {
  readonly by: string
  readonly port: number
  /** Undefined: the backend sees who asked. */
  readonly masqueradedBy: NodeName | undefined
}

export type Verdict = 'refused' | 'dropped' | readonly Expected[]

export interface Row {
  readonly from: StationName | 'ext2'
  readonly to: string
  readonly protocol: Protocol
  readonly family: Family
  readonly expected: Verdict
}

const protocols: readonly Protocol[] = ['tcp', 'udp', 'sctp']

function verdictOf(text: string): Verdict {
  if (text === 'refused' || text === 'dropped') return text
  return text.split(' ').map(word => {
    const [, by = '', port = '8080', node] = /^(\w+)(?::(\d+))?(?:@([AB]))?$/.exec(word) ?? []
    if (!(stationNames as readonly string[]).includes(by)) throw new Error(`no backend "${word}"`)
    return { by, port: Number(port), masqueradedBy: node as NodeName | undefined }
  })
}

const lowerVia = (n: number): NodeName => (n < 128 ? 'A' : 'B')

/** The node whose rules a packet meets: the asker's own one, but for addresses of another. */
function servingNode(from: Row['from'], to: string, fixture: Fixture): NodeName {
  const [, node] = /@([AB])/.exec(to) ?? []
  if (node !== undefined) return node as NodeName
  const own = from === 'ext2' ? undefined : nodeOf(from)
  if (own !== undefined) return own
  const [name = '', kind] = to.split('+')
  const external = fixture[name]
  return lowerVia((kind === 'lb' ? external?.lb : kind === 'x' ? external?.x : 0) ?? 0)
}

/**
 * Rows of a text, one per asker, destination, protocol and family, as they are in `mode`: in userspace backends see the node
 * whose proxy they talk to, and SCTP is left out where nothing is said of it.
 */
export function rowsOf(text: string, fixture: Fixture, mode: string): Row[] {
  const rows: Row[] = []
  for (const line of text.split('\n')) {
    if (line.trim() === '' || line.trim().startsWith('#')) continue
    const [from = '', to = '', answer = '', notes = ''] = line.split('|').map(part => part.trim())
    const words = notes.split(' ').filter(word => word !== '')
    const only = protocols.filter(protocol => words.includes(protocol))
    const own = words.find(word => word.startsWith(`${mode}=`))?.slice(mode.length + 1)
    for (const asker of from.split(' ') as Row['from'][])
      for (const place of to.split(' '))
        for (const protocol of only.length > 0 ? only : protocols.slice(0, 2)) {
          if (protocol === 'sctp' && mode === 'userspace' && own === undefined) continue
          let expected = verdictOf(own?.replaceAll(',', ' ') ?? answer)
          if (mode === 'userspace' && typeof expected !== 'string' && !place.startsWith('=')) {
            const masqueradedBy = servingNode(asker, place, fixture)
            expected = expected.map(each => ({ ...each, masqueradedBy }))
          }
          for (const family of families) rows.push({ from: asker, to: place, protocol, family, expected })
        }
  }
  return rows
}

/** Where a row's packets go to. */
export function destinationOf(world: ServiceWorld, fixture: Fixture, row: Row): Question {
  const { to, protocol, family } = row
  const from = row.from === 'ext2' ? second.ext[family] : undefined
  const question = (address: string, port: number): Question => ({ protocol, to: address, port, from })
  if (to === 'void' || to === 'leak') return question(unallocated[to][family], 80)
  if (to.startsWith('=')) return question(world.addressOf(to.slice(1) as StationName, family), 8080)
  const [, name = '', mark = '', place = ''] = /^(\w+)([+@:]?)(\w*)$/.exec(to) ?? []
  const service = fixture[name]
  if (service === undefined) throw new Error(`no Service "${name}"`)
  if (mark === '@') {
    const addresses: Readonly<Record<string, string>> = {
      A2: second.A[family],
      lo: family === 'inet' ? '127.0.0.1' : '::1',
    }
    return question(addresses[place] ?? world.addressOf(place as StationName, family), nodePortOf(service))
  }
  if (mark === '+') {
    const number = place === 'lb' ? service.lb : service.x
    return question(externalAddress(number ?? 0)[family], service.port)
  }
  return question(service.clusterIP[family], mark === ':' ? Number(place) : service.port)
}

/** "a1@A b1", "refused": of an answer or of what is expected. */
function textOf(world: ServiceWorld, row: Row, answer: Answer, asker: string): string {
  if (answer.kind !== 'answered') return answer.kind
  const { by, port, seen } = answer
  const same = seen === asker
  const node = (['A', 'B'] as const).find(each => world.nodeAddresses(each).has(seen))
  const expected = typeof row.expected === 'string' ? undefined : row.expected.find(each => each.by === by)
  // A node that asks is both: it sees itself, under whatever address.
  const who =
    expected?.masqueradedBy !== undefined && node === expected.masqueradedBy
      ? `@${node}`
      : same
        ? ''
        : `@${node ?? seen}`
  return `${by}${port === 8080 ? '' : `:${port}`}${who}`
}

export interface RowResult {
  readonly row: Row
  /** What was seen, each once: "a1@A b1", "refused", "refused after 1043 ms". */
  readonly seen: string
  readonly wanted: string
  /** Questions asked. */
  readonly asked: number
}

export function nameOf({ from, to, protocol, family }: Row): string {
  return `${from} -> ${to} ${protocol} ${family === 'inet' ? 'IPv4' : 'IPv6'}`
}

/** Asks until every expected backend has answered: with two, some 6 times; 90 in vain are none of chance (2^-90). */
const most = 90
const least = 4

export async function runRow(world: ServiceWorld, fixture: Fixture, row: Row): Promise<RowResult> {
  const station = world.station[row.from === 'ext2' ? 'ext' : row.from]
  const asker = row.from === 'ext2' ? second.ext[row.family] : world.addressOf(row.from, row.family)
  const { expected } = row
  const wanted =
    typeof expected === 'string'
      ? [expected]
      : expected.map(
          ({ by, port, masqueradedBy }) =>
            `${by}${port === 8080 ? '' : `:${port}`}${masqueradedBy === undefined ? '' : `@${masqueradedBy}`}`,
        )
  const question = destinationOf(world, fixture, row)
  const seen = new Set<string>()
  let asked = 0
  const wrong = (): boolean => [...seen].some(each => !wanted.includes(each))
  do {
    const batch = expected === 'dropped' ? 1 : expected === 'refused' ? 2 : least
    const answers = await Promise.all(Array.from({ length: batch }, () => station.ask(question)))
    asked += batch
    for (const answer of answers) {
      const late = answer.kind === 'refused' && answer.ms > 1000
      const odd = answer.kind === 'refused' && answer.code !== 'ECONNREFUSED'
      seen.add(
        `${textOf(world, row, answer, asker)}${late ? ` after ${Math.round(answer.ms)} ms` : ''}${
          odd ? ` by ${answer.code}` : ''
        }`,
      )
    }
  } while (typeof expected !== 'string' && !wrong() && seen.size < wanted.length && asked < most)
  return { row, asked, seen: [...seen].sort().join(' '), wanted: [...wanted].sort().join(' ') }
}

/** Runs rows, many at the same time; the results in the order of the rows. */
export async function runRows(
  world: ServiceWorld,
  fixture: Fixture,
  rows: readonly Row[],
): Promise<readonly RowResult[]> {
  const results: RowResult[] = []
  const queue = [...rows.entries()]
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, row] = next
      results[index] = await runRow(world, fixture, row)
    }
  }
  await Promise.all(Array.from({ length: 40 }, work))
  return results
}
