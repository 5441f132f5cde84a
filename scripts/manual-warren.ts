// warren(8), out of the tree of commands and options that parses them.
import type { EventEmitter } from 'node:events'
import type { Command } from 'commander'
import { createProgram } from '../agent/cli/cli.js'
import { defaults } from '../agent/config-schema.js'
import { argument, flags, list, literal, page, seeAlso, sentence, sentences } from './mdoc.js'

function program(): Command {
  return createProgram({
    write: () => undefined,
    warn: () => undefined,
    readStdin: async () => '',
    env: {},
    colour: false,
    progress: false,
    signal: new AbortController().signal,
  }).program
}

/** What --help says below the options: prose, and the lines of its examples. */
function afterHelp(command: Command): { readonly prose: string; readonly examples: readonly string[] } {
  let text = ''
  const write = (more: string): void => {
    text += more
  }
  // A command is an emitter, which its types do not say; addHelpText is a listener.
  ;(command as unknown as EventEmitter).emit('afterHelp', { error: false, command, write })
  const [prose = '', examples = ''] = text.split(/^Examples:$/m)
  return {
    prose: prose.trim(),
    examples: examples
      .split('\n')
      .map(line => line.trim())
      .filter(line => line !== ''),
  }
}

function options(command: Command): readonly (readonly [string, readonly string[]])[] {
  return command
    .createHelp()
    .visibleOptions(command)
    .filter(option => option.long !== '--help')
    .map(option => {
      const values = option.defaultValue
      const initial =
        values === undefined || values === false || Array.isArray(values) ? '' : ` Default: ${values}.`
      return [
        flags(option.flags),
        [...sentence(option.description), ...(initial === '' ? [] : sentences(initial))],
      ] as const
    })
}

function section(command: Command, parents: readonly string[]): readonly string[] {
  const words = [...parents, command.name()]
  const takes = command.registeredArguments.map(one => {
    const text = `Ar ${argument(one.name())}${one.variadic ? ' ...' : ''}`
    return one.required ? `.${text}` : `.Op ${text}`
  })
  const choices = command.registeredArguments
    .filter(({ argChoices }) => argChoices !== undefined)
    .map(one => `${one.name()}: ${(one.argChoices ?? []).join(', ')}`)
  const { prose, examples } = afterHelp(command)
  const nested = command.commands.flatMap(inner => section(inner, words))
  const own = options(command)
  const head =
    nested.length > 0 && own.length === 0 && takes.length === 0
      ? []
      : [
          `.Nm warren ${words.map(word => `Cm ${argument(word)}`).join(' ')}`,
          ...(own.length > 0 ? ['.Op Ar option ...'] : []),
          ...takes,
          '.Pp',
        ]
  return [
    `.Ss warren ${words.join(' ')}`,
    ...head,
    ...sentence(command.description()),
    ...choices.flatMap(choice => sentence(choice)),
    ...list('Ds', own),
    ...(prose === '' ? [] : ['.Pp', ...sentences(prose)]),
    ...(examples.length > 0 ? literal(examples) : []),
    ...nested,
  ]
}

export function warren(): string {
  const top = program()
  return page('warren', 8, 'edit the model of Warren and explain this host', [
    [
      'SYNOPSIS',
      [
        '.Nm',
        '.Op Fl -socket Ar path',
        '.Op Fl -config Ar file',
        '.Ar command',
        '.Op Ar argument ...',
        '.Nm',
        '.Cm help Ar command',
      ],
    ],
    [
      'DESCRIPTION',
      [
        '.Nm',
        'talks to the',
        '.Xr warrend 8',
        'of this host over its control socket.',
        'It edits the model that all hosts share (clusters, Services, tenants and their networks), and explains what',
        'this host made of it, in the words of',
        '.Xr ip 8 ,',
        '.Xr bridge 8',
        'and',
        '.Xr nft 8 .',
        '.Pp',
        'Options for all commands:',
        ...list('Ds', options(top)),
      ],
    ],
    ['COMMANDS', top.commands.flatMap(command => section(command, []))],
    [
      'ENVIRONMENT',
      list('WARREN_CONFIG', [
        [
          'Ev WARREN_SOCKET',
          ['Control socket, where neither', '.Fl -socket', 'nor', '.Fl -config', 'is given.'],
        ],
        ['Ev WARREN_CONFIG', ['Configuration file, as', '.Fl -config .']],
        ['Ev NO_COLOR', ['No colours.']],
      ]),
    ],
    [
      'FILES',
      list('Ds', [
        [`Pa ${defaults.socket}`, ['Control socket.']],
        [
          `Pa ${defaults.config}`,
          [
            'Configuration of this host,',
            '.Xr warrend.yaml 5 ;',
            'read by',
            '.Cm cleanup',
            'and',
            '.Cm doctor .',
          ],
        ],
      ]),
    ],
    [
      'EXIT STATUS',
      list('Ds', [
        ['0', ['Done.']],
        ['1', ['An error, a document that was refused, or a host that has not converged.']],
        ['2', ['.Cm plan', 'found changes.']],
        ['3', ['.Xr warrend 8', 'does not answer.']],
      ]),
    ],
    ['SEE ALSO', seeAlso(['warrend.yaml', 5], ['bridge', 8], ['ip', 8], ['nft', 8], ['warrend', 8])],
  ])
}
