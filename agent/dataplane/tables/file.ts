// Files that we write for other programs (subnet.env). Ours by their first line; somebody else's file is never written over.
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { codeOf, hasCode, WarrenError } from '../../../lib/errors.js'
import type { Table } from '../../../lib/reconcile/table.js'
import type { HostFile } from '../../model/desired.js'
import { fileMark } from '../../model/marks.js'

function readOurs(path: string): { readonly text: string; readonly ours: boolean } | undefined {
  try {
    const text = readFileSync(path, 'utf8')
    return { text, ours: text === '' || text.startsWith(fileMark) }
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}

export function fileTable(paths: readonly string[]): Table<HostFile> {
  return {
    name: 'file',
    key: file => file.path,
    equal: (desired, observed) => desired.text === observed.text,
    observe: async () =>
      paths.flatMap(path => {
        const found = readOurs(path)
        return found?.ours === true ? [{ path, text: found.text }] : []
      }),
    apply: async ops =>
      ops.map(op => {
        const { path } = op.verb === 'remove' ? op.observed : op.desired
        try {
          if (op.verb === 'remove') {
            rmSync(path, { force: true })
          } else {
            if (readOurs(path)?.ours === false) {
              return new WarrenError(
                `Cannot write file "${path}": it is there and not ours (no line "${fileMark}")`,
                {
                  code: 'EEXIST',
                  hint: 'remove it once nothing else writes it (flanneld?), or set subnetFile in warrend.yaml',
                },
              )
            }
            mkdirSync(dirname(path), { recursive: true })
            writeFileSync(`${path}.new`, op.desired.text)
            chmodSync(`${path}.new`, 0o644) // others read it, whatever our umask is
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
        : `cat > ${op.desired.path} <<'EOF'\n${op.desired.text}EOF`,
  }
}
