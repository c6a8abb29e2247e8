// A worker of the pool, in Node: an ordinary http.Server that listens nowhere. The connections that
// it serves were accepted by the front, which hands each to a worker by pid.
//
//     node worker.mjs SIG

import http from 'node:http';
import { Receiver } from 'sendfd';

const receiver = new Receiver(Number(process.argv[2]));

const server = http.createServer((_request, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.setHeader('Connection', 'close');
  response.end(`node ${process.pid}\n`);
});

receiver.on('message', (message) => {
  try {
    server.emit('connection', message.socket({ allowHalfOpen: true }));
  } catch (error) {
    // Not a connection. The front sends none, but one bad message must not end a worker.
    console.error(`node ${process.pid}: ${error.message}`);
    message.close();
  }
});
receiver.on('error', (error) => console.error(`node ${process.pid}: ${error.message}`));

process.on('SIGTERM', () => process.exit(0));
