// A process that uses a file store, for tests that kill it: file-writer.ts DIR MODE ARGUMENT
//   pairs N    transactions that write pair/<N>/a and pair/<N>/b with equal values until it is killed; prints each value
//   lease TTL  holds live/<pid> under a lease until it is killed; prints "held" when it stands
//   once KEY   one put, prints the result or the error's code and message
import { codeOf, describeError } from '../../lib/errors.js'
import { fileKv } from '../../lib/kv/file.js'

const [, , dir = '', mode = '', argument = ''] = process.argv
const kv = fileKv(dir)

if (mode === 'pairs') {
  for (let n = 1; ; n++) {
    const value = `${n} ${'x'.repeat(n % 7 === 0 ? 200_000 : 100)}`
    const puts = ['a', 'b'].map(side => ({ key: `pair/${argument}/${side}`, value }))
    const result = await kv.txn({ compare: [], puts, deletes: [] })
    process.stdout.write(`${n} ${result.revision}\n`)
  }
} else if (mode === 'lease') {
  const lease = await kv.lease(Number(argument), new AbortController().signal)
  await kv.txn({ compare: [], puts: [{ key: `live/${process.pid}`, value: '', lease }], deletes: [] })
  process.stdout.write('held\n')
  setInterval(() => undefined, 1_000)
} else {
  try {
    const { revision } = await kv.txn({ compare: [], puts: [{ key: argument, value: '' }], deletes: [] })
    process.stdout.write(`ok ${revision}\n`)
  } catch (error) {
    process.stdout.write(`${codeOf(error)} ${describeError(error)}\n`)
  }
}
