// The objects of the isolation harness for lab NAME, one JSON document each: what `lab.sh up --tenants-from` takes.

import { labNamespace } from './lab.js'
import { objects } from './plan.js'

const [lab = 'isolation'] = process.argv.slice(2)
const documents = objects(port => labNamespace(lab, port))
process.stdout.write(documents.map(each => `---\n${JSON.stringify(each)}\n`).join(''))
