// { close: true }: handing over and letting go, without losing a byte.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Receiver, send, sendSync } from 'sendfd';
import { connection, fails, leaksNothing, node, peer, receive, sig, text } from './helpers.mjs';

const refused = { code: 'ERR_SENDFD_BUFFERED' };
const close = true;

test('the connection goes on in the other process', async (t) => {
  const other = peer(t, 'greet', sig);
  await other.line();
  for (const each of [send, sendSync]) {
    await leaksNothing(async () => {
      const { client, accepted } = await connection(t);
      await each(other.pid, sig, accepted, { data: 'data ', close });
      assert.ok(accepted.destroyed);
      client.write('bytes');
      assert.equal(await text(client), 'rust got data bytes');
      client.destroy();
    });
  }
});

test('a number is closed, once', async (t) => {
  const other = peer(t, 'receive', sig, 2);
  await other.line();
  const fd = fs.openSync('/dev/null');
  await send(other.pid, sig, [fd, fd], { close });
  assert.throws(() => fs.fstatSync(fd), { code: 'EBADF' });
});

test('a FileHandle, a server and a datagram socket are closed', async () => {
  const receiver = new Receiver(sig);
  const file = await fs.promises.open('/dev/null');
  const server = net.createServer().listen(0);
  const socket = dgram.createSocket('udp4').bind(0);
  await Promise.all([once(server, 'listening'), once(socket, 'listening')]);
  const closed = Promise.all([once(file, 'close'), once(server, 'close'), once(socket, 'close')]);
  await send(process.pid, sig, [file, server, socket], { close });
  await closed;
  (await receive(receiver)).close();
  receiver.close();
});

test('what was read here and waits is refused, and stays', async (t) => {
  const receiver = new Receiver(sig);
  const { client, accepted } = await connection(t);
  client.write('early');
  await once(accepted.resume().pause(), 'readable');
  await assert.rejects(send(process.pid, sig, accepted, { close }), {
    ...refused,
    message: /5 bytes were read/,
  });
  assert.throws(() => sendSync(process.pid, sig, accepted, { close }), refused);
  assert.equal(accepted.read().toString(), 'early');
  assert.ok(!accepted.destroyed);
  receiver.close();
});

test('what was written here and waits is refused, and is written', async (t) => {
  const receiver = new Receiver(sig);
  const { client, accepted } = await connection(t);
  const much = 'x'.repeat(2 ** 24);
  accepted.write(much);
  await assert.rejects(send(process.pid, sig, accepted, { close }), {
    ...refused,
    message: /bytes were written/,
  });
  accepted.end();
  assert.equal((await text(client)).length, much.length);
  receiver.close();
});

test('a socket that HTTP reads from is refused', async () => {
  const receiver = new Receiver(sig);
  const server = http.createServer(async (request, response) => {
    const error = await send(process.pid, sig, request.socket, { close }).catch((error) => error);
    response.setHeader('connection', 'close');
    response.end(error.code);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const response = await fetch(`http://127.0.0.1:${server.address().port}/`);
  assert.equal(await response.text(), refused.code);
  server.close();
  receiver.close();
});

describe('a server at a path', () => {
  const place = (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-'));
    t.after(() => fs.rmSync(folder, { recursive: true }));
    return path.join(folder, 'socket');
  };
  const ask = (at) => text(net.connect(at));

  test('is handed over, and its path stays', async (t) => {
    const at = place(t);
    const receiver = new Receiver(sig);
    const first = net.createServer((socket) => socket.end('first')).listen(at);
    await once(first, 'listening');
    assert.equal(await ask(at), 'first');
    const closed = once(first, 'close');
    await send(process.pid, sig, first, { close });
    await closed;
    const message = await receive(receiver);
    const waiting = ask(at);
    const second = message.server(net.createServer((socket) => socket.end('second')));
    assert.equal(await waiting, 'second');
    assert.equal(await ask(at), 'second');
    second.close();
    receiver.close();
    // What was not handed over removes its path, as always.
    const other = net.createServer().listen(`${at}.other`);
    await once(other, 'listening');
    other.close();
    await once(other, 'close');
    assert.deepEqual(fs.readdirSync(path.dirname(at)), ['socket']);
  });

  test('that is handed over by a process that then ends', async (t) => {
    const at = place(t);
    const receiver = new Receiver(sig);
    const { exited } = node(
      t,
      `import net from 'node:net';
       import { send } from 'sendfd';
       const server = net.createServer().listen(${JSON.stringify(at)}, async () => {
         await send(${process.pid}, ${sig}, server, { close: true });
       });`,
    );
    const message = await receive(receiver);
    await exited();
    const server = message.server(net.createServer((socket) => socket.end('still there')));
    assert.equal(await ask(at), 'still there');
    server.close();
    receiver.close();
  });

  test('that could not be handed over removes its path when it is closed', async (t) => {
    const at = place(t);
    const server = net.createServer().listen(at);
    await once(server, 'listening');
    await fails(() => send(process.pid, sig, server, { close }), 'ECONNREFUSED', -111);
    server.close();
    await once(server, 'close');
    assert.ok(!fs.existsSync(at));
  });
});

test('while it waits, bytes that arrive stay in the kernel for the target', async (t) => {
  // One that is being read when it is sent, as most are.
  const { client, accepted } = await connection(t, { pauseOnConnect: false });
  accepted.on('data', () => assert.fail('read here'));
  const sending = send(process.pid, sig, accepted, { close, timeout: 60_000 });
  client.end('for the target');
  await new Promise((resolve) => setTimeout(resolve, 30));
  const receiver = new Receiver(sig);
  await sending;
  assert.ok(accepted.destroyed);
  const socket = (await receive(receiver)).socket();
  assert.equal(await text(socket), 'for the target');
  receiver.close();
});

test('what could not be sent goes on here as before', async (t) => {
  for (const flowing of [true, false]) {
    const { client, accepted } = await connection(t, { pauseOnConnect: false });
    const all = flowing ? text(accepted) : null;
    await new Promise(setImmediate);
    const sending = send(process.pid, sig, accepted, { close, timeout: 10 });
    client.end('still here');
    await fails(() => sending, 'ETIMEDOUT', -110);
    assert.ok(!accepted.destroyed);
    assert.equal(await (all ?? text(accepted)), 'still here');
  }
});

describe('a send that waits holds the open file', () => {
  test('a number that is closed and used again meanwhile', async () => {
    await leaksNothing(async () => {
      const fd = fs.openSync('/dev/null');
      const sending = send(process.pid, sig, fd, { timeout: 60_000 });
      fs.closeSync(fd);
      const other = fs.openSync('/proc/self/stat');
      assert.equal(other, fd);
      const receiver = new Receiver(sig);
      await sending;
      const message = await receive(receiver);
      assert.equal(message.kind().type, 'character-device');
      message.close();
      receiver.close();
      fs.closeSync(other);
    });
  });

  for (const close of [false, true]) {
    test(`a socket that is destroyed meanwhile, close: ${close}`, async (t) => {
      await leaksNothing(async () => {
        const { client, accepted } = await connection(t);
        const sending = send(process.pid, sig, accepted, { close, timeout: 60_000 });
        accepted.destroy();
        await once(accepted, 'close');
        const receiver = new Receiver(sig);
        await sending;
        const socket = (await receive(receiver)).socket();
        client.end('still connected');
        assert.equal(await text(socket), 'still connected');
        socket.destroy();
        receiver.close();
      });
    });
  }

  test('and lets it go when it gives up', async () => {
    await leaksNothing(async () => {
      await fails(() => send(process.pid, sig, [0, 1], { timeout: 5 }), 'ETIMEDOUT', -110);
      const abort = new AbortController();
      const sending = send(process.pid, sig, 0, { timeout: 60_000, signal: abort.signal });
      abort.abort();
      await assert.rejects(sending, { code: 'ABORT_ERR' });
    });
  });
});
