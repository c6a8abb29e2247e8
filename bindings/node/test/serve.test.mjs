// receiver.serve(): a server behaves as if it had listened.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { promisify } from 'node:util';
import express from 'express';
import fastify from 'fastify';
import { MAX_DATA, Receiver, send } from 'sendfd';
import { WebSocket, WebSocketServer } from 'ws';
import { connection, leaksNothing, node, sig, text } from './helpers.mjs';

// Standard input may be a socket.
const null_ = fs.openSync('/dev/null');

// TLS without certificates: both sides know a key.
const key = Buffer.from('a key of these tests');
const secure = { ciphers: 'PSK-AES128-GCM-SHA256', maxVersion: 'TLSv1.2', pskCallback: () => key };
const secureClient = {
  ...secure,
  pskCallback: () => ({ psk: key, identity: 'client' }),
  checkServerIdentity: () => undefined,
  servername: 'worker',
};

/** What a client connected, once the other end was handed to this process. */
async function handOver(t, options = {}) {
  const { client, accepted } = await connection(t);
  await send(process.pid, sig, accepted, { close: true, ...options });
  return client;
}

/** Serves in this process, and stops afterwards. */
function serving(t, server, options) {
  const receiver = new Receiver(sig);
  assert.equal(receiver.serve(server, options), server);
  t.after(() => {
    receiver.close();
    server.closeAllConnections?.();
  });
  return receiver;
}

const count = (server) => promisify(server.getConnections).call(server);

/** Waits for what comes about by itself. */
async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

describe('the servers of Node', () => {
  test('net: counts, options, address, close', async (t) => {
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
    const receiver = serving(t, server);
    assert.ok(server.listening);
    assert.equal(server.address(), null);
    await once(server, 'listening');
    const [client, [socket]] = await Promise.all([handOver(t), once(server, 'connection')]);
    assert.equal(await count(server), 1);
    assert.equal(socket.server, server);
    assert.ok(socket.allowHalfOpen);
    assert.ok(socket.isPaused());
    client.end('half');
    assert.equal(await text(socket.resume()), 'half');
    const closed = once(receiver, 'close');
    let called = false;
    const done = new Promise((resolve) => server.close(resolve)).then(() => {
      called = true;
    });
    assert.ok(!server.listening);
    await closed;
    assert.ok(!called, 'one connection is open');
    socket.end('the other half');
    assert.equal(await text(client), 'the other half');
    await done;
    assert.equal(await count(server), 0);
  });

  test('net: maxConnections', async (t) => {
    const server = net.createServer();
    server.maxConnections = 1;
    serving(t, server);
    const first = await handOver(t);
    await until(async () => (await count(server)) === 1);
    const [second] = await Promise.all([handOver(t), once(server, 'drop')]);
    assert.equal(await text(second), '');
    assert.equal(await count(server), 1);
    first.destroy();
  });

  test('tls', async (t) => {
    const server = tls.createServer(secure, (socket) => socket.end('secret'));
    serving(t, server);
    const client = tls.connect({ socket: await handOver(t), ...secureClient });
    assert.equal(await text(client), 'secret');
  });

  test('http: one connection, many requests', async (t) => {
    const server = http.createServer((request, response) => response.end(request.url));
    serving(t, server);
    const client = await handOver(t);
    client.write('GET /one HTTP/1.1\r\nhost: x\r\n\r\nGET /two HTTP/1.1\r\nhost: x\r\n');
    client.write('connection: close\r\n\r\n');
    assert.match(await text(client), /\/oneHTTP.*\/two$/s);
  });

  test('https', async (t) => {
    const server = https.createServer(secure, (_request, response) => response.end('secret'));
    serving(t, server);
    const client = tls.connect({ socket: await handOver(t), ...secureClient });
    client.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    assert.match(await text(client), /secret$/);
  });

  for (const [name, create, connect] of [
    ['http2', () => http2.createServer(), (socket) => socket],
    [
      'http2 over TLS',
      () => http2.createSecureServer(secure),
      (socket) => tls.connect({ socket, ...secureClient, ALPNProtocols: ['h2'] }),
    ],
  ]) {
    test(name, async (t) => {
      const server = create().on('stream', (stream) => {
        stream.respond({ ':status': 200 });
        stream.end('stream');
      });
      const receiver = serving(t, server);
      const socket = connect(await handOver(t));
      const session = http2.connect('http://x', { createConnection: () => socket });
      const get = () => text(session.request({ ':path': '/' }));
      assert.equal(await get(), 'stream');
      assert.equal(await count(server), 1);
      // Retired, it lets the session end.
      const ended = Promise.all([once(server, 'close'), once(session, 'close')]);
      receiver.retire();
      await ended;
    });
  }
});

test('what was read before it was sent is read first', async (t) => {
  const answer = (request, response) => response.end(request.url);
  const plain = 'GET /head HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n';
  for (const pauseOnConnect of [false, true]) {
    const server = net.createServer({ pauseOnConnect, allowHalfOpen: true }, (socket) => {
      text(socket.resume()).then((all) => socket.end(all));
    });
    const receiver = serving(t, server);
    const client = await handOver(t, { data: 'one ' });
    client.end('two');
    assert.equal(await text(client), 'one two');
    receiver.close();
    await once(server, 'close');
  }
  for (const at of [1, 10, plain.length]) {
    const server = http.createServer(answer);
    const receiver = serving(t, server);
    const client = await handOver(t, { data: plain.slice(0, at) });
    client.write(plain.slice(at));
    assert.match(await text(client), /\/head$/);
    receiver.close();
    await once(server, 'close');
  }
  const server = https.createServer(secure, answer);
  serving(t, server);
  const { client, accepted } = await connection(t);
  const over = tls.connect({ socket: client, ...secureClient });
  over.write(plain);
  await once(accepted, 'readable');
  await send(process.pid, sig, accepted, { data: accepted.read(), close: true });
  assert.match(await text(over), /\/head$/);
});

test('much that was read before it was sent is read first', async (t) => {
  const server = http.createServer(async (request, response) => {
    let length = 0;
    for await (const part of request) length += part.length;
    response.end(`${length} bytes`);
  });
  serving(t, server);
  const length = 3 * 2 ** 19;
  const head = `POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${length}\r\n\r\n`;
  const request = Buffer.concat([Buffer.from(head), Buffer.alloc(length)]);
  // Less than a record has room for, more, what Node reads at once, and the most.
  for (const read of [4096, 4097, 65536, MAX_DATA]) {
    const client = await handOver(t, { data: request.subarray(0, read) });
    client.write(request.subarray(read));
    assert.match(await text(client), new RegExp(`${length} bytes$`));
  }
  // As a front comes by it: one read, of which it knows how much there was only then.
  const { client, accepted } = await connection(t);
  client.write(request);
  await once(accepted, 'readable');
  const data = accepted.read();
  assert.ok(data.length > 4096, `${data.length} bytes were read`);
  await send(process.pid, sig, accepted, { data, close: true });
  assert.match(await text(client), new RegExp(`${length} bytes$`));
});

describe('what is built on them', () => {
  const get = async (t, path = '/') => {
    const client = await handOver(t);
    client.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    return text(client);
  };

  test('Express', async (t) => {
    const app = express().get('/', (_request, response) => response.send('express'));
    serving(t, http.createServer(app));
    assert.match(await get(t), /express$/);
  });

  test('Fastify', async (t) => {
    const app = fastify().get('/', async () => 'fastify');
    await app.ready();
    const receiver = serving(t, app.server);
    assert.match(await get(t), /fastify$/);
    await Promise.all([once(receiver, 'close'), app.close()]);
  });

  test('ws', async (t) => {
    const server = http.createServer();
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket) => {
      socket.on('message', (data) => socket.send(`echo ${data}`));
    });
    serving(t, server);
    const tcp = await handOver(t);
    const client = new WebSocket('ws://x', { createConnection: () => tcp });
    await once(client, 'open');
    client.send('hello');
    const [data] = await once(client, 'message');
    assert.equal(data.toString(), 'echo hello');
    client.close();
    await once(client, 'close');
  });
});

describe("slow and silent clients are cut off by the server's own timeouts", () => {
  const options = { connectionsCheckingInterval: 20 };
  const answer = (_request, response) => response.end('ok');

  test('headersTimeout: a silent one, and one in the middle of its head', async (t) => {
    for (const words of ['', 'GET / HTTP/1.1\r\nhost:']) {
      const server = http.createServer({ ...options, headersTimeout: 100 }, answer);
      const receiver = serving(t, server);
      const client = await handOver(t);
      client.write(words);
      assert.match(await text(client), /^HTTP\/1.1 408 /);
      receiver.close();
      await once(server, 'close');
    }
  });

  test('requestTimeout: one that does not end its body', async (t) => {
    const server = http.createServer({ ...options, headersTimeout: 100, requestTimeout: 150 });
    server.on('request', (request) => request.resume());
    serving(t, server);
    const client = await handOver(t);
    client.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345');
    assert.match(await text(client), /^HTTP\/1.1 408 /);
  });

  test('keepAliveTimeout: an idle one', async (t) => {
    const server = http.createServer({ keepAliveTimeout: 50 }, answer);
    serving(t, server);
    const client = await handOver(t);
    client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
    assert.match(await text(client), /^HTTP\/1.1 200 .*ok/s);
  });

  test('also after the receiver has retired, so that the process ends', async (t) => {
    const server = http.createServer({ ...options, headersTimeout: 300 }, answer);
    const receiver = serving(t, server);
    const client = await handOver(t);
    client.write('GET / HT');
    await until(async () => (await count(server)) === 1);
    const closed = once(server, 'close');
    receiver.retire();
    assert.match(await text(client), /^HTTP\/1.1 408 /);
    await closed;
  });

  test('https, a handshake that does not begin', async (t) => {
    const server = https.createServer({ ...secure, handshakeTimeout: 50 }, answer);
    serving(t, server);
    const [client, [error]] = await Promise.all([handOver(t), once(server, 'tlsClientError')]);
    assert.equal(error.code, 'ERR_TLS_HANDSHAKE_TIMEOUT');
    assert.equal(await text(client), '');
  });
});

describe('closing', () => {
  const request = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';

  test('closeIdleConnections and closeAllConnections', async (t) => {
    let finish;
    const server = http.createServer((_request, response) => {
      finish = () => response.end('late');
      if (!response.req.url.endsWith('slow')) finish();
    });
    serving(t, server);
    const [idle, busy] = [await handOver(t), await handOver(t)];
    idle.write(request);
    await once(idle, 'data');
    busy.write(request.replace('/', '/slow'));
    await once(server, 'request');
    server.closeIdleConnections();
    assert.equal(await text(idle), '');
    assert.equal(await count(server), 1);
    finish();
    assert.match((await once(busy, 'data')).toString(), /late$/);
    server.closeAllConnections();
    assert.equal(await text(busy), '');
    await until(async () => (await count(server)) === 0);
  });

  test('retire: what was sent is served, keep-alive ends with the next response', async (t) => {
    const server = http.createServer((_request, response) => response.end('ok'));
    const receiver = serving(t, server);
    const old = await handOver(t);
    old.write(request);
    await once(old, 'data');
    const queued = [];
    for (let i = 0; i < 50; i++) {
      const client = await handOver(t);
      client.write(request);
      queued.push(text(client));
    }
    const closed = once(server, 'close');
    receiver.retire();
    await assert.rejects(handOver(t), { code: 'ECONNREFUSED' });
    old.write(request);
    assert.match(await text(old), /connection: close.*ok$/is);
    for (const answer of await Promise.all(queued)) assert.match(answer, /ok$/);
    await closed;
  });

  test('close() of the server: what was sent is served before its callback', async (t) => {
    const server = http.createServer((_request, response) => response.end('ok'));
    serving(t, server);
    const clients = [];
    for (let i = 0; i < 50; i++) clients.push(await handOver(t));
    const answers = clients.map((client) => {
      client.write(request.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'));
      return text(client);
    });
    await new Promise((resolve, reject) =>
      server.close((error) => (error ? reject(error) : resolve())),
    );
    for (const answer of await Promise.all(answers)) assert.match(answer, /ok$/);
    await assert.rejects(handOver(t), { code: 'ECONNREFUSED' });
  });

  test('closed at once, it ends', async (t) => {
    const server = http.createServer();
    const receiver = serving(t, server);
    const closed = Promise.all([once(server, 'close'), once(receiver, 'close')]);
    server.close();
    await closed;
    await assert.rejects(promisify(server.close).call(server), { code: 'ERR_SERVER_NOT_RUNNING' });
  });

  test('unref() of the server is that of the receiver', async (t) => {
    const { exited } = node(
      t,
      `import http from 'node:http';
       import { Receiver } from 'sendfd';
       new Receiver(${sig}).serve(http.createServer()).unref();`,
    );
    await exited();
  });
});

test('what is no connection is closed with a warning, or given to `other`', async (t) => {
  const server = http.createServer((_request, response) => response.end('ok'));
  let receiver = serving(t, server);
  const warned = once(process, 'warning');
  await send(process.pid, sig, null_);
  assert.equal((await warned)[0].code, 'SENDFD_NO_CONNECTION');
  receiver.close();
  await once(server, 'close');

  const got = new Promise((resolve) => {
    receiver = serving(t, server, { other: resolve });
  });
  await send(process.pid, sig, [null_, null_], { data: 'two' });
  const message = await got;
  assert.equal(message.data.toString(), 'two');
  message.close();
});

test('a server that listens is refused, and nothing is leaked', async (t) => {
  await leaksNothing(async () => {
    const server = http.createServer((_request, response) => response.end('ok'));
    const receiver = new Receiver(sig);
    receiver.serve(server);
    assert.throws(() => receiver.serve(server), { code: 'ERR_SERVER_ALREADY_LISTEN' });
    for (let i = 0; i < 10; i++) {
      const client = await handOver(t);
      client.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
      await text(client);
    }
    receiver.close();
    await once(server, 'close');
  });
});
