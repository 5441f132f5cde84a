// healthCheckNodePort: tells a load balancer outside whether this node has an endpoint of its own for a Service of policy
// Local; `curl http://NODE:PORT/`: 200 with the count, or 503. In process, not in the kernel. It comes before the table
// `service`, so that no new connection is sent here when the rules lead nowhere.
import { asError } from '../../../lib/errors.js'
import type { Answers } from '../../../lib/probe/answers.js'
import type { OpResult, Table } from '../../../lib/reconcile/table.js'
import type { HealthCheck } from '../../model/service-entry.js'

/** The shape that kube-proxy answers with. */
function healthBody({ service, local }: HealthCheck): string {
  const [namespace, name] = service.split('/')
  return `${JSON.stringify({ service: { namespace, name }, localEndpoints: local, serviceProxyHealthy: true })}\n`
}

export function healthTable(answers: Answers): Table<HealthCheck> {
  const live = new Map<number, HealthCheck>()
  return {
    name: 'health',
    key: ({ port }) => String(port),
    equal: (desired, observed) => desired.service === observed.service && desired.local === observed.local,
    observe: async () => [...live.values()],
    async apply(ops) {
      const results: OpResult[] = []
      for (const op of ops) {
        try {
          if (op.verb === 'remove') {
            answers.remove(op.observed.port)
            live.delete(op.observed.port)
          } else {
            const { port, local } = op.desired
            await answers.set(port, { status: local > 0 ? 200 : 503, body: healthBody(op.desired) })
            live.set(port, op.desired)
          }
          results.push(undefined)
        } catch (error) {
          results.push(asError(error))
        }
      }
      return results
    },
    format(op) {
      const { service, port, local } = op.verb === 'remove' ? op.observed : op.desired
      return `# ${op.verb} health check of ${service} on port ${port}${op.verb === 'remove' ? '' : `: ${local} endpoints here`}`
    },
  }
}
