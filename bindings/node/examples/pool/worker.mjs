// A worker of the pool, in Node: an http.Server that listens nowhere. The connections that it serves
// were accepted by the front, which hands each to a worker by pid.
//
//     SENDFD_PORT=SIG node worker.mjs      or: node worker.mjs SIG
//
// SIGTERM: takes no more, serves what it was given, and ends.

import http from 'node:http';
import { Receiver } from 'sendfd';

const receiver = new Receiver(Number(process.env.SENDFD_PORT ?? process.argv[2]));
receiver.on('error', (error) => console.error(`node ${process.pid}: ${error.message}`));

const server = http.createServer((_request, response) => {
  response.setHeader('Content-Type', 'text/plain');
  response.setHeader('Connection', 'close');
  response.end(`node ${process.pid}\n`);
});

receiver.serve(server, {
  other(message) {
    // The front sends none, but one bad message must not end a worker.
    console.error(`node ${process.pid}: process ${message.pid} sent what is no connection`);
    message.close();
  },
});

// Nothing keeps this process alive when the receiver has ended and the last connection is closed.
process.once('SIGTERM', () => receiver.retire());
