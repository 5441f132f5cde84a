// The thread that carries the proxied connections: apart from the agent's, so that neither keeps the other waiting. It
// sits in epoll_wait; orders are read from the port after a write to its eventfd.
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { Engine } from './engine.js'
import type { Limits, Order, Report } from './types.js'

interface WorkerData {
  readonly port: MessagePort
  readonly wakeFd: number
  readonly limits: Limits
}

function run({ port, wakeFd, limits }: WorkerData): void {
  const obey = (): void => {
    for (;;) {
      const received = receiveMessageOnPort(port) as { readonly message: Order } | undefined
      if (received === undefined) return
      engine.order(received.message)
    }
  }
  const engine = new Engine(limits, wakeFd, obey)
  while (engine.turn()) {
    // The loop calls obey() as orders come.
  }
  const report: Report = { type: 'drained', broken: engine.close() }
  port.postMessage(report)
  port.close()
}

run(workerData as WorkerData)
