// warrend(8), its flags out of the usage that it prints, and warrend.yaml(5), out of the schema.
import { readFileSync } from 'node:fs'
import { configSchema, defaults } from '../agent/config-schema.js'
import { liveFields } from '../agent/live-config.js'
import { type Field, fieldsOf } from '../agent/model/fields.js'
import { argument, capital, list, literal, page, plain, seeAlso, sentence, sentences } from './mdoc.js'

const live = liveFields.map(name => (name === 'log' ? 'log.level' : name)).join(', ')
const repository = new URL('../', import.meta.url)

/** The usage in agent/main.ts, which runs when it is imported: flags and what they are for, and the exit statuses. */
export function usageOf(source: string): {
  readonly flags: readonly (readonly [string, string])[]
  readonly statuses: readonly (readonly [string, string])[]
} {
  const text = /const usage = `([^`]*)`/
    .exec(source)?.[1]
    ?.replace(/\$\{defaults\.config\}/g, defaults.config)
  const [synopsis = ''] = text?.split('\n') ?? []
  const found = [...(text?.matchAll(/^ {2}(--\S+(?: [A-Z]+)?) {2,}(.+(?:\n {4,}.+)*)$/gm) ?? [])].map(
    ([, name = '', about = '']) => [name, about.replace(/\s*\n\s*/g, ' ')] as const,
  )
  const statuses = [
    ...(/^Exit status: (.*)$/m.exec(text ?? '')?.[1]?.matchAll(/(\d) ([^;]+?)(?:[;.](?: |$)|$)/g) ?? []),
  ].map(([, status = '', about = '']) => [status, about] as const)
  const named = [...synopsis.matchAll(/\[(--\S+(?: [A-Z]+)?)\]/g)].map(([, name = '']) => name)
  if (
    named.length === 0 ||
    named.some(name => !found.some(([flag]) => flag === name)) ||
    statuses.length === 0
  )
    throw new Error(
      'Cannot read the usage in agent/main.ts: flags and exit statuses are not as they were written',
    )
  return { flags: found, statuses }
}

export function warrend(): string {
  const usage = usageOf(readFileSync(new URL('agent/main.ts', repository), 'utf8'))
  const flag = (text: string): string =>
    text
      .split(' ')
      .map(word => (word.startsWith('-') ? `Fl ${word.slice(1)}` : `Ar ${word.toLowerCase()}`))
      .join(' ')
  return page('warrend', 8, 'network agent of one host', [
    ['SYNOPSIS', ['.Nm', ...usage.flags.map(([name]) => `.Op ${flag(name)}`)]],
    [
      'DESCRIPTION',
      [
        '.Nm',
        'reads the model that all hosts share, works out what of it concerns this host, and makes the kernel match:',
        'links, addresses, routes, neighbours, bridge forwarding entries, policy rules, nftables or iptables rules, sysctls, and',
        'the paths of a BGP speaker beside it.',
        'What somebody else changes of it is put back within milliseconds, and',
        '.Ic warren events',
        'tells whose hand it was.',
        '.Pp',
        'It touches nothing that is not its own: links whose name starts with',
        '.Cm namePrefix',
        '.Pq Li wrn ,',
        'routes and rules of protocol 87, nftables tables called',
        '.Li warren',
        'or',
        '.Li warren-* ,',
        'chains of iptables called',
        '.Li WRN-* .',
        'When it stops, by whatever way, the kernel goes on forwarding;',
        '.Ic warren cleanup',
        'takes everything away.',
        '.Pp',
        'It needs the capabilities',
        '.Dv CAP_NET_ADMIN ,',
        '.Dv CAP_NET_RAW',
        'and',
        '.Dv CAP_SYS_ADMIN ,',
        'and is meant to be run by',
        '.Xr systemd 1 :',
        ...literal(['systemctl enable --now warrend', 'warren status', 'warren doctor']),
        '.Pp',
        'The options are:',
        ...list(
          'Ds',
          usage.flags.map(([name, about]) => [flag(name), sentence(about)] as const),
        ),
      ],
    ],
    [
      'SIGNALS',
      list('SIGTERM', [
        [
          'Dv SIGHUP',
          [
            'Reads',
            '.Xr warrend.yaml 5',
            'again, as',
            '.Ic systemctl reload warrend',
            'does.',
            ...sentences(`At once take effect: ${live}.`),
            'Where another field changed, the next start does it, and',
            '.Ic warren status',
            'says so.',
            'A file with a fault is refused, and what was in force stays.',
          ],
        ],
        ['Dv SIGTERM', ['Ends it in order; the kernel stays as it is.', 'So does', '.Dv SIGINT .']],
      ]),
    ],
    [
      'FILES',
      list('Ds', [
        [`Pa ${defaults.config}`, ['Configuration of this host,', '.Xr warrend.yaml 5 .']],
        [`Pa ${defaults.socket}`, ['Control socket, for', '.Xr warren 8 .']],
        [
          `Pa ${defaults.stateDir}`,
          [
            'The last good model, with which a host forwards again after a cold boot without its store, and old values of sysctls.',
          ],
        ],
        [`Pa ${defaults.store.file}`, ['The model, where no other store is configured.']],
        [`Pa ${defaults.subnetFile}`, ["The node's block, for whatever reads flannel's file."]],
      ]),
    ],
    [
      'EXIT STATUS',
      list(
        'Ds',
        usage.statuses.map(([status, about]) => [status, sentence(about)] as const),
      ),
    ],
    [
      'EXAMPLES',
      [
        'Look for faults in a configuration before it is used:',
        '.Pp',
        '.Dl warrend --config /etc/warren/warrend.yaml --check',
      ],
    ],
    ['SEE ALSO', seeAlso(['systemctl', 1], ['warrend.yaml', 5], ['ip', 8], ['nft', 8], ['warren', 8])],
  ])
}

// --- warrend.yaml(5) -----------------------------------------------------------------------------------------------------

function field({
  path,
  type,
  range,
  required,
  meaning,
  ...one
}: Field): readonly [string, readonly string[]] {
  const is = [type, range].filter(text => text !== '').join(', ')
  const initial = one.default === undefined ? '' : ` Default: ${one.default}`
  return [
    `Cm ${argument(path)}`,
    [
      ...sentences(`${capital(is)}${required ? `; required in ${path.replace(/\.[^.]*$/, '')}` : ''}.`),
      ...sentences(meaning),
      ...(initial === '' ? [] : ['.br', plain(initial.trim())]),
    ],
  ]
}

export function warrendYaml(): string {
  return page('warrend.yaml', 5, 'configuration of the Warren agent of one host', [
    ['SYNOPSIS', [`.Pa ${defaults.config}`]],
    [
      'DESCRIPTION',
      [
        'A YAML file with one document, read by',
        '.Xr warrend 8',
        'when it starts and at',
        '.Dv SIGHUP .',
        'Every field may be left out, and the file too.',
        'What all hosts share (addresses, backend, Services) is not here but in the model, which',
        '.Ic warren apply',
        'writes.',
        '.Pp',
        'A field that is not known, or a value that does not fit, is refused with file, line and what to do, and',
        '.Xr warrend 8',
        'does not start;',
        '.Ic warrend --check',
        'tells before.',
        '.Pp',
        'The fields are:',
        ...list('Ds', fieldsOf(configSchema).map(field)),
        '.Pp',
        '.Cm store',
        'is one of its two forms.',
        '.Cm underlay',
        'names one of',
        '.Cm interface ,',
        '.Cm regex ,',
        '.Cm canReach',
        'and',
        '.Cm cidr ,',
        'or none.',
      ],
    ],
    [
      'EXAMPLES',
      [
        'A host whose model is in etcd:',
        ...literal([
          'store:',
          '  etcd:',
          '    endpoints: ["https://192.0.2.1:2379", "https://192.0.2.2:2379"]',
          '    tls:',
          '      ca: /etc/warren/ca.crt',
          '      cert: /etc/warren/client.crt',
          '      key: /etc/warren/client.key',
          'underlay: { interface: eth0 }',
        ]),
      ],
    ],
    ['SEE ALSO', seeAlso(['warren', 8], ['warrend', 8])],
  ])
}
