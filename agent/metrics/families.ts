// Every metric there is, in the order of docs/metrics.md. Names, labels and meanings are kept stable: dashboards and alerts
// stand on them. No label has a value for each port, Service, peer or address.

import { loopFamilies } from './families-loop.js'
import { modelFamilies } from './families-model.js'
import { processFamilies } from './families-process.js'
import { trafficFamilies } from './families-traffic.js'
import type { FamilyGroup } from './family.js'

export const familyGroups: readonly FamilyGroup[] = [
  ...loopFamilies,
  ...modelFamilies,
  ...trafficFamilies,
  ...processFamilies,
]
