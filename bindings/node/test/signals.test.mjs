// Signal mode: what is sent raises a real-time signal.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { listen, port, probe, Receiver, send, sendSync, unlisten } from 'sendfd';
import { connection, fails, leaksNothing, node, receive, sig, text } from './helpers.mjs';

const EINVAL = -22;
const EADDRINUSE = -98;
const ECONNREFUSED = -111;

/** So many files, which are told apart by their inodes. */
function files(t, count) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  return Array.from({ length: count }, (_, i) => {
    const name = path.join(folder, String(i));
    fs.writeFileSync(name, '');
    return { name, inode: fs.statSync(name).ino };
  });
}

describe('listen', () => {
  test('brings the descriptor, and who sent it', async (t) => {
    const receiver = listen(sig);
    t.after(() => receiver.close());
    const [file] = files(t, 1);
    const sender = node(
      t,
      `import fs from 'node:fs';
       import { send } from 'sendfd';
       const fd = fs.openSync(${JSON.stringify(file.name)});
       await send(${process.pid}, ${sig}, fd, { timeout: 60_000, tag: 5n, data: 'lost' });`,
    );
    const message = await receive(receiver);
    assert.equal(message.pid, sender.pid);
    assert.equal(message.uid, process.getuid());
    assert.equal(message.gid, 0xffff_ffff);
    assert.equal(message.path, null);
    assert.equal(message.tag, 0n);
    assert.equal(message.data.length, 0);
    assert.equal(fs.fstatSync(message.fd).ino, file.inode);
    message.close();
    await sender.exited();
  });

  test('several in one message come one by one, in order', async (t) => {
    const receiver = listen(sig);
    t.after(() => receiver.close());
    const all = files(t, 100);
    const fds = all.map(({ name }) => fs.openSync(name));
    sendSync(process.pid, sig, fds, { timeout: 60_000 });
    for (const fd of fds) fs.closeSync(fd);
    const inodes = [];
    for await (const message of receiver) {
      inodes.push(fs.fstatSync(message.fd).ino);
      message.close();
      if (inodes.length === all.length) break;
    }
    assert.deepEqual(
      inodes,
      all.map(({ inode }) => inode),
    );
  });

  test('loses nothing and keeps the order while JavaScript does something else', async (t) => {
    const receiver = listen(sig);
    t.after(() => receiver.close());
    const all = files(t, 7);
    const count = 700;
    const sender = node(
      t,
      `import fs from 'node:fs';
       import { sendSync } from 'sendfd';
       const fds = ${JSON.stringify(all.map(({ name }) => name))}.map((name) => fs.openSync(name));
       for (let i = 0; i < ${count}; i++) {
         sendSync(${process.pid}, ${sig}, fds[i % 7], { timeout: 60_000 });
         if (i === 99) console.log('a hundred');
       }`,
    );
    await sender.line();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
    let nth = 0;
    for await (const message of receiver) {
      assert.equal(fs.fstatSync(message.fd).ino, all[nth % 7].inode);
      message.close();
      if (++nth === count) break;
    }
    await sender.exited();
  });

  test('serves connections', async (t) => {
    const server = http.createServer((_, response) => response.end('ok'));
    const receiver = listen(sig);
    receiver.serve(server);
    const { client, accepted } = await connection(t);
    await send(process.pid, sig, accepted, { close: true });
    client.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    assert.match(await text(client), /ok$/);
    const closed = once(server, 'close');
    receiver.retire();
    await closed;
    await fails(() => sendSync(process.pid, sig, 0), 'ECONNREFUSED', ECONNREFUSED);
  });

  test('believes no number that somebody made up', async (t) => {
    const receiver = listen(sig);
    t.after(() => receiver.close());
    // kill(2) says no number; the standard input is not close-on-exec.
    process.kill(process.pid, sig);
    const null_ = fs.openSync('/dev/null');
    t.after(() => fs.closeSync(null_));
    sendSync(process.pid, sig, null_);
    const message = await receive(receiver);
    message.close();
    assert.equal(receiver.dropped, 1);
  });

  test('is refused where it cannot be', async (t) => {
    await fails(() => listen(5), 'EINVAL', EINVAL);
    assert.throws(() => listen('5'), { code: 'ERR_INVALID_ARG_TYPE' });
    const receiver = listen(sig);
    t.after(() => receiver.close());
    await fails(() => listen(sig), 'EADDRINUSE', EADDRINUSE);
    await fails(() => new Receiver(sig), 'EADDRINUSE', EADDRINUSE);
    const other = new Receiver(port(9));
    t.after(() => other.close());
    await fails(() => listen(port(9)), 'EADDRINUSE', EADDRINUSE);
  });

  test('is found by a probe', (t) => {
    const receiver = listen(sig);
    t.after(() => receiver.close());
    assert.notEqual(probe(process.pid, sig).chosen, null);
  });

  test('leaks nothing', async () => {
    await leaksNothing(async () => {
      const receiver = listen(sig);
      const fds = Array.from({ length: 20 }, () => 0);
      sendSync(process.pid, sig, fds);
      const message = await receive(receiver);
      assert.equal(message.fds.length, 1);
      message.close();
      // The others were not taken.
      receiver.close();
      await once(receiver, 'close');
    });
  });
});

describe('unlisten', () => {
  test('ends it, and a signal that comes then does no harm', async () => {
    const receiver = listen(sig);
    unlisten(sig);
    await once(receiver, 'close');
    process.kill(process.pid, sig);
    await fails(() => sendSync(process.pid, sig, 0), 'ECONNREFUSED', ECONNREFUSED);
    await fails(() => unlisten(sig), 'EINVAL', EINVAL);
    const again = listen(sig);
    sendSync(process.pid, sig, 0);
    const message = await receive(again);
    message.close();
    // It was pending.
    assert.equal(again.dropped, 1);
    again.close();
    await fails(() => unlisten(sig), 'EINVAL', EINVAL);
  });

  test('retire: what was raised is received, and then it ends', async () => {
    const receiver = listen(sig);
    sendSync(process.pid, sig, [0, 0, 0], { timeout: 60_000 });
    let count = 0;
    for await (const message of receiver) {
      message.close();
      if (++count === 3) receiver.retire();
    }
    assert.equal(count, 3);
  });
});

test('in a worker thread, until it is terminated', async () => {
  const code = `
    const { parentPort } = require('node:worker_threads');
    const receiver = require('sendfd').listen(${sig});
    receiver.on('message', (message) => { message.close(); parentPort.postMessage('taken'); });
    parentPort.postMessage('ready');`;
  const worker = new Worker(code, { eval: true });
  const next = async () => (await once(worker, 'message'))[0];
  assert.equal(await next(), 'ready');
  const taken = next();
  sendSync(process.pid, sig, 0);
  assert.equal(await taken, 'taken');
  await worker.terminate();
  const receiver = listen(sig);
  sendSync(process.pid, sig, 0);
  (await receive(receiver)).close();
  receiver.close();
});
