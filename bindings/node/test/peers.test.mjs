// Two real processes, in Node and in Rust, each way.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { test } from 'node:test';
import { Receiver, send, sendSync, Target } from 'sendfd';
import { connection, need, node, peer, receive, sig, text } from './helpers.mjs';

const null_ = fs.openSync('/dev/null');

for (const path of ['pidfd', 'name']) {
  test(`from Node to Rust over ${path}`, async (t) => {
    if (!need(t, path)) return;
    const server = net.createServer().listen(0);
    await once(server, 'listening');
    const other = peer(t, 'receive', sig, 3);
    assert.equal(await other.line(), 'ready');
    const paths = [path];
    await send(other.pid, sig, server, { paths, tag: 2n ** 64n - 1n, data: 'one' });
    sendSync(other.pid, sig, [null_, server], { paths, tag: 2, data: 'two' });
    const target = await Target.open(other.pid, sig, { paths });
    await target.send(fs.openSync('/proc/self/status'), { close: true });
    target.close();
    const from = `pid=${process.pid}`;
    assert.equal(await other.line(), `${from} tag=${2n ** 64n - 1n} data=one kinds=listener`);
    assert.equal(await other.line(), `${from} tag=2 data=two kinds=other,listener`);
    assert.equal(await other.line(), `${from} tag=0 data= kinds=file`);
    await other.exited();
    server.close();
  });

  test(`from Rust to Node over ${path}`, async (t) => {
    if (!need(t, path)) return;
    const receiver = new Receiver(sig);
    process.env.SENDFD_PATHS = path;
    const other = peer(t, 'send', process.pid, sig, 3, 'in a file of Rust');
    delete process.env.SENDFD_PATHS;
    for (let tag = 0n; tag < 3n; tag++) {
      const message = await receive(receiver);
      assert.equal(message.pid, other.pid);
      assert.equal(message.path, path);
      assert.equal(message.tag, tag);
      assert.equal(message.data.toString(), 'in a file of Rust');
      assert.equal(message.kind().type, 'file');
      assert.equal(await text(message.readStream({ start: 0 })), 'in a file of Rust');
    }
    await other.exited();
    receiver.close();
  });
}

test('a connection from Node to Rust, which answers the client', async (t) => {
  const other = peer(t, 'greet', sig);
  await other.line();
  const { client, accepted } = await connection(t);
  await send(other.pid, sig, accepted, { data: 'a ', close: true });
  client.write('connection');
  assert.equal(await text(client), 'rust got a connection');
});

test('from Node to Node: a server moves, with its address', async (t) => {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const other = node(
    t,
    `import { Receiver } from 'sendfd';
     const receiver = new Receiver(${sig});
     receiver.once('message', (message) => {
       const server = message.server();
       server.on('connection', (socket) => { socket.end('from ' + process.pid); server.close(); });
       receiver.close();
     });`,
  );
  await send(other.pid, sig, server, { timeout: 60_000, close: true });
  assert.equal(await text(net.connect(port, '127.0.0.1')), `from ${other.pid}`);
  await other.exited();
});

test('a sender may exit at once: what it sent arrives', async (t) => {
  const receiver = new Receiver(sig);
  const other = node(
    t,
    `import { sendSync } from 'sendfd';
     for (let tag = 0; tag < 50; tag++) sendSync(${process.pid}, ${sig}, 0, { tag });
     process.kill(process.pid, 'SIGKILL');`,
  );
  await once(other.child, 'exit');
  for (let tag = 0n; tag < 50n; tag++) {
    const message = await receive(receiver);
    assert.equal(message.tag, tag);
    assert.equal(message.pid, other.pid);
    message.close();
  }
  receiver.close();
});

test('children of a process that listens do not listen in its place', async (t) => {
  const receiver = new Receiver(sig);
  // It inherits nothing of the inbox: with its parent's receiver closed, nobody listens.
  const child = spawn('sleep', ['60']);
  t.after(() => child.kill());
  await send(process.pid, sig, null_);
  const message = await receive(receiver);
  assert.ok(message.fd >= 0);
  message.close();
  receiver.close();
  await assert.rejects(send(process.pid, sig, null_), { code: 'ECONNREFUSED' });
  await assert.rejects(send(child.pid, sig, null_), { code: 'ECONNREFUSED' });
});
