// One suite for the fake and the kernel: what Nft promises, in namespaces of our own.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { WarrenError } from '../../lib/errors.js'
import { childArgv } from '../../lib/netns/child.js'
import { anonymousNetns, type Netns } from '../../lib/netns/netns.js'
import { elementKey, elementText, nftElement } from '../../lib/nftables/elements.js'
import { fakeNft } from '../../lib/nftables/fake.js'
import { monitorNft } from '../../lib/nftables/monitor.js'
import { type Nft, openNft } from '../../lib/nftables/nft.js'
import type { NftElement, NftEvent, NftSetRef, NftTableSpec } from '../../lib/nftables/types.js'

interface Subject {
  readonly nft: Nft
  /** nft commands by somebody else's hand. */
  readonly hand: {
    flushRuleset(): void
    load(spec: NftTableSpec): void
    /** Deletes the first rule of chain "input". */
    deleteRule(table: NftTableSpec): void
    addElement(element: NftElement): void
  }
  readonly comm: string
  monitor(onEvent: (event: NftEvent) => void): { close(): void }
  close(): void
}

const scratch = mkdtempSync(join(tmpdir(), 'wt-nft-'))
t.teardown(() => rmSync(scratch, { recursive: true }))

function fakeSubject(): Subject {
  const nft = fakeNft()
  return {
    nft,
    hand: {
      flushRuleset: () => nft.foreign.flushRuleset(),
      load: spec => nft.foreign.load(spec),
      deleteRule: spec => void nft.foreign.deleteRule(spec, 'input', 'udp dport 4789 goto members'),
      addElement: element => nft.foreign.addElement(element),
    },
    comm: 'nft',
    monitor: onEvent => nft.monitor(onEvent),
    close: () => nft.close(),
  }
}

function kernelSubject(
  compiler: 'library' | 'binary',
): Subject & { readonly netns: Netns; run(...args: string[]): string } {
  const netns = anonymousNetns()
  const nft = openNft(netns, { compiler })
  const run = (...args: string[]): string =>
    execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${netns.fd}`, 'nft', ...args], {
      encoding: 'utf8',
    })
  return {
    nft,
    netns,
    run,
    hand: {
      flushRuleset: () => void run('flush', 'ruleset'),
      load: spec => void run(`table ${spec.family} ${spec.name} { ${spec.text}\n }`),
      deleteRule: ({ family, name }) => {
        const handle = /udp dport 4789 goto members # handle (\d+)/.exec(
          run('-a', 'list', 'table', family, name),
        )?.[1]
        run('delete', 'rule', family, name, 'input', 'handle', handle ?? '')
      },
      addElement: element => {
        const { family, table, set } = element.set
        run(`add element ${family} ${table} ${set} { ${elementText(element)} }`)
      },
    },
    comm: 'nft',
    monitor: onEvent => monitorNft(netns, onEvent, { own: nft.portIds }),
    close: () => {
      nft.close()
      netns.close()
    },
  }
}

const sets = `
	set vteps {
		typeof @th,96,24 . ip saddr
	}
	map to {
		type ifname : verdict
	}
`
const chains = `
	chain raw {
		type filter hook prerouting priority raw; policy accept
		udp dport 4789 @th,96,24 . ip saddr @vteps notrack
	}
	chain input {
		type filter hook input priority filter; policy accept
		udp dport 4789 goto members
		iifname vmap @to
	}
	chain members {
		@th,96,24 . ip saddr @vteps counter accept
		ip saddr { 192.0.2.0/24, 198.51.100.7 } counter drop
	}
`
const spec: NftTableSpec = { family: 'inet', name: 'warren-t', text: sets + chains }
const vteps: NftSetRef = {
  family: 'inet',
  table: 'warren-t',
  set: 'vteps',
  fields: ['integer24', 'ipv4_addr'],
}
const to: NftSetRef = { family: 'inet', table: 'warren-t', set: 'to', fields: ['ifname'], data: 'verdict' }
const member = (vni: number, address: string): NftElement => nftElement(vteps, [String(vni), address])
const keys = async (nft: Nft, set: NftSetRef): Promise<string[]> =>
  (await nft.elements(set)).map(elementKey).sort()
const add = (element: NftElement) => ({ verb: 'add' as const, element })
const remove = (element: NftElement) => ({ verb: 'delete' as const, element })

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setImmediate(resolve))
}

function contract(name: string, open: () => Subject): void {
  t.test(`${name}: a fresh table comes with its elements and compares equal to its text`, async t => {
    const { nft, close } = open()
    t.teardown(close)
    t.equal(await nft.current('inet', 'warren-t'), undefined)
    await t.rejects(nft.elements(vteps), { code: 'ENOENT' })
    await nft.load(spec, [member(1, '192.0.2.2'), nftElement(to, ['wrn0'], ['goto members'])])
    t.equal(await nft.current('inet', 'warren-t'), await nft.canonical(spec))
    t.same(await nft.elements(vteps), [member(1, '192.0.2.2')])
    t.same(await nft.elements(to), [nftElement(to, ['wrn0'], ['goto members'])])
    t.same(await nft.tables(), [{ family: 'inet', name: 'warren-t' }])
    const other: NftTableSpec = { ...spec, text: spec.text.replace('198.51.100.7', '198.51.100.8') }
    t.not(await nft.canonical(other), await nft.canonical(spec), 'what is in an anonymous set matters')
    t.same(
      (await nft.baseChains()).map(({ chain, hook, priority, policy }) => [chain, hook, priority, policy]),
      [
        ['raw', 'prerouting', -300, 'accept'],
        ['input', 'input', 0, 'accept'],
      ],
    )
  })

  t.test(`${name}: what a load has put in is what is listed, as long as nobody else writes`, async t => {
    const { nft, hand, close } = open()
    t.teardown(close)
    const own = [member(1, '192.0.2.2'), member(2, '192.0.2.2')]
    const guard = nftElement(to, ['wrn0'], ['goto members'])
    const afresh = async (): Promise<void> => {
      await nft.remove('inet', 'warren-t')
      await nft.load(spec, [guard, ...own])
    }
    await afresh()
    for (const who of ['of the load', 'of the kernel']) {
      t.same(await keys(nft, vteps), own.map(elementKey), who)
      t.same(await nft.elements(to), [guard], who)
    }
    await afresh()
    hand.addElement(member(3, '192.0.2.3'))
    t.same(await keys(nft, vteps), [...own, member(3, '192.0.2.3')].map(elementKey), 'a foreign hand')
    await afresh()
    await nft.applyElements([remove(member(1, '192.0.2.2'))])
    t.same(await keys(nft, vteps), [elementKey(member(2, '192.0.2.2'))], 'a hand of our own')
    await afresh()
    await nft.load({ ...spec, name: 'warren-u' })
    t.same(await keys(nft, vteps), own.map(elementKey), 'another table of ours')
    await nft.remove('inet', 'warren-t')
    await t.rejects(nft.elements(to), { code: 'ENOENT' }, 'gone is gone')
  })

  t.test(`${name}: the same text once more writes nothing`, async t => {
    const { nft, monitor, close } = open()
    t.teardown(close)
    await nft.load(spec)
    const events: NftEvent[] = []
    const watch = monitor(event => events.push(event))
    t.teardown(() => watch.close())
    await nft.load(spec)
    await nft.applyElements([add(member(9, '192.0.2.9'))])
    await until(() => events.length > 0)
    t.equal(events.length, 1, 'only the element was written')
  })

  t.test(`${name}: a changed chain is changed, elements of unchanged sets stay`, async t => {
    const { nft, close } = open()
    t.teardown(close)
    const before = [member(1, '192.0.2.2'), member(2, '192.0.2.2')]
    await nft.load(spec, before)
    await nft.applyElements([add(nftElement(to, ['wrn0'], ['goto members']))])
    const changed: NftTableSpec = {
      ...spec,
      text: spec.text.replace(
        'policy accept\n\t\tudp dport 4789 goto',
        'policy drop\n\t\tudp dport 4790 goto',
      ),
    }
    await nft.load(changed, [member(77, '192.0.2.77')])
    t.equal(await nft.current('inet', 'warren-t'), await nft.canonical(changed))
    t.not(await nft.canonical(changed), await nft.canonical(spec))
    t.same(await keys(nft, vteps), before.map(elementKey), 'initial elements are for sets that are made')
    t.same(await nft.elements(to), [nftElement(to, ['wrn0'], ['goto members'])])
    t.equal((await nft.baseChains()).find(({ chain }) => chain === 'input')?.policy, 'drop')
  })

  t.test(
    `${name}: sets and chains come and go, an element that leads to a gone chain goes with it`,
    async t => {
      const { nft, close } = open()
      t.teardown(close)
      const gone = nftElement(to, ['eth0'], ['jump members'])
      const stays = nftElement(to, ['eth1'], ['drop'])
      await nft.load(spec, [member(1, '192.0.2.2'), gone, stays])
      const typed: NftTableSpec = {
        ...spec,
        text: `
	set vteps {
		type ipv6_addr
	}
	set more {
		type ipv4_addr
	}
	map to {
		type ifname : verdict
	}
	chain input {
		type filter hook input priority 10; policy accept
		ip6 saddr @vteps accept
		ip saddr @more accept
		iifname vmap @to
	}
`,
      }
      const vteps6: NftSetRef = { ...vteps, fields: ['ipv6_addr'] }
      await nft.load(typed, [nftElement(vteps6, ['fd00::1']), nftElement(to, ['eth9'], ['accept'])])
      t.equal(await nft.current('inet', 'warren-t'), await nft.canonical(typed))
      t.same(
        await nft.elements(vteps6),
        [nftElement(vteps6, ['fd00::1'])],
        'a set of another type is made anew',
      )
      t.same(await nft.elements(to), [stays])
      await nft.load(spec, [])
      t.equal(await nft.current('inet', 'warren-t'), await nft.canonical(spec), 'and back')
    },
  )

  t.test(
    `${name}: a set that changes under rules that do not: given elements, or its own when they fit`,
    async t => {
      const { nft, close } = open()
      t.teardown(close)
      const table = (declaration: string): NftTableSpec => ({
        family: 'ip',
        name: 'warren-t',
        text: `
	set members {
		${declaration}
	}
	chain input {
		type filter hook input priority filter; policy accept
		ip saddr @members accept
	}
`,
      })
      const set: NftSetRef = { family: 'ip', table: 'warren-t', set: 'members', fields: ['ipv4_addr'] }
      const [one, two] = [nftElement(set, ['192.0.2.1']), nftElement(set, ['192.0.2.2'])]
      await nft.load(table('type ipv4_addr'), [one])
      await nft.load(table('type ipv4_addr\n\t\tsize 100'))
      t.equal(await nft.current('ip', 'warren-t'), await nft.canonical(table('type ipv4_addr\n\t\tsize 100')))
      t.same(await nft.elements(set), [one], 'carried over')
      await nft.load(table('type ipv4_addr\n\t\tsize 200'), [two])
      t.same(await nft.elements(set), [two], 'as given')
      await nft.load(table('type ipv4_addr\n\t\tflags timeout'))
      t.equal(
        await nft.current('ip', 'warren-t'),
        await nft.canonical(table('type ipv4_addr\n\t\tflags timeout')),
      )
      t.same(await nft.elements(set), [], 'another layout starts empty')
    },
  )

  t.test(`${name}: a failing op says why and does not stop the others`, async t => {
    const { nft, close } = open()
    t.teardown(close)
    await nft.load(spec, [member(1, '192.0.2.1')])
    const results = await nft.applyElements([
      add(member(2, '192.0.2.2')),
      remove(member(3, '192.0.2.3')),
      add(member(1, '192.0.2.1')),
      add(nftElement(to, ['eth0'], ['goto nowhere'])),
      remove(member(1, '192.0.2.1')),
      add(nftElement({ ...vteps, set: 'nosuch' }, ['1', '192.0.2.1'])),
    ])
    t.same(
      results.map(result => result?.code),
      [undefined, 'ENOENT', undefined, 'ENOENT', undefined, 'ENOENT'],
    )
    t.ok(results[1] instanceof WarrenError)
    t.equal(results[1]?.message, 'Cannot delete element "inet warren-t vteps { 0x3 . 192.0.2.3 }": ENOENT')
    t.same(await keys(nft, vteps), [elementKey(member(2, '192.0.2.2'))])
    t.same(await nft.applyElements([]), [])
  })

  t.test(`${name}: the data of a map's element changes by delete and add, in one transaction`, async t => {
    const { nft, monitor, close } = open()
    t.teardown(close)
    const one = nftElement(to, ['eth0'], ['drop'])
    const two = nftElement(to, ['eth0'], ['accept'])
    await nft.load(spec, [one])
    const events: NftEvent[] = []
    const watch = monitor(event => events.push(event))
    t.teardown(() => watch.close())
    t.same(
      (await nft.applyElements([add(two)])).map(result => result?.code),
      ['EEXIST'],
      'not by add alone',
    )
    t.same(await nft.applyElements([remove(one), add(two)]), [undefined, undefined])
    t.same(await nft.elements(to), [two])
    await until(() => events.length > 0)
    t.equal(events.length, 1)
  })

  t.test(`${name}: foreign tables are left alone, removal takes only what is named`, async t => {
    const { nft, hand, close } = open()
    t.teardown(close)
    const foreign: NftTableSpec = {
      family: 'ip',
      name: 'theirs',
      text: '\n chain forward {\n type filter hook forward priority 5; policy drop\n }',
    }
    hand.load(foreign)
    const before = await nft.current('ip', 'theirs')
    await nft.load(spec)
    await nft.load({ ...spec, text: sets })
    await nft.remove('inet', 'warren-t')
    await nft.remove('inet', 'warren-t')
    t.same(await nft.tables(), [{ family: 'ip', name: 'theirs' }])
    t.equal(await nft.current('ip', 'theirs'), before)
    t.match(await nft.baseChains(), [
      {
        family: 'ip',
        table: 'theirs',
        chain: 'forward',
        hook: 'forward',
        priority: 5,
        policy: 'drop',
        dormant: false,
      },
    ])
  })

  t.test(`${name}: the monitor names the author and the tables, and tells our own echoes`, async t => {
    const { nft, hand, comm, monitor, close } = open()
    t.teardown(close)
    const events: NftEvent[] = []
    const watch = monitor(event => events.push(event))
    t.teardown(() => watch.close())
    const last = async (count: number): Promise<NftEvent | undefined> => {
      await until(() => events.length >= count)
      return events.at(-1)
    }
    await nft.load(spec, [member(1, '192.0.2.1')])
    t.match(await last(1), { event: 'generation', own: true, tables: [{ family: 'inet', name: 'warren-t' }] })
    hand.addElement(member(2, '192.0.2.2'))
    const foreign = await last(2)
    t.match(foreign, {
      event: 'generation',
      own: false,
      comm,
      tables: [{ family: 'inet', name: 'warren-t' }],
    })
    t.ok(foreign?.event === 'generation' && foreign.pid > 0 && !nft.portIds.has(foreign.portId))
    await nft.applyElements([remove(member(2, '192.0.2.2'))])
    t.match(await last(3), { event: 'generation', own: true })
  })

  t.test(`${name}: a rule deleted by a foreign hand, a flushed ruleset: seen, then healed`, async t => {
    const { nft, hand, monitor, close } = open()
    t.teardown(close)
    await nft.load(spec, [member(1, '192.0.2.1')])
    const wanted = await nft.canonical(spec)
    const events: NftEvent[] = []
    const watch = monitor(event => events.push(event))
    t.teardown(() => watch.close())
    hand.deleteRule(spec)
    const damaged = await nft.current('inet', 'warren-t')
    t.not(damaged, wanted)
    t.type(damaged, 'string')
    await nft.load(spec)
    t.equal(await nft.current('inet', 'warren-t'), wanted)
    t.same(await nft.elements(vteps), [member(1, '192.0.2.1')], 'the repair keeps the elements')
    hand.flushRuleset()
    t.equal(await nft.current('inet', 'warren-t'), undefined)
    await until(() => events.length >= 3)
    t.match(events.at(-1), { own: false, tables: [{ family: 'inet', name: 'warren-t' }] })
    await nft.load(spec, [member(5, '192.0.2.5')])
    t.equal(await nft.current('inet', 'warren-t'), wanted)
    t.same(await nft.elements(vteps), [member(5, '192.0.2.5')])
  })

  t.test(`${name}: a text with an error is refused with its line, and what is there stays`, async t => {
    const { nft, close } = open()
    t.teardown(close)
    await nft.load(spec)
    const wrong: NftTableSpec = {
      ...spec,
      text: spec.text.replace('saddr @vteps notrack', 'saddr @nosuch notrack'),
    }
    const error = await nft.load(wrong).then(
      () => undefined,
      (reason: unknown) => reason,
    )
    t.match(error, { code: 'ENOENT' })
    t.match(
      (error as Error).message,
      /^Cannot load table "inet warren-t", line .*@nosuch notrack": .*No such file or directory/,
    )
    t.equal(await nft.current('inet', 'warren-t'), await nft.canonical(spec))
  })

  t.test(`${name}: ten thousand elements in, seen, and out again`, async t => {
    const { nft, close } = open()
    t.teardown(close)
    await nft.load(spec)
    const many = Array.from({ length: 10_000 }, (_, i) => member(i, `10.0.${i >> 8}.${i & 255}`))
    t.ok((await nft.applyElements(many.map(add))).every(result => result === undefined))
    t.same(await keys(nft, vteps), many.map(elementKey).sort())
    const mixed = [...many.map(remove), remove(member(1, '192.0.2.1'))]
    const results = await nft.applyElements(mixed)
    t.equal(results.filter(result => result !== undefined).length, 1)
    t.equal(results.at(-1)?.code, 'ENOENT')
    t.same(await nft.elements(vteps), [])
  })
}

contract('fake', fakeSubject)
contract('kernel, libnftables', () => kernelSubject('library'))

t.test('kernel, nft program: compiles to the same as libnftables', async t => {
  const { nft, close } = kernelSubject('binary')
  const library = kernelSubject('library')
  t.teardown(close)
  t.teardown(() => library.close())
  await nft.load(spec)
  t.equal(await nft.current('inet', 'warren-t'), await library.nft.canonical(spec))
  await t.rejects(nft.load({ ...spec, text: 'chain x {\n\tip saddr 192.0.2.1 acept\n}' }), {
    code: 'NFT',
    message: /^Cannot load table "inet warren-t", line 2 "ip saddr 192.0.2.1 acept": syntax error/,
  })
})

t.test('kernel: compiles with more descriptors open than select(2) can wait for', async t => {
  const { nft, close } = kernelSubject('library')
  t.teardown(close)
  const wanted = await nft.canonical(spec)
  const many = Array.from({ length: 1_100 }, () => openSync('/dev/null', 'r'))
  t.teardown(() => many.forEach(closeSync))
  const { nft: another, close: closeAnother } = kernelSubject('library')
  t.teardown(closeAnother)
  t.equal(await another.canonical(spec), wanted)
})

t.test('kernel: compiles while signals come in, as of children that end', async t => {
  const { nft, close } = kernelSubject('library')
  t.teardown(close)
  const wanted = await nft.canonical(spec)
  let count = 0
  const counted = (): void => {
    count += 1
  }
  process.on('SIGWINCH', counted)
  const script = `for ((i = 0; i < 5000000; i++)); do kill -WINCH ${process.pid} || exit; done`
  const child = spawn('bash', ['-c', script], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
    process.off('SIGWINCH', counted)
  })
  while (count === 0) await new Promise(setImmediate)
  for (let i = 0; i < 30; i += 1) {
    // A text that was not compiled yet.
    const text = `${spec.text}\n\tchain number-${i} {\n\t}\n`
    t.match(await nft.canonical({ ...spec, text }), `number-${i}`)
  }
  t.equal(child.exitCode, null, 'they came to the end')
  t.equal(await nft.canonical(spec), wanted)
})

t.test('kernel: a counter that counts, a rule at another handle and a set in use change nothing', async t => {
  const { nft, run, close } = kernelSubject('library')
  t.teardown(close)
  await nft.load(spec)
  const wanted = await nft.current('inet', 'warren-t')
  run('insert rule inet warren-t input counter packets 5 bytes 500 accept')
  const extra =
    /counter packets 5 bytes 500 accept # handle (\d+)/.exec(run('-a', 'list', 'ruleset'))?.[1] ?? ''
  t.not(await nft.current('inet', 'warren-t'), wanted)
  run('delete', 'rule', 'inet', 'warren-t', 'input', 'handle', extra)
  t.equal(await nft.current('inet', 'warren-t'), wanted)
  run('add table inet warren-t { flags dormant; }')
  t.not(await nft.current('inet', 'warren-t'), wanted, 'a table that sleeps is not as wanted')
  await nft.load(spec)
  t.equal(await nft.current('inet', 'warren-t'), wanted)
})

t.test('kernel: whatever a foreign hand puts into our table is seen and goes again', async t => {
  const { nft, run, close } = kernelSubject('library')
  t.teardown(close)
  await nft.load(spec, [member(1, '192.0.2.1')])
  const wanted = await nft.current('inet', 'warren-t')
  const tried: string[] = []
  for (const command of [
    'add set inet warren-t theirs { type ipv4_addr; elements = { 192.0.2.9 }; }',
    'add chain inet warren-t theirs { type filter hook output priority 0; policy drop; }',
    'add counter inet warren-t theirs',
    'add flowtable inet warren-t theirs { hook ingress priority 0; devices = { lo }; }',
    'add chain inet warren-t theirs; add rule inet warren-t theirs counter; insert rule inet warren-t input jump theirs',
    'add chain inet warren-t input { policy drop; }',
    'flush table inet warren-t',
  ]) {
    try {
      run(command)
    } catch {
      continue // this kernel does not have it
    }
    tried.push(command)
    t.not(await nft.current('inet', 'warren-t'), wanted, command)
    await nft.load(spec)
    t.equal(await nft.current('inet', 'warren-t'), wanted)
  }
  t.ok(tried.length > 4)
  t.same(await nft.elements(vteps), [member(1, '192.0.2.1')])
})

t.test('kernel: what it lists is nft text that nft takes back', async t => {
  const { nft, run, close } = kernelSubject('library')
  t.teardown(close)
  await nft.load(spec, [member(0x3e9, '192.0.2.2')])
  const listing = run('list', 'ruleset')
  t.match(listing, /elements = \{ 0x3e9 \. 192\.0\.2\.2 \}/)
  t.match(listing, /udp dport 4789 @th,96,24 \. ip saddr @vteps notrack/)
  t.match(listing, /ip saddr \{ 192\.0\.2\.0\/24, 198\.51\.100\.7 \}/)
  const before = await nft.current('inet', 'warren-t')
  const file = join(scratch, 'listing.nft')
  writeFileSync(file, `flush ruleset\n${listing}`)
  run('-f', file)
  t.equal(await nft.current('inet', 'warren-t'), before)
})

t.test('kernel: every statement comes back as it was compiled', async t => {
  const { nft, close } = kernelSubject('library')
  t.teardown(close)
  const declarations = `
	counter hits {
	}
	quota much {
		over 100 mbytes
	}
	set storm {
		type ipv4_addr
		size 65535
		flags dynamic
	}
	set timed {
		type ipv4_addr
		size 1000
		flags dynamic,timeout
		timeout 1h
	}
	set counting {
		type ipv4_addr
		counter
	}
	map translate {
		type ipv4_addr . inet_service : ipv4_addr . inet_service
	}
	map zones {
		typeof iifname : ct zone
	}
`
  const statements: readonly (readonly [hook: string, rule: string])[] = [
    ['filter hook prerouting priority raw', 'notrack'],
    ['filter hook prerouting priority raw', 'ct zone set iifname map @zones'],
    ['filter hook prerouting priority raw', 'fib saddr . iif oif missing drop'],
    ['filter hook prerouting priority mangle', 'meta mark set meta mark and 0xff00ffff or 0x00110000'],
    ['filter hook prerouting priority mangle', 'meta l4proto tcp tproxy ip to 127.0.0.1:1080 accept'],
    ['filter hook forward priority filter', 'ct state established,related accept'],
    ['filter hook forward priority filter', 'ct mark set ct mark and 0xffff0000 or 0x2'],
    ['filter hook forward priority filter', 'ct status dnat accept'],
    [
      'filter hook forward priority filter',
      'add @storm { ip saddr limit rate over 200/second burst 20 packets } drop',
    ],
    ['filter hook forward priority filter', 'add @storm { ip saddr ct count over 20 } drop'],
    ['filter hook forward priority filter', 'update @timed { ip saddr timeout 30s }'],
    ['filter hook forward priority filter', 'ip saddr @counting counter accept'],
    [
      'filter hook forward priority filter',
      'limit rate 10/second burst 5 packets log prefix "wt: " level info accept',
    ],
    ['filter hook forward priority filter', 'counter name "hits" accept'],
    ['filter hook forward priority filter', 'quota name "much" drop'],
    ['filter hook forward priority filter', 'quota over 5 mbytes drop'],
    ['filter hook forward priority filter', 'tcp flags syn tcp option maxseg size set rt mtu'],
    ['filter hook forward priority filter', 'tcp dport { 80, 443, 8000-8999 } reject with tcp reset'],
    [
      'filter hook forward priority filter',
      'ip saddr . tcp dport vmap { 192.0.2.1 . 80 : accept, 192.0.2.2 . 443 : drop }',
    ],
    ['filter hook forward priority filter', 'ip6 saddr { fd00::/48, fe80::/10 } meta priority set 1:2'],
    ['filter hook forward priority filter', 'ip dscp set cs1'],
    ['filter hook forward priority filter', 'numgen inc mod 2 vmap { 0 : accept, 1 : drop }'],
    ['filter hook forward priority filter', 'meta mark set jhash ip saddr . tcp sport mod 8'],
    ['filter hook forward priority filter', 'queue num 1 bypass'],
    ['filter hook input priority filter', 'socket transparent 1 accept'],
    ['filter hook input priority filter', 'meta skuid 0 accept'],
    [
      'filter hook input priority filter',
      'icmp type { echo-request, echo-reply } accept comment "ping is fine"',
    ],
    ['nat hook prerouting priority dstnat', 'dnat ip to ip daddr . tcp dport map @translate'],
    ['nat hook prerouting priority dstnat', 'tcp dport 80 redirect to :8080'],
    ['nat hook postrouting priority srcnat', 'ip saddr 10.0.0.0/8 masquerade fully-random'],
    ['nat hook postrouting priority srcnat', 'snat ip to 192.0.2.1-192.0.2.9 persistent'],
  ]
  const unknown: string[] = []
  for (const [i, [hook, rule]] of statements.entries()) {
    const one: NftTableSpec = {
      family: 'inet',
      name: `wt-${i}`,
      text: `${declarations}\tchain c {\n\t\ttype ${hook}; policy accept\n\t\t${rule}\n\t}\n`,
    }
    let wanted: string
    try {
      wanted = await nft.canonical(one)
    } catch {
      unknown.push(rule) // this kernel or this nft does not have it at all
      continue
    }
    await nft.load(one)
    t.equal(await nft.current('inet', one.name), wanted, rule)
    await nft.remove('inet', one.name)
  }
  t.comment(`not in this kernel or nft: ${unknown.join('; ') || 'none'}`)
  t.ok(unknown.length < statements.length / 3)
})

t.test('kernel: devices by index and netdev chains compile where the device is', async t => {
  const { nft, netns, run, close } = kernelSubject('library')
  t.teardown(close)
  const ip = (...args: string[]): void => {
    const [program, ...rest] = childArgv(netns, ['ip', ...args])
    execFileSync(program, rest)
  }
  const table: NftTableSpec = {
    family: 'netdev',
    name: 'warren-t',
    text: `
	chain announce {
		type filter hook ingress device "wt-port" priority 0; policy accept
		ether type arp dup to wt-uplink
		iif wt-port counter
	}
`,
  }
  await t.rejects(nft.load(table), { code: 'ENODEV' })
  ip('link', 'add', 'wt-port', 'index', '77', 'type', 'bridge')
  ip('link', 'add', 'wt-uplink', 'index', '78', 'type', 'bridge')
  await nft.load(table)
  t.equal(await nft.current('netdev', 'warren-t'), await nft.canonical(table))
  t.match(run('list', 'ruleset'), /dup to "wt-uplink"\n\t\tiif "wt-port" counter/)
  ip('link', 'delete', 'wt-port')
  t.not(await nft.current('netdev', 'warren-t'), undefined)
  ip('link', 'add', 'wt-port', 'index', '79', 'type', 'bridge')
  const wanted = await nft.canonical(table)
  t.not(await nft.current('netdev', 'warren-t'), wanted, 'a device that came again is another one')
  await nft.load(table)
  t.equal(await nft.current('netdev', 'warren-t'), wanted)
})

t.test('kernel: a load goes through while others keep committing', async t => {
  const { nft, netns, close } = kernelSubject('library')
  t.teardown(close)
  const [program, ...args] = childArgv(netns, [
    'sh',
    '-c',
    'echo go; while :; do nft add table ip noise; nft delete table ip noise; done',
  ])
  const noise = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true })
  t.teardown(() => noise.pid !== undefined && process.kill(-noise.pid))
  await new Promise(resolve => noise.stdout.once('data', resolve))
  for (let i = 0; i < 30; i += 1) {
    const changed: NftTableSpec = { ...spec, text: spec.text.replaceAll('4789', String(5000 + i)) }
    await nft.load(changed, [member(1, '192.0.2.1')])
    t.equal(await nft.current('inet', 'warren-t'), await nft.canonical(changed))
  }
  t.same(await nft.elements(vteps), [member(1, '192.0.2.1')])
})

t.test('kernel: elements by nft are read the same, intervals too', async t => {
  const { nft, run, close } = kernelSubject('library')
  t.teardown(close)
  const text = `
	set nets {
		type ipv4_addr
		flags interval
	}
	set pairs {
		type ipv6_addr . inet_service
		flags interval
	}
	map eps {
		typeof ip daddr . meta l4proto . th dport . numgen random mod 2 : ip daddr . th dport
	}
	set marks {
		type mark . ether_addr
	}
	set lease {
		type ipv4_addr
		flags timeout
	}
`
  await nft.load({ family: 'ip6', name: 'warren-u', text })
  const set = (name: string, ref: Omit<NftSetRef, 'family' | 'table' | 'set'>): NftSetRef => ({
    family: 'ip6',
    table: 'warren-u',
    set: name,
    ...ref,
  })
  const nets = set('nets', { fields: ['ipv4_addr'], interval: true })
  const pairs = set('pairs', { fields: ['ipv6_addr', 'inet_service'], interval: true })
  const eps = set('eps', {
    fields: ['ipv4_addr', 'inet_proto', 'inet_service', 'number'],
    data: ['ipv4_addr', 'inet_service'],
  })
  const marks = set('marks', { fields: ['mark', 'ether_addr'] })
  const lease = set('lease', { fields: ['ipv4_addr'] })
  const elements = [
    nftElement(nets, ['10.0.0.0/8']),
    nftElement(nets, ['192.0.2.1-192.0.2.5']),
    nftElement(nets, ['255.255.255.0/24']),
    nftElement(nets, ['0.0.0.0/8']),
    nftElement(pairs, ['fd00::/48', '80-90']),
    nftElement(eps, ['172.30.0.10', 'tcp', '80', '1'], ['10.1.1.3', '8080']),
    nftElement(marks, ['0x10000001', '0a:00:00:00:01:0b']),
    nftElement(lease, ['192.0.2.9'], undefined, 3_600_000),
  ]
  const sorted = (list: readonly NftElement[]): string[] => list.map(elementText).sort()
  const own = [nets, pairs, eps, marks, lease]
  const seen = async (): Promise<string[]> =>
    sorted((await Promise.all(own.map(ref => nft.elements(ref)))).flat())
  for (const element of elements.filter(({ set }) => set !== eps))
    run(`add element ip6 warren-u ${element.set.set} { ${elementText(element)} }`)
  t.same(await seen(), sorted(elements.filter(({ set }) => set !== eps)), 'written by nft, read by us')
  t.same(
    (await nft.applyElements(elements.filter(({ set }) => set !== eps).map(remove))).map(
      result => result?.code,
    ),
    Array(7).fill(undefined),
    'written by nft, deleted by us',
  )
  t.same(
    (await nft.applyElements(elements.map(add))).map(result => result?.message),
    Array(8).fill(undefined),
  )
  t.same(await seen(), sorted(elements))
  const listing = run('list', 'table', 'ip6', 'warren-u')
  t.match(listing, /10\.0\.0\.0\/8/)
  t.match(listing, /fd00::\/48 \. 80-90/)
  t.match(listing, /192\.0\.2\.9 timeout 1h/)
  t.match(listing, /172\.30\.0\.10 \. tcp \. 80 \. (1|0x1|0x00000001) : 10\.1\.1\.3 \. 8080/)
  await t.rejects(nft.elements({ ...nets, fields: ['ipv6_addr'] }), { code: 'EINVAL' })
})

t.test('kernel: 10,000 elements by raw netlink against nft -f', async t => {
  const { nft, run, close } = kernelSubject('library')
  t.teardown(close)
  await nft.load(spec)
  const many = Array.from({ length: 10_000 }, (_, i) => member(i, `10.0.${i >> 8}.${i & 255}`))
  const file = join(scratch, 'many.nft')
  writeFileSync(file, `add element inet warren-t vteps { ${many.map(elementText).join(', ')} }\n`)
  const times: { readonly raw: number; readonly text: number; readonly list: number }[] = []
  for (let round = 0; round < 3; round += 1) {
    let start = performance.now()
    await nft.applyElements(many.map(add))
    const raw = performance.now() - start
    start = performance.now()
    t.equal((await nft.elements(vteps)).length, 10_000)
    const list = performance.now() - start
    run('flush', 'set', 'inet', 'warren-t', 'vteps')
    start = performance.now()
    run('-f', file)
    times.push({ raw, list, text: performance.now() - start })
    run('flush', 'set', 'inet', 'warren-t', 'vteps')
  }
  const best = (pick: (time: (typeof times)[number]) => number): number => Math.min(...times.map(pick))
  const [raw, text, list] = [best(time => time.raw), best(time => time.text), best(time => time.list)]
  t.comment(
    `10,000 elements: raw ${raw.toFixed(0)} ms, nft -f ${text.toFixed(0)} ms, ratio ${(raw / text).toFixed(2)}; listed in ${list.toFixed(0)} ms`,
  )
})
