// warren schema: JSON Schema of the model, for editors and other programs.
import { type CommandModule, examples, exit } from './command.js'

export const schemaCommand: CommandModule = {
  define(program, cli) {
    program
      .command('schema')
      .description('JSON Schema of everything that "warren apply" takes')
      .addHelpText(
        'after',
        `\nIn an editor: "# yaml-language-server: $schema=warren.schema.json" on top of a file.${examples('warren schema > warren.schema.json')}`,
      )
      .action(
        cli.action(async () => {
          const { jsonSchema } = await import('../model/json-schema.js')
          cli.io.write(`${JSON.stringify(jsonSchema(), null, 2)}\n`)
          return exit.ok
        }),
      )
  },
}
