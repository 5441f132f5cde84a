// The backend of a pod in a lab with Services: HTTP and UDP on port 8080, both answer "POD CLIENT-ADDRESS".
//   node scripts/lab-echo.mjs h1/p1
import { createSocket } from 'node:dgram'
import { createServer } from 'node:http'

const pod = process.argv[2] ?? 'pod'
const port = 8080
const plain = address => (address ?? '').replace(/^::ffff:/, '')

createServer((request, response) => {
  response.setHeader('connection', 'close')
  response.end(`${pod} ${plain(request.socket.remoteAddress)}\n`)
}).listen(port, '::')

const udp = createSocket('udp6')
udp.on('message', (_message, { address, port: from }) => {
  udp.send(`${pod} ${plain(address)}\n`, from, address)
})
udp.bind(port, '::')
