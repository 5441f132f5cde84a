// warren cleanup: takes everything of ours off this host; needs neither a daemon nor a store.
import { type CommandModule, examples, exit } from './command.js'
import { hostConfig } from './host-config.js'
import { printable } from './table.js'

export const cleanupCommand: CommandModule = {
  define(program, cli) {
    program
      .command('cleanup')
      .description('remove all that is ours on this host; refused while warrend runs')
      .option('--leave', "also give this node's block and record back; needs the store")
      .addHelpText(
        'after',
        `\nPrints what it removed, as ip, bridge and nft lines. Names and paths come from --config, WARREN_CONFIG or the default file.${examples('systemctl stop warrend && warren cleanup', 'warren cleanup --leave --config /etc/warren/warrend.yaml')}`,
      )
      .action(
        cli.action(async (options: { readonly leave?: boolean }) => {
          const config = await hostConfig(cli, { required: false })
          const { cleanup } = await import('../dataplane/cleanup.js')
          let removed = 0
          await cleanup(config, { leave: options.leave === true }, line => {
            removed += 1
            cli.print([printable(line, true)])
          })
          if (removed === 0) cli.complain(['Nothing of ours was there.'])
          return exit.ok
        }),
      )
  },
}
