// The rows: Services, who asks them, and who answers. The language is in service-flows.ts.
import { fixtureOf, flowService } from './service-flows-model.js'

const local = { externalTrafficPolicy: 'Local' }
const ranges = ['198.51.100.0/24', '2001:db8:ffff::/64']
const podRanges = ['10.244.0.0/16', 'fd00:244::/48']

export const fixture = fixtureOf([
  flowService('web', 1, { endpoints: 'a1 b1', x: 1, lb: 2 }),
  flowService('here', 2, { endpoints: 'a1', x: 3, lb: 4 }),
  flowService('there', 3, { endpoints: 'b1', x: 5, lb: 6 }),
  flowService('none', 4, { x: 7, lb: 8 }),
  flowService('local', 5, { endpoints: 'a1', x: 9, lb: 137, spec: local }),
  flowService('inner', 6, { endpoints: 'a1', spec: { internalTrafficPolicy: 'Local' } }),
  flowService('leaving', 7, { endpoints: 'a1:leaving b1:leaving a2:gone', x: 11 }),
  flowService('some', 8, { endpoints: 'a1 a2:leaving b1:down', x: 12 }),
  flowService('dead', 9, { endpoints: 'a1:gone b1:down', x: 13 }),
  flowService('lastone', 10, { endpoints: 'a1:leaving b1', x: 14, lb: 138, spec: local }),
  flowService('ranges', 11, {
    endpoints: 'a1 b1',
    x: 15,
    lb: 16,
    spec: { loadBalancerSourceRanges: ranges },
  }),
  flowService('podsonly', 12, {
    endpoints: 'a1 b1',
    lb: 17,
    spec: { loadBalancerSourceRanges: podRanges },
  }),
  flowService('named', 13, { pods: { a1: 8080, b1: 8081 } }),
  flowService('multi', 14, {
    endpoints: 'a1',
    spec: {
      ports: [
        { name: 'tcp', protocol: 'TCP', port: 53, targetPort: 8080, nodePort: 30_014 },
        { name: 'udp', protocol: 'UDP', port: 53, targetPort: 8080, nodePort: 30_014 },
        { name: 'more', protocol: 'TCP', port: 9153, targetPort: 8081 },
      ],
    },
  }),
  flowService('mixed', 15, { endpoints: ['a1/8080', 'a1/8081 b1'] }),
  flowService('host', 16, { endpoints: 'A', x: 18 }),
  flowService('outside', 17, { endpoints: 'ext' }),
  flowService('pair', 18, { endpoints: 'a1 a2' }),
  flowService('allnodes', 19, { endpoints: 'a1 a2 b1', x: 19, lb: 139, spec: local }),
  flowService('innerleft', 20, {
    endpoints: 'a1:leaving b1',
    spec: { internalTrafficPolicy: 'Local' },
  }),
  flowService('headless', 22, {
    endpoints: 'a1',
    type: 'ClusterIP',
    spec: { clusterIPs: ['None'] },
  }),
  // Their ports are nodePorts of others: of web, and of one with affinity.
  flowService('number', 23, { endpoints: 'a1', x: 21, port: 30_001, spec: local }),
  flowService('sticking', 24, { endpoints: 'a1', spec: { sessionAffinity: 'ClientIP' } }),
  flowService('beside', 25, { endpoints: 'b1', x: 22, port: 30_024 }),
  flowService('nolocal', 21, { x: 20, spec: { ...local, internalTrafficPolicy: 'Local' } }),
])

export const rows = `
# without a Service: the ground that all else stands on
ac bc            | =a1                                   | a1
ac bc a1         | =b1                                   | b1            | tcp udp sctp
A                | =a1                                   | a1@A
B                | =a1                                   | a1@B

# cluster IPs: pods keep their address, two of them on one bridge too
ac bc            | web                                   | a1 b1         | tcp udp sctp
A                | web                                   | a1@A b1@A     | tcp udp sctp
B                | web                                   | a1@B b1@B     | tcp udp sctp
ac               | pair                                  | a1 a2
a1               | pair                                  | a1@A a2
a2               | pair                                  | a1 a2@A
bc               | here                                  | a1
ac               | there                                 | b1
ext              | web                                   | a1 b1@A       | tcp udp sctp
ext              | here                                  | a1
ext              | there                                 | b1@A

ac bc            | web                                   | a1 b1         | sctp userspace=refused
ac bc            | web+x                                 | a1 b1         | sctp userspace=dropped
ac A ext         | headless                              | dropped

# hairpin
a1               | here here@A here+x here+lb            | a1@A          | tcp udp sctp
a1               | web                                   | a1@A b1
b1               | web web@B web+x web+lb                | a1 b1@B
a1               | here@B                                | a1@B
b1               | there there@B there+x there+lb        | b1@B

# nodePorts, external and load balancer IPs
ext              | web@A web+x web+lb                    | a1@A b1@A     | tcp udp sctp
ext              | web@B                                 | a1@B b1@B     | tcp udp sctp
ext              | web@A2                                | a1@A b1@A
ext              | there@A there+x                       | b1@A
ac bc            | web+x web+lb                          | a1 b1
ac               | web@A web@A2                          | a1 b1
ac               | web@B                                 | a1@B b1@B     | tcp udp sctp
bc               | web@A web@A2                          | a1@A b1@A
A                | web@A web@A2 web+x web+lb             | a1@A b1@A     | tcp udp sctp
A                | web@B                                 | a1@B b1@B
B                | web@B web+x web+lb                    | a1@B b1@B
B                | web@A                                 | a1@A b1@A

# never by loopback
A B              | web@lo none@lo                        | refused

# nobody there: refused at once
ac bc A B        | none none+x none+lb                   | refused       | tcp udp sctp
ext              | none none@A none@B none+x none+lb     | refused       | tcp udp sctp
ac A             | none@A none@B                         | refused
ac bc A B ext    | dead dead+x                           | refused
ac A ext         | nolocal nolocal+x                     | refused
ac bc A B ext    | web:99 none:99 multi:80               | refused       | tcp udp sctp
ac bc A B        | void leak                             | dropped       | tcp udp sctp
ext              | void                                  | dropped       | tcp udp sctp

# external policy Local: outside means: not of this node
ext              | local@A local+x                       | a1            | tcp udp sctp
ext              | local@B local+lb                      | dropped       | tcp udp sctp
ac               | local local@A local+x local+lb        | a1
ac               | local@B                               | dropped
bc               | local local@B local+x local+lb        | a1
bc               | local@A                               | a1@B
a1               | local local@A local+x local+lb        | a1@A
A                | local local@A local+x local+lb        | a1@A
A                | local@B                               | dropped
B                | local local@B local+x local+lb        | a1@B
B                | local@A                               | a1@B
ext              | allnodes@A allnodes+x                 | a1 a2
ext              | allnodes@B allnodes+lb                | b1
ac bc            | allnodes allnodes+x allnodes+lb       | a1 a2 b1

# internal policy Local
ac               | inner                                 | a1
a1               | inner                                 | a1@A
A                | inner                                 | a1@A
bc b1 B          | inner                                 | dropped       | tcp udp sctp
ext              | inner@A                               | a1@A
ext              | inner@B                               | a1@B
ac               | innerleft                             | a1
bc               | innerleft                             | b1

# endpoints that terminate are the last resort (KEP-1669), for each list by itself
ac bc            | leaving leaving+x                     | a1 b1
ext              | leaving@A leaving+x                   | a1@A b1@A
ac bc            | some some+x                           | a1
ext              | some@B                                | a1@B
ext              | lastone@A lastone+x                   | a1
ext              | lastone@B lastone+lb                  | b1
ac bc            | lastone lastone+x lastone+lb          | b1

# loadBalancerSourceRanges: of load balancer IPs only
ext2             | ranges+lb                             | a1@A b1@A
ext              | ranges+lb                             | dropped       | tcp udp sctp
ac A             | ranges+lb                             | dropped
ext              | ranges@A ranges+x                     | a1@A b1@A
ac bc            | podsonly+lb                           | a1 b1
ext ext2         | podsonly+lb                           | dropped

# ports
ac bc            | named                                 | a1 b1:8081    | tcp udp sctp
ext              | named@B                               | a1@B b1:8081@B
ac bc            | multi:53                              | a1
ac bc            | multi:9153                            | a1:8081       | tcp
ac bc            | multi:9153                            | refused       | udp
ac bc            | mixed                                 | a1 a1:8081 b1:8081

# the number of another Service's nodePort is nothing to them
ext              | number+x                              | a1            | tcp udp sctp
ac bc            | number number+x                       | a1            | tcp udp sctp
ac bc            | sticking                              | a1            | tcp udp sctp
ac bc            | beside beside+x                       | b1            | tcp udp sctp
ext              | beside+x                              | b1@A          | tcp udp sctp

# endpoints that are no pods (a UDP backend of the host answers ac from the bridge's address)
ac               | host                                  | A             | tcp
bc               | host                                  | A@B
A                | host host@A                           | A@A
B                | host host@B                           | A@B
ext              | host@A host+x                         | A
ext              | host@B                                | A@B
ac               | outside                               | ext@A
bc               | outside                               | ext@B
A                | outside                               | ext@A
ext              | outside@A                             | ext@A
`

/** nodePortAddresses of A alone, its first ones; elsewhere its own kernel refuses what nobody listens on. */
export const nodePortAddresses = ['192.0.2.8/30', '2001:db8::11/128']
export const restrictedRows = `
ext              | web@A                                 | a1@A b1@A     | tcp udp sctp
A ac             | web@A2 web@B                          | refused
A                | web@A                                 | a1@A b1@A
ac               | web@A                                 | a1 b1
ext              | web@A2 web@B                          | refused
bc               | web web+x                             | a1 b1
ext              | local@A                               | a1
ext              | none@A none@A2 none@B                 | refused
a1               | here@A                                | a1@A
`
