// message.server() where Node would ask somebody else for the socket.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { send } from 'sendfd';
import { node, sig } from './helpers.mjs';

const library = new URL('../dist/index.js', import.meta.url).pathname;

/** Servers listen in this process, are handed over, and are asked who answers. */
async function handOver(pid) {
  for (let i = 0; i < 3; i++) {
    const server = http.createServer((_request, response) => response.end('the first one'));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address();
    await send(pid, sig, server, { close: true, timeout: 60_000, tag: i });
    const response = await fetch(`http://127.0.0.1:${port}/`);
    assert.equal(await response.text(), `server ${i}`);
  }
}

const receiving = `
  const receiver = new Receiver(${sig});
  const servers = [];
  receiver.on('message', (message) => {
    const { tag } = message;
    const server = http.createServer((_request, response) => {
      response.setHeader('connection', 'close');
      response.end('server ' + tag);
    });
    servers.push(message.server(server));
  });`;

describe('message.server() listens on the descriptor that came', () => {
  for (const policy of ['SCHED_RR', 'SCHED_NONE']) {
    test(`in a worker of cluster, ${policy}`, async (t) => {
      const { line } = node(
        t,
        `import cluster from 'node:cluster';
         import fs from 'node:fs';
         import http from 'node:http';
         import net from 'node:net';
         import { Receiver } from 'sendfd';
         cluster.schedulingPolicy = cluster.${policy};
         if (cluster.isPrimary) {
           // Whatever number comes, the primary has something else there.
           for (let i = 0; i < 40; i++) net.createServer().listen(0);
           cluster.setupPrimary({ exec: process.execPath, args: process.argv.slice(1) });
           const worker = cluster.fork();
           process.on('exit', () => worker.process.kill());
           console.log(worker.process.pid);
         } else {${receiving}}`,
      );
      await handOver(Number(await line()));
    });
  }

  test('in a worker thread', async (t) => {
    const thread = new Worker(
      `const http = require('node:http');
       const { Receiver } = require(${JSON.stringify(library)});
       ${receiving}`,
      { eval: true },
    );
    t.after(() => thread.terminate());
    await handOver(process.pid);
  });
});
