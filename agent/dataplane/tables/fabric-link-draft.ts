// What one apply() of links is about to send, and who asked for it: gathered, as thousands of links in one go cost a tenth
// of what they cost one by one.
import { readFileSync, writeFileSync } from 'node:fs'
import type { WarrenError } from '../../../lib/errors.js'
import type { Link, Rtnl, RtnlOp } from '../../../lib/netlink/types.js'
import type { Netns } from '../../../lib/netns/netns.js'
import type { Space } from '../spaces.js'

export interface LinkDraftOptions {
  readonly space: Space
  /** Of the host's namespace, where VXLAN devices come from. */
  readonly host: Rtnl
  readonly signal: AbortSignal
  failed(i: number, error: WarrenError): void
}

interface Said {
  readonly i: number
  readonly op: RtnlOp
}

/** Containers' namespaces that are held open at a time. */
const mostOpened = 256
const genMode = '/proc/sys/net/ipv6/conf/default/addr_gen_mode'
const genModeNone = '1'

/** Links that are made in there from now on have no link-local address of their own. */
function bornWithoutAddress(space: Space): boolean {
  try {
    return space.netns.run(() => {
      if (readFileSync(genMode, 'latin1').trim() !== genModeNone) writeFileSync(genMode, genModeNone)
      return true
    })
  } catch {
    return false // a kernel without IPv6, or a /proc/sys that is read only: each link is told
  }
}

export class LinkDraft {
  readonly signal: AbortSignal
  readonly #options: LinkDraftOptions
  readonly #messages: Said[] = []
  readonly #births: Said[] = []
  /** After the births. */
  readonly #later: Said[] = []
  readonly #opened: Netns[] = []
  #links: Map<string, Link> | undefined
  #bornWithout: boolean | undefined

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

  /** The link without what it is born with anyway. */
  without<T extends Link>(link: T): T {
    if (link.addrGenMode !== 'none') return link
    this.#bornWithout ??= bornWithoutAddress(this.#options.space)
    return this.#bornWithout ? { ...link, addrGenMode: undefined } : link
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

  /** Where handles go that have to stay open until what needs them is sent. */
  async handles(): Promise<Netns[]> {
    if (this.#opened.length >= mostOpened) {
      await this.flush()
      this.close()
    }
    return this.#opened
  }

  async flush(): Promise<void> {
    const { space, host } = this.#options
    const failed = new Set<number>()
    await this.#send(space.rtnl, this.#messages.splice(0), failed)
    await this.#send(host, this.#births.splice(0), failed)
    await this.#send(
      space.rtnl,
      this.#later.splice(0).filter(({ i }) => !failed.has(i)),
      failed,
    )
  }

  async #send(rtnl: Rtnl, said: readonly Said[], failed: Set<number>): Promise<void> {
    if (said.length === 0) return
    this.#links = undefined
    const answers = await rtnl.apply(
      said.map(({ op }) => op),
      this.signal,
    )
    said.forEach(({ i }, n) => {
      const error = answers[n]
      if (error === undefined) return
      failed.add(i)
      this.#options.failed(i, error)
    })
  }

  close(): void {
    for (const netns of this.#opened.splice(0)) netns.close()
  }
}
