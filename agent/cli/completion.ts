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

/** Of a group (`port attach`), its own words and those of its commands: Tab after either shows them. */
function wordsOf(command: Command, kinds: readonly KindInfo[]): Words {
  const options = [command, ...command.commands].flatMap(one => one.createHelp().visibleOptions(one))
  const kindWord = Object.hasOwn(kindWords, command.name()) ? kindWords[command.name()] : undefined
  const choices = [
    ...command.commands.map(one => one.name()),
    ...command.registeredArguments.flatMap(argument => argument.argChoices ?? []),
    ...(kindWord === undefined ? [] : kinds.map(kindWord)),
  ]
  return {
    name: command.name(),
    about: command.description(),
    words: [...new Set([...choices, ...options.map(option => option.long ?? option.short ?? '')])],
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

/** As a file `_warren` in fpath (compinit finds it by its first line), and as `source <(warren completion zsh)`. */
function zsh(commands: readonly Words[], globals: readonly string[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`
  const described = commands.map(({ name, about }) => quoted(`${name}:${about.replaceAll(':', '\\:')}`))
  const cases = commands.map(
    ({ name, words, outputs }) =>
      `    ${name}) candidates=(${[...words, ...globals].join(' ')}) outputs=(${outputs.join(' ')}) ;;`,
  )
  return `#compdef warren
# zsh completion for warren: warren completion zsh > a folder of fpath/_warren
_warren() {
  local word command='' outputs=() candidates=() commands=(
    ${described.join('\n    ')}
  )
  for word in \${words[2,CURRENT-1]}; do
    case $word in ${commands.map(({ name }) => name).join('|')}) command=$word && break ;; esac
  done
  case $command in
${cases.join('\n')}
  esac
  case \${words[CURRENT-1]} in
    -o | --output)
      if ((\${#outputs})); then compadd -a outputs; else _files; fi
      return
      ;;
    -f | --file | --socket | --config) _files && return ;;
    -n | --namespace) return ;;
  esac
  if [[ -z $command ]]; then
    _describe command commands
    compadd -- ${globals.join(' ')}
  else
    compadd -S '' -- \${(M)candidates:#*/}
    compadd -- \${candidates:#*/}
  fi
}
if [[ \${funcstack[1]} == _warren ]]; then _warren "$@"; else compdef _warren warren; fi
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
    // Files only where an option takes one.
    lines.push(`complete -c warren ${inside} -f`)
    for (const word of words) {
      if (word === '--file' || (word === '--output' && outputs.length === 0))
        lines.push(`complete -c warren ${inside} -s ${word.slice(2, 3)} -l ${word.slice(2)} -r -F`)
      else if (word === '--output')
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
          else cli.io.write(shell === 'bash' ? bash(commands, globals) : zsh(commands, globals))
          return exit.ok
        }),
      )
  },
}
