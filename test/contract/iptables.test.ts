// One suite for the fake and for both iptables of the kernel, in namespaces of our own.
import { execFileSync, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import t from 'tap'
import { fakeIptables } from '../../lib/iptables/fake.js'
import { formatJump, formatJumpRemoval } from '../../lib/iptables/format.js'
import { type Iptables, openIptables } from '../../lib/iptables/iptables.js'
import type { IptablesJump, IptablesVariant } from '../../lib/iptables/types.js'
import { childArgv } from '../../lib/netns/child.js'
import { anonymousNetns, type Netns } from '../../lib/netns/netns.js'

interface Subject {
  readonly iptables: Iptables
  /** Docker's doing: the filter table is in use, FORWARD drops. */
  docker(): void
  /** Lines of iptables-restore by somebody else. */
  foreign(...lines: string[]): void
  /** iptables-save -t filter without comments and counters. */
  save(): string
  close(): void
}

function command(netns: Netns, args: readonly [string, ...string[]], input = ''): string {
  const [program, ...rest] = childArgv(netns, args)
  return execFileSync(program, rest, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'ignore'] })
}

function fakeSubject(variant: IptablesVariant): Subject {
  const iptables = fakeIptables()
  const place = { variant, family: 'inet' } as const
  return {
    iptables,
    docker: () => iptables.use(place, { FORWARD: 'DROP' }),
    foreign: (...lines) => iptables.foreign(place, lines),
    save: () => iptables.save(place),
    close: () => undefined,
  }
}

function kernelSubject(variant: IptablesVariant): Subject & { readonly netns: Netns } {
  const netns = anonymousNetns()
  const iptables = openIptables(netns)
  return {
    netns,
    iptables,
    docker: () => void command(netns, [`iptables-${variant}`, '-P', 'FORWARD', 'DROP']),
    foreign: (...lines) =>
      void command(
        netns,
        [`iptables-${variant}-restore`, '--noflush'],
        `*filter\n${lines.join('\n')}\nCOMMIT\n`,
      ),
    save: () =>
      command(netns, [`iptables-${variant}-save`, '-t', 'filter'])
        .replace(/^#.*\n/gm, '')
        .replace(/\[\d+:\d+\]/g, '[0:0]'),
    close: () => netns.close(),
  }
}

function jump(variant: IptablesVariant, more: Partial<IptablesJump> = {}): IptablesJump {
  return {
    variant,
    family: 'inet',
    table: 'filter',
    from: 'FORWARD',
    chain: 'WRN-FORWARD',
    rules: [
      ['-s', '10.244.0.0/16', '-j', 'ACCEPT'],
      ['-d', '10.244.0.0/16', '-j', 'ACCEPT'],
    ],
    comment: 'warren',
    ...more,
  }
}

const input = (variant: IptablesVariant): IptablesJump =>
  jump(variant, {
    from: 'INPUT',
    chain: 'WRN-INPUT',
    rules: [['-p', 'udp', '-m', 'udp', '--dport', '4789', '-j', 'ACCEPT']],
  })

function contract(name: string, variant: IptablesVariant, open: () => Subject): void {
  t.test(`${name}: who uses it, with what policies`, async t => {
    const { iptables, docker, close } = open()
    t.teardown(close)
    t.same(await iptables.policies(), [])
    t.notOk((await iptables.variants()).some(({ inUse }) => inUse))
    docker()
    t.same(
      (await iptables.variants()).filter(({ inUse }) => inUse).map(place => [place.variant, place.family]),
      [[variant, 'inet']],
    )
    const forward = (await iptables.policies()).filter(({ chain }) => chain === 'FORWARD')
    t.same(forward, [{ variant, family: 'inet', chain: 'FORWARD', policy: 'DROP' }])
    t.same(await iptables.observe(), [])
  })

  t.test(`${name}: the jump is made first and once, seen, and taken away without a trace`, async t => {
    const { iptables, docker, foreign, save, close } = open()
    t.teardown(close)
    docker()
    foreign(':DOCKER-USER - [0:0]', '-A FORWARD -j DOCKER-USER', '-A INPUT -i lo -j ACCEPT')
    const before = save()
    const both = [jump(variant), input(variant)]
    await iptables.ensure(both)
    t.same(
      [...(await iptables.observe())].sort((a, b) => (a.chain < b.chain ? -1 : 1)),
      both.map(wanted => ({ ...wanted, position: 1, jumps: 1 })),
    )
    const after = save()
    t.match(after, /-A FORWARD -m comment --comment warren -j WRN-FORWARD\n-A FORWARD -j DOCKER-USER/)
    await iptables.ensure(both)
    t.equal(save(), after, 'once more changes nothing')
    await iptables.remove([jump(variant)])
    t.same(
      (await iptables.observe()).map(({ chain }) => chain),
      ['WRN-INPUT'],
    )
    await iptables.remove(both)
    t.equal(save(), before)
    await iptables.remove(both)
    t.equal(save(), before)
  })

  t.test(`${name}: others insert, double, delete and flush: repaired`, async t => {
    const { iptables, docker, foreign, save, close } = open()
    t.teardown(close)
    docker()
    const before = save()
    const wanted = jump(variant)
    await iptables.ensure([wanted])
    const good = save()
    const jumpLine = 'FORWARD -m comment --comment warren -j WRN-FORWARD'
    const seen = async (): Promise<[number, number, number]> => {
      const [observed] = await iptables.observe()
      return [observed?.position ?? -1, observed?.jumps ?? -1, observed?.rules.length ?? -1]
    }
    foreign('-I FORWARD 1 -i eth0 -j DROP')
    t.same(await seen(), [2, 1, 2], 'pushed back')
    await iptables.ensure([wanted])
    t.same(await seen(), [1, 1, 2])
    foreign('-D FORWARD -i eth0 -j DROP')
    t.equal(save(), good)
    foreign(`-A ${jumpLine}`)
    t.same(await seen(), [1, 2, 2], 'doubled')
    await iptables.ensure([wanted])
    t.equal(save(), good)
    foreign(`-D ${jumpLine}`)
    t.same(await seen(), [0, 0, 2], 'the jump is gone')
    await iptables.ensure([wanted])
    t.equal(save(), good)
    foreign('-F WRN-FORWARD')
    t.same(await seen(), [1, 1, 0], 'the rules are gone')
    await iptables.ensure([wanted])
    t.equal(save(), good)
    foreign('-F FORWARD', '-F WRN-FORWARD', '-X WRN-FORWARD')
    t.same(await iptables.observe(), [], 'as after a restart of dockerd')
    await iptables.ensure([wanted])
    t.equal(save(), good)
    foreign('-A OUTPUT -j WRN-FORWARD')
    await iptables.remove([wanted])
    t.equal(save(), before, 'jumps from wherever go too')
  })

  t.test(`${name}: other rules are written over, a wrong name is refused`, async t => {
    const { iptables, docker, save, close } = open()
    t.teardown(close)
    docker()
    await iptables.ensure([jump(variant)])
    const other = jump(variant, { rules: [['-i', 'wrn0', '-j', 'ACCEPT']] })
    await iptables.ensure([other])
    t.same(await iptables.observe(), [{ ...other, position: 1, jumps: 1 }])
    t.match(save(), /-A WRN-FORWARD -i wrn0 -j ACCEPT/)
  })
}

function tellsChanges(name: string, open: () => Subject): void {
  t.test(
    `${name}: the state of legacy is another word after each change, and the same without one`,
    async t => {
      const { iptables, docker, foreign, close } = open()
      t.teardown(close)
      t.equal(iptables.legacyState(), '', 'not in use')
      docker()
      const seen = [iptables.legacyState()]
      const changed = (what: string): void => {
        const state = iptables.legacyState()
        t.notOk(seen.includes(state), what)
        t.equal(iptables.legacyState(), state, `${what}: looked at again`)
        seen.push(state)
      }
      foreign(':MINE - [0:0]', '-A FORWARD -s 192.0.2.1/32 -j DROP')
      changed('a rule')
      foreign('-A MINE -s 192.0.2.2/32 -j ACCEPT')
      changed('a rule in a chain')
      await iptables.ensure([jump('legacy')])
      changed('our jump')
      foreign('-F FORWARD')
      changed('flushed')
    },
  )
}

contract('fake', 'nft', () => fakeSubject('nft'))
contract('nft', 'nft', () => kernelSubject('nft'))

function legacyMissing(): string | false {
  const netns = anonymousNetns()
  try {
    command(netns, ['iptables-legacy', '-L', '-n'])
    return false
  } catch (error) {
    return `this kernel or host has no iptables-legacy: ${error instanceof Error ? error.message.split('\n')[0] : error}`
  } finally {
    netns.close()
  }
}

const skip = legacyMissing()
tellsChanges('fake', () => fakeSubject('legacy'))
if (skip === false) {
  contract('legacy', 'legacy', () => kernelSubject('legacy'))
  tellsChanges('legacy', () => kernelSubject('legacy'))
  t.test('legacy: a policy changes the state, a packet that is counted does not', async t => {
    const { netns, iptables, docker, close } = kernelSubject('legacy')
    t.teardown(close)
    docker()
    command(netns, ['ip', 'link', 'set', 'lo', 'up'])
    const before = iptables.legacyState()
    command(netns, ['ping', '-c', '1', '-W', '1', '127.0.0.1'])
    t.match(command(netns, ['iptables-legacy-save', '-c', '-t', 'filter']), /:INPUT ACCEPT \[[1-9]/)
    t.equal(iptables.legacyState(), before)
    command(netns, ['iptables-legacy', '-P', 'INPUT', 'DROP'])
    t.not(iptables.legacyState(), before)
    command(netns, ['iptables-legacy', '-P', 'INPUT', 'ACCEPT'])
    t.equal(iptables.legacyState(), before)
  })
  t.test('legacy: ip6tables too', async t => {
    const netns = anonymousNetns()
    t.teardown(() => netns.close())
    const iptables = openIptables(netns)
    command(netns, ['ip6tables-legacy', '-P', 'FORWARD', 'DROP'])
    const before = iptables.legacyState()
    t.match(before, /^inet6 ./)
    command(netns, ['ip6tables-legacy', '-A', 'FORWARD', '-s', '2001:db8::1', '-j', 'ACCEPT'])
    t.not(iptables.legacyState(), before)
  })
} else t.test('legacy', { skip }, async () => undefined)

t.test('nft: a table that only our jump made goes with it, and not before', async t => {
  const fake = fakeSubject('nft')
  const kernel = kernelSubject('nft')
  t.teardown(() => kernel.close())
  const listing = (): string => command(kernel.netns, ['nft', 'list', 'ruleset'])
  for (const { iptables, foreign, save } of [fake, { ...kernel, save: listing }]) {
    t.equal(save(), '')
    await iptables.ensure([jump('nft')])
    t.same(
      (await iptables.observe()).map(({ chain }) => chain),
      ['WRN-FORWARD'],
    )
    await iptables.remove([jump('nft')])
    t.equal(save(), '')
    await iptables.ensure([jump('nft')])
    foreign('-A FORWARD -i eth0 -j ACCEPT')
    await iptables.remove([jump('nft')])
    t.match(save(), /eth0/, 'somebody uses it by now')
    t.notMatch(save(), /WRN-/)
  }
})

t.test('nft: a base chain that only our jump made goes, the table of others stays', async t => {
  const { iptables, netns, close } = kernelSubject('nft')
  t.teardown(close)
  command(netns, ['iptables-nft', '-A', 'INPUT', '-i', 'lo', '-j', 'ACCEPT'])
  const listing = (): string => command(netns, ['nft', '-s', 'list', 'ruleset'])
  const before = listing()
  await iptables.ensure([jump('nft')])
  t.match(listing(), /chain FORWARD/)
  await openIptables(netns).remove([jump('nft')])
  t.equal(listing(), before, 'by another process too, with no memory but the kernel')
})

t.test('legacy is not touched, nor made, where nobody uses it', async t => {
  const { iptables, netns, close } = kernelSubject('nft')
  t.teardown(close)
  const names = (): string =>
    netns.run(() => {
      try {
        return readFileSync('/proc/thread-self/net/ip_tables_names', 'utf8')
      } catch {
        return ''
      }
    })
  t.equal(names(), '')
  await iptables.policies()
  await iptables.observe()
  await iptables.remove([jump('legacy')])
  await t.rejects(iptables.ensure([jump('legacy')]), { code: 'ENOENT' })
  t.equal(names(), '')
})

t.test('IPv6 has programs and tables of its own', async t => {
  const { iptables, netns, close } = kernelSubject('nft')
  t.teardown(close)
  command(netns, ['ip6tables-nft', '-P', 'FORWARD', 'DROP'])
  const six = jump('nft', { family: 'inet6', rules: [['-s', 'fd00:244::/48', '-j', 'ACCEPT']] })
  await iptables.ensure([six])
  t.same(await iptables.observe(), [{ ...six, position: 1, jumps: 1 }])
  t.match(await iptables.policies(), [{ family: 'inet6', chain: 'FORWARD', policy: 'DROP' }])
})

t.test('what is refused says why', async t => {
  const { iptables, netns, docker, close } = kernelSubject('nft')
  t.teardown(close)
  docker()
  for (const wrong of [
    jump('nft', { chain: 'FORWARD' }),
    jump('nft', { chain: 'WRN-MADE-X' }),
    jump('nft', { chain: `WRN-${'x'.repeat(25)}` }),
    jump('nft', { comment: 'two words' }),
    jump('nft', { rules: [['-s', '10.0.0.0/8\n-A INPUT', '-j', 'ACCEPT']] }),
  ])
    await t.rejects(iptables.ensure([wrong]), { code: 'EINVAL' })
  const error = await iptables.ensure([jump('nft', { rules: [['-s', 'nonsense', '-j', 'ACCEPT']] })]).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  t.match(error, { code: 'IPTABLES', message: /^Cannot change "iptables-nft filter": .*nonsense/ })
  t.same(await iptables.observe(), [], 'nothing of it is there')
  command(netns, ['nft', 'add rule ip filter FORWARD ct mark set numgen inc mod 2'])
  t.same(await iptables.observe(), [], 'nothing of ours is in it, and iptables is not asked')
  await t.rejects(iptables.ensure([jump('nft')]), { code: 'EOPNOTSUPP' })
})

t.test('legacy: waits for the xtables lock, and names who holds it', { skip }, async t => {
  const { netns, docker, close } = kernelSubject('legacy')
  t.teardown(close)
  docker()
  const holder = spawn('flock', ['/run/xtables.lock', 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.teardown(() => holder.kill())
  await new Promise(resolve => holder.stdout.once('data', resolve))
  const impatient = openIptables(netns, { lockWait: 1 })
  await t.rejects(impatient.ensure([jump('legacy')]), {
    code: 'EBUSY',
    message: /xtables lock is held by (flock|sh|cat) \(pid \d+\), waited 1 s/,
  })
  const patient = openIptables(netns, { lockWait: 30 }).ensure([jump('legacy')])
  holder.stdin.end()
  await patient
  t.match(command(netns, ['iptables-legacy-save']), /WRN-FORWARD/)
})

t.test('ops are lines for a shell that do the same', async t => {
  const { iptables, netns, docker, save, close } = kernelSubject('nft')
  t.teardown(close)
  docker()
  const before = save()
  const wanted = jump('nft', { rules: [['-m', 'comment', '--comment', "it's ours", '-j', 'ACCEPT']] })
  t.equal(
    formatJump(wanted),
    [
      'iptables-nft -w -N WRN-FORWARD',
      "iptables-nft -w -A WRN-FORWARD -m comment --comment 'it'\\''s ours' -j ACCEPT",
      'iptables-nft -w -I FORWARD 1 -m comment --comment warren -j WRN-FORWARD',
    ].join('\n'),
  )
  command(netns, ['sh', '-e'], formatJump(wanted))
  t.same(await iptables.observe(), [{ ...wanted, position: 1, jumps: 1 }])
  command(netns, ['sh', '-e'], formatJumpRemoval(wanted))
  t.equal(save(), before)
})
