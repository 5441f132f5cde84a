// What one apply() of links is about to send, and who asked for it: gathered, as thousands of links in one go cost a tenth
// of what they cost one by one; and while the kernel works on some, the next are made ready.
import { readFileSync, writeFileSync } from 'node:fs'
import { asError, type WarrenError } from '../../../lib/errors.js'
import { inLanes } from '../../../lib/lanes.js'
import type { Link, Rtnl, RtnlOp } from '../../../lib/netlink/types.js'
import type { PluggedEnd } from '../links-first.js'
import type { Space } from '../spaces.js'

export interface LinkDraftOptions {
  readonly space: Space
  /** Of the host's namespace, where VXLAN devices come from. */
  readonly host: Rtnl
  readonly signal: AbortSignal
  failed(i: number, error: WarrenError): void
  /** Sets up an end that was just made in a container, before its link goes up. Never rejected. Undefined: that is done later. */
  readonly plugged: ((end: PluggedEnd) => Promise<void>) | undefined
}

interface Said {
  readonly i: number
  readonly op: RtnlOp
}

interface Plug {
  readonly i: number
  readonly end: PluggedEnd
}

/** Containers' namespaces that are opened until their links are made and set up; two such lots may be on their way meanwhile. */
const mostOpened = 128
/** Containers that are set up at a time: all want RTNL, as does the making of links. */
const lanes = 2
/** Of links that are made from now on. */
const defaults = '/proc/sys/net/ipv6/conf/default'

/** False: a kernel without IPv6, or a /proc/sys that is read only; each link is told then. */
function setDefault(space: Space, name: 'addr_gen_mode' | 'disable_ipv6', value: '0' | '1'): boolean {
  const path = `${defaults}/${name}`
  try {
    return space.netns.run(() => {
      if (readFileSync(path, 'latin1').trim() !== value) writeFileSync(path, value)
      return true
    })
  } catch {
    return false
  }
}

export class LinkDraft {
  readonly signal: AbortSignal
  readonly #options: LinkDraftOptions
  #messages: Said[] = []
  #births: Said[] = []
  /** After the births. */
  #later: Said[] = []
  #plugs: Plug[] = []
  /** When the containers are set up, too: ports that go up. */
  #last: Said[] = []
  readonly #failed = new Set<number>()
  /** The last two that were sent and not waited for. Never rejected. */
  #older: Promise<void> = Promise.resolve()
  #newer: Promise<void> = Promise.resolve()
  #links: Map<string, Link> | undefined
  #bornWithout: boolean | undefined
  /** What the namespace's default is now, as far as it was set here. */
  #ipv6: boolean | undefined

  constructor(options: LinkDraftOptions) {
    this.#options = options
    this.signal = options.signal
  }

  /** In order, for the op of that index. */
  say(i: number, op: RtnlOp): void {
    const list = this.#births.length > 0 ? this.#later : this.#messages
    list.push({ i, op })
  }

  /** A link that the host's namespace makes in ours, and what is said of it then. */
  bear(i: number, link: Link, then: Link): void {
    this.#births.push({ i, op: { verb: 'add', object: link } })
    this.#later.push({ i, op: { verb: 'set', object: then } })
  }

  /**
   * A link with an end in a container, whose handle is closed then. Where the end is set up first, all but "up" is said while the
   * link is down: of one that is up the kernel tells everybody each time.
   */
  plug(i: number, link: Link, end: PluggedEnd): void {
    const { up, ...down } = link
    const { kind, name, info } = link
    const whole = this.#options.plugged === undefined
    // What it replaces may have gone by itself.
    this.#failed.delete(i)
    this.say(i, { verb: 'add', object: whole ? link : down })
    this.#plugs.push({ i, end })
    if (whole || up !== true) return
    this.#last.push({
      i,
      op: { verb: 'set', object: { kind, name, info: { kind: 'other', name: info.kind }, up } },
    })
  }

  /** The link without what it is born with anyway. */
  without<T extends Link>(link: T): T {
    if (link.addrGenMode !== 'none') return link
    this.#bornWithout ??= setDefault(this.#options.space, 'addr_gen_mode', '1')
    return this.#bornWithout ? { ...link, addrGenMode: undefined } : link
  }

  /** Do links that are made from here on have IPv6? Without it from birth a port joins no groups and sends no report. */
  async born(ipv6: boolean): Promise<void> {
    if (this.#ipv6 === ipv6) return
    await this.flush()
    setDefault(this.#options.space, 'disable_ipv6', ipv6 ? '0' : '1')
    this.#ipv6 = ipv6
  }

  /** What is in the namespace now. */
  async links(): Promise<ReadonlyMap<string, Link>> {
    await this.flush()
    if (this.#links === undefined) {
      const links = await this.#options.space.rtnl.list('link', {}, this.signal)
      this.#links = new Map(links.map(link => [link.name, link]))
    }
    return this.#links
  }

  /** Links came here by another way. */
  forget(): void {
    this.#links = undefined
  }

  /** Waits until one more namespace may be opened. */
  async room(): Promise<void> {
    if (this.#plugs.length < mostOpened) return
    await this.#older
    this.#start()
  }

  /** All that was said is done. */
  async flush(): Promise<void> {
    this.#start()
    await Promise.all([this.#older, this.#newer])
    const last = this.#last
    this.#last = []
    await this.#send(this.#options.space.rtnl, this.#unfailed(last))
  }

  #start(): void {
    const [messages, births, later, plugs] = [this.#messages, this.#births, this.#later, this.#plugs]
    this.#messages = []
    this.#births = []
    this.#later = []
    this.#plugs = []
    this.#older = Promise.all([this.#older, this.#newer]).then(() => undefined)
    this.#newer = this.#sendAll(messages, births, later)
      .then(() => this.#setUp(plugs))
      .finally(() => {
        for (const { end } of plugs) end.netns.close()
      })
  }

  async #sendAll(messages: readonly Said[], births: readonly Said[], later: readonly Said[]): Promise<void> {
    const { space, host } = this.#options
    await this.#send(space.rtnl, messages)
    await this.#send(host, births)
    await this.#send(space.rtnl, this.#unfailed(later))
  }

  /** What was refused has nothing more to be said of it. */
  #unfailed<T extends { readonly i: number }>(all: readonly T[]): readonly T[] {
    return all.filter(({ i }) => !this.#failed.has(i))
  }

  async #setUp(plugs: readonly Plug[]): Promise<void> {
    const { plugged } = this.#options
    if (plugged === undefined) return
    await inLanes(lanes, this.#unfailed(plugs), ({ end }) => plugged(end))
  }

  async #send(rtnl: Rtnl, said: readonly Said[]): Promise<void> {
    if (said.length === 0) return
    this.#links = undefined
    const ops = said.map(({ op }) => op)
    const answers = await rtnl
      .apply(ops, this.signal)
      .catch((error: unknown) => ops.map(() => asError(error)))
    said.forEach(({ i }, n) => {
      const error = answers[n]
      if (error === undefined) return
      this.#failed.add(i)
      this.#options.failed(i, error)
    })
  }

  /** Nothing is on its way any more. */
  async close(): Promise<void> {
    await this.flush()
    // What moves here comes with what it has.
    if (this.#ipv6 === false) setDefault(this.#options.space, 'disable_ipv6', '0')
  }
}
