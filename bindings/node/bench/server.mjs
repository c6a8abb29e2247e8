// The servers of tests/bench/servers, in Node: `server.mjs KIND take SIG ADDRESS PORT [OLD_PID]`, `receive SIG`, or
// the control, `inherit FD`. Prints "ready" when it serves. SIGTERM, and for the control a line on its
// standard input, has it stop.

import { once } from 'node:events';
import http from 'node:http';
import express from 'express';
import fastify from 'fastify';
import { offerTakeover, Receiver, takeOver } from 'sendfd';

const text = `node ${process.pid}\n`;
const servers = {
  http: async () =>
    http.createServer((_request, response) => {
      response.end(text);
    }),
  express: async () =>
    http.createServer(express().get('/', (_request, response) => response.send(text))),
  fastify: async () => {
    const app = fastify({ keepAliveTimeout: 5000 });
    app.get('/', async () => text);
    await app.ready();
    return app.server;
  },
};

const [kind, how, where, port, old] = process.argv.slice(2);
const server = await servers[kind]();
if (how === 'receive') {
  const receiver = new Receiver(Number(where));
  receiver.serve(server);
  process.once('SIGTERM', () => receiver.retire());
} else if (how === 'inherit') {
  server.listen({ fd: Number(where) });
  process.once('SIGTERM', () => server.close());
  process.stdin.once('data', () => server.close());
  process.stdin.unref();
  await once(server, 'listening');
} else if (old === undefined) {
  server.listen(Number(port), '127.0.0.1');
  await once(server, 'listening');
} else {
  const taken = await takeOver(Number(old), Number(where));
  taken.server('http', server);
  await once(server, 'listening');
  await taken.serving();
}
if (how === 'take') offerTakeover(Number(where), { http: server }).catch(() => {});
console.log('ready');
