// The thread that carries the proxied connections: apart from the agent's, so that neither keeps the other waiting. It
// sits in epoll_wait; orders are read from the port after a write to its eventfd.
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { Engine } from './engine.js'
import type { Limits, Order, Report } from './types.js'

interface WorkerData {
  readonly port: MessagePort
  readonly limits: Limits
}

function run({ port, limits }: WorkerData): void {
  const engine = new Engine(limits)
  const report = (message: Report): void => port.postMessage(message)
  report({ type: 'ready', wakeFd: engine.loop.wakeFd })
  do {
    for (;;) {
      const received = receiveMessageOnPort(port) as { readonly message: Order } | undefined
      if (received === undefined) break
      engine.order(received.message)
    }
  } while (engine.turn())
  report({ type: 'drained', broken: engine.close() })
  port.close()
}

run(workerData as WorkerData)
