// dnsmasq's lease file against the list of its clients: an address that was taken from a client is leased to it for up to
// a day, and dnsmasq gives it to nobody else meanwhile. Such lines have to go before the next start. Text in, text out.
//
//   1795954271 0a:00:00:00:01:0b 10.0.1.11 web-1 01:0a:00:00:00:01:0b        expiry, MAC, address, name, client id
//   duid 00:02:00:00:7e:d9:00:00:03:e9                                       from here on IPv6
//   1795875420 267 fd00:0:0:2::77 web-2 00:01:00:01:...                      expiry, IAID, address, name, DUID

/** MAC by address, of a file of clients (config.ts). */
function ownersOf(hosts: string): ReadonlyMap<string, string> {
  const owners = new Map<string, string>()
  for (const line of hosts.split('\n')) {
    const [mac = '', ...rest] = line.split(',')
    for (const each of rest) {
      if (each.startsWith('[')) owners.set(each.slice(1, -1), mac)
      else if (/^[0-9.]+$/.test(each)) owners.set(each, mac)
    }
  }
  return owners
}

/** The lines that may stay, and whether any may not. `before` and `after`: the clients that it was and will be started with. */
export function pruneLeases(
  leases: string,
  before: string,
  after: string,
): { readonly text: string; readonly stale: boolean } {
  const old = ownersOf(before)
  const next = ownersOf(after)
  let inet6 = false
  const lines = leases.split('\n')
  const kept = lines.filter(line => {
    const [first, mac, address = ''] = line.split(' ')
    if (first === 'duid') inet6 = true
    if (first === 'duid' || line === '') return true
    const owner = next.get(address)
    // An IPv6 lease does not tell the MAC: it is the client's that had the address.
    return owner !== undefined && owner === (inet6 ? old.get(address) : mac)
  })
  return { text: kept.join('\n'), stale: kept.length !== lines.length }
}
