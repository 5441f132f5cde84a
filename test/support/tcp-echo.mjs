// TCP for the shell tests, without a dependency: a server, clients that come and go, and one that stays.
//
//   node tcp-echo.mjs server PORT NAME [ADDRESS]           answers every line with NAME
//   node tcp-echo.mjs clients ADDRESS PORT [PARALLEL]      PARALLEL (8) at a time: connect, a line, its answer, end, a pause of
//     10 ms; until SIGTERM, then one line of JSON: {tried, answered, failed: {CODE: count}, lastFailed, slowestMs,
//     by: {NAME: count}}. A connection has 20 s; CODE: an errno, TIMEOUT, or EOF (it ended in order, but without an
//     answer); lastFailed: when the last of those that failed began, ms since 1970; 0: none did
//   node tcp-echo.mjs stay ADDRESS PORT MS                 one connection, a line every 20 ms for MS, then it ends it:
//     {answered, end: "complete" | CODE, afterMs}
import { connect, createServer } from 'node:net'

const patienceMs = 20_000

function server(port, name, host = '::') {
  createServer({ allowHalfOpen: true }, socket => {
    socket.on('data', data => {
      for (const byte of data) if (byte === 10) socket.write(`${name}\n`)
    })
    socket.on('end', () => socket.end()).on('error', () => undefined)
  }).listen({ port, host, backlog: 4096 }, () => console.log('ready'))
}

/** Resolves to the first line of the answer; rejects with what a report calls it. */
function ask(host, port) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port })
    let text = ''
    socket.setTimeout(patienceMs, () => socket.destroy(Object.assign(new Error(), { code: 'TIMEOUT' })))
    socket.on('connect', () => socket.write('?\n'))
    socket.on('data', data => {
      text += data
      if (text.endsWith('\n')) socket.end()
    })
    socket.on('error', error => reject(error.code ?? 'ERROR'))
    socket.on('close', () => (text.endsWith('\n') ? resolve(text.trim()) : reject('EOF')))
  })
}

async function clients(host, port, parallel) {
  const report = { tried: 0, answered: 0, failed: {}, lastFailed: 0, slowestMs: 0, by: {} }
  let stopped = false
  process.on('SIGTERM', () => {
    stopped = true
  })
  const count = (into, what) => {
    into[what] = (into[what] ?? 0) + 1
  }
  const one = async () => {
    while (!stopped) {
      report.tried++
      const began = performance.now()
      const beganAt = Date.now()
      try {
        count(report.by, await ask(host, port))
        report.answered++
      } catch (code) {
        count(report.failed, code)
        report.lastFailed = Math.max(report.lastFailed, beganAt)
      }
      report.slowestMs = Math.max(report.slowestMs, Math.round(performance.now() - began))
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  }
  console.log('ready')
  await Promise.all(Array.from({ length: parallel }, one))
  console.log(JSON.stringify(report))
}

function stay(host, port, ms) {
  const socket = connect({ host, port })
  const report = { answered: 0, end: 'EOF', afterMs: 0 }
  const began = performance.now()
  const timer = setInterval(() => {
    if (performance.now() - began < ms) {
      socket.write('?\n')
      return
    }
    report.end = 'complete'
    socket.end()
  }, 20)
  socket.on('data', data => {
    for (const byte of data) if (byte === 10 && ++report.answered === 1) console.log('ready')
  })
  socket.on('error', error => {
    report.end = error.code
  })
  socket.on('close', () => {
    clearInterval(timer)
    report.afterMs = Math.round(performance.now() - began)
    console.log(JSON.stringify(report))
  })
}

const [mode, ...rest] = process.argv.slice(2)
if (mode === 'server') server(Number(rest[0]), rest[1] ?? 'server', rest[2])
else if (mode === 'clients') void clients(rest[0], Number(rest[1]), Number(rest[2] ?? 8))
else stay(rest[0], Number(rest[1]), Number(rest[2]))
