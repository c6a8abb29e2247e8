// Workers that retire under load, one after another: no client is lost.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { describe, test } from 'node:test';
import { Targets } from 'sendfd';
import { node, sig, text } from './helpers.mjs';

const CLIENTS = 1000;
const AT_ONCE = 50;
const AFTER = 100;

const servers = {
  http: `
    import http from 'node:http';
    const server = http.createServer((request, response) => { served(); response.end('ok'); });`,
  express: `
    import express from 'express';
    import http from 'node:http';
    const app = express().get('/', (request, response) => { served(); response.send('ok'); });
    const server = http.createServer(app);`,
  fastify: `
    import fastify from 'fastify';
    const app = fastify({ keepAliveTimeout: 5000 });
    app.get('/', async () => { served(); return 'ok'; });
    await app.ready();
    const { server } = app;`,
};

describe('a pool whose workers retire after 100 requests each, under load', () => {
  for (const [name, source] of Object.entries(servers)) {
    test(`${name}: ${CLIENTS} clients, none lost`, async (t) => {
      const workers = new Targets(sig);
      const failed = [];
      let started = 0;
      let ended = false;
      const wrong = (error) => ended || failed.push(error.message);
      const start = () => {
        if (ended) return;
        started++;
        const worker = node(
          t,
          `import { Receiver } from 'sendfd';
           let count = 0;
           const served = () => { if (++count === ${AFTER}) receiver.retire(); };
           ${source}
           const receiver = new Receiver(${sig});
           receiver.serve(server);
           console.log('ready');`,
        );
        worker.line().then(() => workers.add(worker.pid), wrong);
        worker.exited().then(start, wrong);
      };
      start();
      start();
      const front = net.createServer({ pauseOnConnect: true }, (socket) => {
        workers.send(socket, { close: true, timeout: 60_000 }).catch((error) => {
          // No worker is there yet, or just none.
          if (error.code === 'ESRCH') return setTimeout(() => front.emit('connection', socket), 5);
          failed.push(error.message);
          socket.destroy();
        });
      });
      front.listen(0, '127.0.0.1');
      await once(front, 'listening');
      const { port } = front.address();
      let next = 0;
      let answered = 0;
      const client = async () => {
        while (next++ < CLIENTS) {
          const socket = net.connect(port, '127.0.0.1');
          socket.on('error', (error) => failed.push(error.message));
          socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
          const answer = await text(socket);
          if (/^HTTP\/1.1 200 .*ok$/s.test(answer)) answered++;
          else failed.push(`answered: ${answer}`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, client));
      ended = true;
      front.close();
      workers.close();
      assert.deepEqual(failed, []);
      assert.equal(answered, CLIENTS);
      assert.ok(started > 6, `${started} workers were started`);
    });
  }
});
