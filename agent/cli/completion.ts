// warren completion: scripts for the shells, made out of the program itself, so that Tab starts no process.
import { Argument, type Command } from 'commander'
import type { KindInfo } from '../model/kinds.js'
import { type CommandModule, examples, exit } from './command.js'

interface Words {
  readonly name: string
  readonly about: string
  /** Options and the values of arguments that have choices. */
  readonly words: readonly string[]
  readonly outputs: readonly string[]
}

/** Kinds of objects, as each command takes them. */
const kindWords: Readonly<Record<string, (info: KindInfo) => string>> = {
  get: info => info.plural,
  describe: info => info.singular,
  delete: info => `${info.singular}/`,
}

function wordsOf(command: Command, kinds: readonly KindInfo[]): Words {
  const options = command.createHelp().visibleOptions(command)
  const kindWord = Object.hasOwn(kindWords, command.name()) ? kindWords[command.name()] : undefined
  const choices = [
    ...command.registeredArguments.flatMap(argument => argument.argChoices ?? []),
    ...(kindWord === undefined ? [] : kinds.map(kindWord)),
  ]
  return {
    name: command.name(),
    about: command.description(),
    words: [...choices, ...options.map(option => option.long ?? option.short ?? '')],
    outputs: options.find(option => option.long === '--output')?.argChoices ?? [],
  }
}

function bash(commands: readonly Words[], globals: readonly string[]): string {
  const names = commands.map(({ name }) => name)
  const cases = commands.map(
    ({ name, words, outputs }) =>
      `    ${name}) words='${[...words, ...globals].join(' ')}' outputs='${outputs.join(' ')}' ;;`,
  )
  return `# bash completion for warren: warren completion bash > /etc/bash_completion.d/warren
_warren() {
  local cur=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} word command='' words outputs=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
    case $word in ${names.join('|')}) command=$word && break ;; esac
  done
  case $command in
${cases.join('\n')}
    *) words='${[...names, ...globals].join(' ')}' ;;
  esac
  case $before in
    -o | --output) words=$outputs ;;
    -f | --file | --socket | --config | -n | --namespace) words='' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ \${COMPREPLY[0]-} != */ ]] || compopt -o nospace 2>/dev/null
}
complete -o default -F _warren warren
`
}

function fish(commands: readonly Words[], globals: readonly string[]): string {
  const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`
  const lines = [
    '# fish completion for warren: warren completion fish > ~/.config/fish/completions/warren.fish',
  ]
  for (const option of globals) lines.push(`complete -c warren -l ${option.slice(2)} -r`)
  for (const { name, about, words, outputs } of commands) {
    const inside = `-n '__fish_seen_subcommand_from ${name}'`
    lines.push(`complete -c warren -n __fish_use_subcommand -x -a ${name} -d ${quoted(about)}`)
    for (const word of words) {
      if (word === '--output')
        lines.push(`complete -c warren ${inside} -s o -l output -x -a ${quoted(outputs.join(' '))}`)
      else if (word.startsWith('--')) lines.push(`complete -c warren ${inside} -l ${word.slice(2)}`)
      else lines.push(`complete -c warren ${inside} -a ${word}`)
    }
  }
  return `${lines.join('\n')}\n`
}

export const completionCommand: CommandModule = {
  define(program, cli) {
    program
      .command('completion')
      .description('completion script for a shell')
      .addArgument(new Argument('<shell>', 'which').choices(['bash', 'zsh', 'fish']))
      .addHelpText('after', examples('source <(warren completion bash)', 'warren completion fish | source'))
      .action(
        cli.action(async (shell: string) => {
          const kinds = Object.values((await import('../model/kinds.js')).kinds)
          const commands = program.commands.map(command => wordsOf(command, kinds))
          const globals = ['--socket', '--config']
          if (shell === 'fish') cli.io.write(fish(commands, globals))
          else if (shell === 'bash') cli.io.write(bash(commands, globals))
          else cli.io.write(`autoload -Uz bashcompinit && bashcompinit\n${bash(commands, globals)}`)
          return exit.ok
        }),
      )
  },
}
