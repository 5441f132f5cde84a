// The registry of the commands of `warren`, in the order of --help. A new command is a line here.
import { applyCommand } from './apply.js'
import { bgpCommand } from './bgp.js'
import { cleanupCommand } from './cleanup.js'
import type { CommandModule } from './command.js'
import { completionCommand } from './completion.js'
import { deleteCommand } from './delete.js'
import { describeCommand } from './describe.js'
import { doctorCommand } from './doctor.js'
import { eventsCommand } from './events.js'
import { getCommand } from './get.js'
import { planCommand } from './plan.js'
import { portCommand } from './port.js'
import { schemaCommand } from './schema.js'
import { servicesCommand } from './services.js'
import { showCommand } from './show.js'
import { statusCommand } from './status.js'
import { supportBundleCommand } from './support-bundle.js'
import { waitCommand } from './wait.js'

export const commands: readonly CommandModule[] = [
  applyCommand,
  getCommand,
  deleteCommand,
  describeCommand,
  servicesCommand,
  bgpCommand,
  portCommand,
  statusCommand,
  doctorCommand,
  supportBundleCommand,
  waitCommand,
  planCommand,
  showCommand,
  eventsCommand,
  schemaCommand,
  cleanupCommand,
  completionCommand,
]
