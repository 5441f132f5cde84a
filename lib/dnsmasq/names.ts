// Host names of other people, made fit for dnsmasq's files: one label of DNS, never a word that means something there.

/** dnsmasq reads these in a host's line as a lease time or a keyword (option.c, one_opt of LOPT dhcp-host). */
const taken = /^(?:infinite|ignore|[0-9]+[smhdw]?)$/

/** A label of DNS (RFC 1123 §2.1: letters, digits, hyphens; 63 at most) out of any text; "host" where nothing is left. */
export function hostLabel(text: string): string {
  const label = text
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 58)
    .replace(/-+$/, '')
  if (label === '') return 'host'
  return taken.test(label) ? `host-${label}` : label
}
