// Every check of `warren doctor`, in the order in which they are printed. A new one is a file below checks/ and a line here.
import type { Check } from './check.js'
import { bridgeNetfilterCheck } from './checks/bridge-netfilter.js'
import { clockCheck } from './checks/clock.js'
import { conntrackCheck } from './checks/conntrack.js'
import { daemonCheck } from './checks/daemon.js'
import { duplicatesCheck } from './checks/duplicates.js'
import { forwardPolicyCheck } from './checks/forward-policy.js'
import { forwardingCheck } from './checks/forwarding.js'
import { gobgpdCheck } from './checks/gobgpd.js'
import { hostManagersCheck } from './checks/host-managers.js'
import { iptablesBackendsCheck } from './checks/iptables-backends.js'
import { kernelCheck } from './checks/kernel.js'
import { leftoversCheck } from './checks/leftovers.js'
import { mtuCheck } from './checks/mtu.js'
import { offloadCheck } from './checks/offload.js'
import { privilegesCheck } from './checks/privileges.js'
import { rpFilterCheck } from './checks/rp-filter.js'
import { storeCheck } from './checks/store.js'
import { vxlanPortCheck } from './checks/vxlan-port.js'

export const checks: readonly Check[] = [
  daemonCheck,
  storeCheck,
  clockCheck,
  gobgpdCheck,
  mtuCheck,
  vxlanPortCheck,
  duplicatesCheck,
  offloadCheck,
  privilegesCheck,
  kernelCheck,
  forwardingCheck,
  rpFilterCheck,
  forwardPolicyCheck,
  iptablesBackendsCheck,
  bridgeNetfilterCheck,
  hostManagersCheck,
  leftoversCheck,
  conntrackCheck,
]
