// Files that we write for other programs (subnet.env). Ours by path: the one in the configuration.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { codeOf, hasCode, WarrenError } from '../../../lib/errors.js'
import type { Table } from '../../../lib/reconcile/table.js'
import type { HostFile } from '../../model/desired.js'

export function fileTable(paths: readonly string[]): Table<HostFile> {
  return {
    name: 'file',
    key: file => file.path,
    equal: (desired, observed) => desired.text === observed.text,
    observe: async () =>
      paths.flatMap(path => {
        try {
          return [{ path, text: readFileSync(path, 'utf8') }]
        } catch (error) {
          if (hasCode(error, 'ENOENT', 'ENOTDIR')) return []
          throw error
        }
      }),
    apply: async ops =>
      ops.map(op => {
        const { path } = op.verb === 'remove' ? op.observed : op.desired
        try {
          if (op.verb === 'remove') {
            rmSync(path, { force: true })
          } else {
            mkdirSync(dirname(path), { recursive: true })
            writeFileSync(`${path}.new`, op.desired.text)
            renameSync(`${path}.new`, path)
          }
          return undefined
        } catch (error) {
          return new WarrenError(`Cannot write file "${path}": ${codeOf(error)}`, {
            code: codeOf(error),
            cause: error,
          })
        }
      }),
    format: op =>
      op.verb === 'remove'
        ? `rm ${op.observed.path}`
        : `# write ${op.desired.path}: ${op.desired.text.trim().replaceAll('\n', ' ')}`,
  }
}
