// One real virtual machine as a port: QEMU in emulation on red/a9's host, its tap plugged by `warren port attach`, a shell on
// its serial line. scripts/isolation-vm.sh makes kernel and initrd.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { childArgv } from '../../../lib/netns/child.js'
import { openWire, pause } from '../attacks/wire.js'
import type { LabArena } from './arena.js'
import { takeOut } from './guards.js'
import type { Lab } from './lab.js'
import { containers, gatewayOf, mayReach, type Port, portAt, tapName, virtualMachine } from './plan.js'
import type { Report } from './record.js'

export interface VirtualMachine {
  /** Shell inside: what it prints, and how it ended. Errors: no end within `ms`. */
  sh(script: string, ms?: number): Promise<{ readonly text: string; readonly status: number }>
  close(): void
}

/** Returns at once: `sh` waits for the boot. `image`: the folder with vmlinuz and initrd. */
export function startVm(lab: Lab, image: string): VirtualMachine {
  const { host, mac } = virtualMachine
  const [program, ...args] = childArgv(lab.netns(`host/${host}`), [
    'qemu-system-x86_64',
    ...['-accel', 'tcg,tb-size=128', '-cpu', 'max', '-m', '160', '-no-reboot'],
    ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-serial', 'stdio'],
    ...['-kernel', `${image}/vmlinuz`, '-initrd', `${image}/initrd`],
    ...['-append', 'console=ttyS0 quiet panic=-1'],
    ...['-netdev', `tap,id=net,ifname=${tapName},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net,mac=${mac},romfile=`],
  ])
  const process: ChildProcessWithoutNullStreams = spawn(program, args)
  let said = ''
  process.stdout.setEncoding('utf8').on('data', text => {
    said += text
  })
  process.stderr.setEncoding('utf8').on('data', text => {
    said += text
  })
  const until = async (pattern: RegExp, ms: number): Promise<RegExpExecArray> => {
    const end = performance.now() + ms
    for (;;) {
      const found = pattern.exec(said)
      if (found !== null) return found
      if (performance.now() > end || process.exitCode !== null)
        throw new Error(`the VM does not say ${pattern}; its last words: ${said.slice(-300)}`)
      await pause(20)
    }
  }
  const booted = until(/vm is up/, 60_000)
  booted.catch(() => {})
  let count = 0
  return {
    async sh(script, ms = 20_000) {
      await booted
      count += 1
      said = ''
      // The mark is in two pieces, so that an echo of the line is not taken for it.
      process.stdin.write(`{ ${script}\n} 2>&1; echo "@@""${count} $?"\n`)
      const found = await until(new RegExp(`@@${count} (\\d+)`), ms)
      return { text: said.slice(0, found.index).replaceAll('\r', ''), status: Number(found[1]) }
    },
    close: () => process.kill('SIGKILL'),
  }
}

const red = containers.filter(({ tenant }) => tenant === 'red')

/** The lines of `targets` (label, then address) that got an answer to every ping. */
async function vmPings(
  vm: VirtualMachine,
  targets: readonly { readonly label: string; readonly address: string; readonly size: number }[],
): Promise<ReadonlySet<string>> {
  // Emulated, it drops a fragment now and then: three tries.
  const lines = targets.map(
    ({ label, address, size }) =>
      `(for i in 1 2 3; do ping -q -c 1 -W 1 -s ${size} ${address} >/dev/null && echo "got ${label}" && break; done) &`,
  )
  const { text } = await vm.sh(`${lines.join('\n')}\nwait`, 40_000)
  return new Set([...text.matchAll(/got (\S+)/g)].map(([, label]) => label ?? ''))
}

/** Those of `from` whose ping to `address` is answered. */
async function pingsTo(lab: Lab, address: string, from: readonly Port[]): Promise<ReadonlySet<string>> {
  const answered = new Set<string>()
  const one = async ({ ref }: Port): Promise<void> => {
    const ping = ['ping', '-n', '-q', '-c', '1', '-W', '1', address] as const
    const [program, ...args] = childArgv(lab.netns(ref), ping)
    const [status] = await once(spawn(program, args, { stdio: 'ignore' }), 'exit')
    if (status === 0) answered.add(ref)
  }
  await Promise.all(from.map(one))
  return answered
}

const area = 'vm'

/** Plugs it and waits for its addresses; from then on its tap is one of the arena's wires. */
export async function attachVm(lab: Lab, arena: LabArena, report: Report, vm: VirtualMachine): Promise<void> {
  const { ip, ip6, host } = virtualMachine
  const started = performance.now()
  await vm.sh('true', 60_000)
  lab.warren(host, 'port', 'attach', virtualMachine.ref, '--tap', tapName, '--node', host)
  // Not before: solicitations of routers that nobody hears make room for ones up to 16 s later.
  await vm.sh('ip link set eth0 up')
  const udhcpc = 'udhcpc -i eth0 -n -q -t 10 -T 1 -s /etc/lease -O mtu -O hostname >/dev/null 2>&1'
  const { status } = await vm.sh(`${udhcpc} && cat /tmp/lease`, 30_000)
  const lease = (await vm.sh('cat /tmp/lease')).text
  const { ip: router } = gatewayOf(virtualMachine.network)
  const wanted = `ip=${ip}/24 router=${router} dns=${router} mtu=1450 hostname=a9`
  report.check(
    area,
    `its tap is plugged, and DHCP gives it ${wanted}`,
    status === 0 && lease.includes(wanted),
    lease,
  )
  report.facts.set('VM: attached and leased after', `${((performance.now() - started) / 1000).toFixed(1)} s`)
  const addresses = await vm.sh(
    `i=0; while [ $i -lt 50 ] && ! ip addr show dev eth0 | grep -q ${ip6}; do usleep 100000; i=$((i+1)); done; ip addr show dev eth0`,
  )
  report.check(area, `a router advertisement gives it ${ip6}`, addresses.text.includes(ip6), addresses.text)

  arena.wires.set(virtualMachine.ref, openWire(lab.netns(`fabric/${host}`), tapName, true))
}

export async function checkVm(lab: Lab, arena: LabArena, report: Report, vm: VirtualMachine): Promise<void> {
  const { ip, ip6, mac } = virtualMachine
  const families = [
    { family: 4, own: ip, of: (port: Port) => port.ip, full: 1422 },
    { family: 6, own: ip6, of: (port: Port) => port.ip6, full: 1402 },
  ] as const
  for (const { family, own, of, full } of families) {
    for (const [size, words] of [
      [56, 'small'],
      [full, 'a full MTU'],
      [20_000, '20,000 bytes in fragments'],
    ] as const) {
      const targets = red.map(port => ({ label: port.ref, address: of(port), size }))
      const got = await vmPings(vm, targets)
      const wrong = red.filter(port => got.has(port.ref) !== mayReach(virtualMachine, port, 8080))
      for (const port of red)
        report.pair(virtualMachine, port, mayReach(virtualMachine, port, 8080), got.has(port.ref))
      const name = `it pings every port of its tenant that lets it, IPv${family}, ${words}`
      report.check(area, name, wrong.length === 0, wrong.map(({ ref }) => ref).join(' '))
    }
    const back = await pingsTo(lab, own, red)
    const wrong = red.filter(port => back.has(port.ref) !== mayReach(port, virtualMachine, 8080))
    for (const port of red)
      report.pair(port, virtualMachine, mayReach(port, virtualMachine, 8080), back.has(port.ref))
    const name = `every port of its tenant that may send pings it, IPv${family}`
    report.check(area, name, wrong.length === 0, wrong.map(({ ref }) => ref).join(' '))
  }
  const victim = portAt('red/a2')
  const arping = await vm.sh(`arping -q -c 1 -w 2 -I eth0 ${portAt('red/a8').ip}`)
  report.check(area, 'it gets an answer to ARP from a port of another host', arping.status === 0, arping.text)

  // Its pings carry a pattern that nobody else's have.
  const pattern = Buffer.alloc(48, 0xa7)
  for (const wire of arena.wires.values()) wire.heard()
  await vm.sh(`${red.map(port => `ping -q -c 1 -W 1 -p a7 ${port.ip} >/dev/null &`).join('\n')}\nwait`)
  const heard = containers.filter(({ ref }) =>
    arena.wires
      .get(ref)
      ?.heard()
      .some(frame => frame.includes(pattern)),
  )
  for (const to of containers)
    if (to.tenant !== 'red') report.pair(virtualMachine, to, false, heard.includes(to))
  report.check(
    'isolation',
    'nobody of the other tenants hears the VM, who pings all their addresses',
    heard.every(({ tenant }) => tenant === 'red') && heard.length > 0,
    heard.map(({ ref }) => ref).join(' '),
  )
  for (const [what, refused] of await vmLies(vm, victim))
    report.check('attack', `vm: ${what}: refused`, refused, `it got an answer from ${victim.ref}`)
  const home = await vm.sh(`ping -q -c 1 -W 2 ${victim.ip}`)
  report.check(area, 'as itself again it is let in', home.status === 0, `${mac} ${ip}: ${home.text}`)
}

/** What it tries, and whether that was refused. */
async function vmLies(vm: VirtualMachine, victim: Port): Promise<readonly (readonly [string, boolean])[]> {
  const { ip, mac } = virtualMachine
  const ping = `ping -q -c 2 -W 1 ${victim.ip}`
  const address = await vm.sh(
    `ip addr del ${ip}/24 dev eth0; ip addr add 10.0.1.200/24 dev eth0; ${ping}; s=$?; ip addr del 10.0.1.200/24 dev eth0; ip addr add ${ip}/24 dev eth0; ip route replace default via 10.0.1.1; (exit $s)`,
  )
  const hardware = await vm.sh(
    `ip link set eth0 down; ip link set eth0 address 0a:00:00:00:66:66; ip link set eth0 up; ${ping}; s=$?; ip link set eth0 down; ip link set eth0 address ${mac}; ip link set eth0 up; ip route replace default via 10.0.1.1; (exit $s)`,
  )
  return [
    ['it takes another address', address.status !== 0],
    ['it takes another MAC', hardware.status !== 0],
  ]
}

/** The agents must be dead. With the guards of addresses gone, another address works; nothing learns its other MAC. */
export async function vmControl(lab: Lab, report: Report, vm: VirtualMachine): Promise<void> {
  const bridge = (comment: string) =>
    ({ table: 'bridge', from: `counter drop comment "${comment}"`, to: 'accept' }) as const
  const putBack = takeOut(lab, [bridge('mac or ip4 spoof'), bridge('arp spoof')])
  try {
    const [lie] = await vmLies(vm, portAt('red/a2'))
    report.check('control', 'vm: it takes another address: works without its guards', lie?.[1] === false)
  } finally {
    putBack()
  }
}

export async function detachVm(lab: Lab, report: Report, vm: VirtualMachine): Promise<void> {
  const { host, ref } = virtualMachine
  lab.warren(host, 'port', 'detach', ref)
  let back = false
  for (let i = 0; i < 100 && !back; i += 1) {
    back = lab.sh(`host/${host}`, 'ip -o link').includes(` ${tapName}: `)
    if (!back) await pause(50)
  }
  report.check('vm', `detached, its tap is back under its name on the host`, back)
  const { status } = await vm.sh('ping -q -c 1 -W 1 10.0.1.1')
  report.check('vm', 'detached, it reaches nothing', status !== 0)
}
