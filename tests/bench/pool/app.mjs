// The same handler for the pool and for Node's cluster: who it is; at /mixed, one in ten takes 20 ms.

import cluster from 'node:cluster';
import http from 'node:http';

let count = 0;
const body = `${process.pid}\n`;
const server = http.createServer((request, response) => {
  if (request.url.startsWith('/mixed') && ++count % 10 === 0) {
    const end = performance.now() + 20;
    while (performance.now() < end);
  }
  response.setHeader('Content-Type', 'text/plain');
  response.end(body);
});

if (process.env.SENDFD_PORT) {
  const { Receiver } = await import(process.env.SENDFD_MODULE);
  const receiver = new Receiver(Number(process.env.SENDFD_PORT));
  receiver.serve(server);
  process.once('SIGTERM', () => receiver.retire());
} else if (cluster.isPrimary) {
  const count = Number(process.argv[3]);
  for (let n = count; n > 0; n--) cluster.fork();
  if (count === 0) server.listen(Number(process.argv[2]), '127.0.0.1');
} else {
  server.listen(Number(process.argv[2]), '127.0.0.1');
}
