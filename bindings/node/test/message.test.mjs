// What arrives becomes what Node works with.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { Message, Receiver, send } from 'sendfd';
import { connection, fails, leaksNothing, node, receive, sig, text } from './helpers.mjs';

const null_ = fs.openSync('/dev/null');

/** Sends it to this process and takes it out of a message. */
async function pass(sendable, options) {
  const receiver = new Receiver(sig);
  await send(process.pid, sig, sendable, options);
  const message = await receive(receiver);
  receiver.close();
  assert.ok(message instanceof Message);
  return message;
}

describe('socket()', () => {
  test('a TCP connection', async (t) => {
    await leaksNothing(async () => {
      const { client, accepted } = await connection(t);
      const message = await pass(accepted, { close: true });
      const socket = message.socket();
      assert.ok(socket instanceof net.Socket);
      assert.equal(message.fd, -1);
      client.end('to the other side');
      assert.equal(await text(socket), 'to the other side');
      socket.destroy();
      client.destroy();
    });
  });

  test('a unix connection, half of it at a time', async () => {
    const at = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-')), 'socket');
    const server = net.createServer({ allowHalfOpen: true }).listen(at);
    const client = net.connect({ path: at, allowHalfOpen: true });
    const [accepted] = await once(server, 'connection');
    const message = await pass(accepted);
    assert.equal(message.kind().family, 'unix');
    const socket = message.socket({ allowHalfOpen: true });
    accepted.destroy();
    client.end('question');
    assert.equal(await text(socket), 'question');
    socket.end('answer');
    assert.equal(await text(client), 'answer');
    server.close();
  });

  test('feeds an http.Server', async (t) => {
    const server = http.createServer((request, response) => {
      response.setHeader('connection', 'close');
      response.end(`you asked for ${request.url}`);
    });
    const { client, accepted } = await connection(t);
    client.write('GET /here HTTP/1.1\r\nHost: x\r\n\r\n');
    const message = await pass(accepted, { close: true });
    server.emit('connection', message.socket({ allowHalfOpen: true }));
    assert.match(await text(client), /200 OK[\s\S]*you asked for \/here/);
  });

  test('what was read before is sent as data and put back in front', async (t) => {
    const { client, accepted } = await connection(t);
    client.write('head ');
    await once(accepted.resume().pause(), 'readable');
    const data = accepted.read();
    assert.equal(data.toString(), 'head ');
    const message = await pass(accepted, { data, close: true });
    client.end('tail');
    const socket = message.socket();
    socket.unshift(message.data);
    assert.equal(await text(socket), 'head tail');
  });

  test('UDP', async () => {
    await leaksNothing(async () => {
      const bound = dgram.createSocket('udp4').bind(0, '127.0.0.1');
      await once(bound, 'listening');
      const { port } = bound.address();
      const message = await pass(bound, { close: true });
      const socket = message.socket();
      assert.ok(socket instanceof dgram.Socket);
      await once(socket, 'listening');
      assert.equal(socket.address().port, port);
      const client = dgram.createSocket('udp4');
      client.send('packet', port, '127.0.0.1');
      const [packet, from] = await once(socket, 'message');
      assert.equal(packet.toString(), 'packet');
      socket.send('back', from.port, from.address);
      assert.equal((await once(client, 'message'))[0].toString(), 'back');
      socket.close();
      client.close();
    });
  });

  test('a pipe', async (t) => {
    const { child, line } = node(
      t,
      `import { send } from 'sendfd';
       import { spawn } from 'node:child_process';
       const cat = spawn('cat', { stdio: ['ignore', 'ignore', 'ignore'] });
       await send(${process.pid}, ${sig}, 0, { timeout: 60_000 });
       console.log('sent');`,
    );
    const receiver = new Receiver(sig);
    const message = await receive(receiver);
    receiver.close();
    assert.ok(['pipe', 'socket'].includes(message.kind().type));
    const socket = message.socket();
    assert.equal(await line(), 'sent');
    child.stdin.end('through the pipe');
    assert.equal(await text(socket), 'through the pipe');
  });
});

describe('server()', () => {
  test('a net.Server of its own', async () => {
    await leaksNothing(async () => {
      const listening = net.createServer().listen(0, '127.0.0.1');
      await once(listening, 'listening');
      const { port } = listening.address();
      const message = await pass(listening, { close: true });
      const server = message.server();
      await once(server, 'listening');
      assert.equal(server.address().port, port);
      const client = net.connect(port, '127.0.0.1');
      const [accepted] = await once(server, 'connection');
      accepted.end('welcome');
      assert.equal(await text(client), 'welcome');
      server.close();
      await once(server, 'close');
    });
  });

  test('an http.Server of ours', async () => {
    const listening = net.createServer().listen(0, '127.0.0.1');
    await once(listening, 'listening');
    const { port } = listening.address();
    const message = await pass([null_, listening]);
    listening.close();
    const server = message.server(
      http.createServer((_, response) => response.end('hello')),
      { index: 1 },
    );
    assert.deepEqual(
      message.fds.map((fd) => fd === -1),
      [false, true],
    );
    message.close();
    const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
    assert.equal(await response.text(), 'hello');
    server.close();
  });
});

describe('streams', () => {
  test('a file is read from where the sender is', async () => {
    await leaksNothing(async () => {
      const at = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-')), 'file');
      fs.writeFileSync(at, '0123456789');
      const file = await fs.promises.open(at);
      await file.read(Buffer.alloc(4), 0, 4);
      const message = await pass(file, { close: true });
      assert.equal(await text(message.readStream()), '456789');
      fs.rmSync(path.dirname(at), { recursive: true });
    });
  });

  test('a file is written to', async () => {
    await leaksNothing(async () => {
      const at = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-')), 'file');
      const fd = fs.openSync(at, 'w');
      const message = await pass(fd, { close: true });
      const stream = message.writeStream();
      stream.end('written');
      await once(stream, 'close');
      assert.equal(fs.readFileSync(at, 'utf8'), 'written');
      fs.rmSync(path.dirname(at), { recursive: true });
    });
  });
});

describe('what it is not', () => {
  const wrong = { name: 'TypeError', code: 'ERR_INVALID_FD_TYPE' };

  test("is refused, and stays the message's", async () => {
    await leaksNothing(async () => {
      const listening = net.createServer().listen(0, '127.0.0.1');
      await once(listening, 'listening');
      const read = fs.openSync('/dev/null', 'r');
      const write = fs.openSync('/dev/null', 'w');
      const message = await pass([listening, read, write]);
      assert.throws(() => message.socket(), { ...wrong, message: /IPv4 stream listening socket/ });
      assert.throws(() => message.socket({ index: 1 }), wrong);
      assert.throws(() => message.server(undefined, { index: 1 }), wrong);
      assert.throws(() => message.writeStream({ index: 1 }), wrong);
      assert.throws(() => message.readStream({ index: 2 }), wrong);
      assert.ok(message.fds.every((fd) => fd >= 0));
      await fails(() => message.kind({ index: 3 }), 'EBADF', -9);
      assert.throws(() => message.kind({ index: 'x' }), { code: 'ERR_INVALID_ARG_TYPE' });
      message.close();
      message.close();
      await fails(() => message.socket(), 'EBADF', -9, { message: /taken out/ });
      listening.close();
      fs.closeSync(read);
      fs.closeSync(write);
    });
  });
});

test('detach() hands the numbers over', async () => {
  await leaksNothing(async () => {
    const message = await pass([null_, null_]);
    const fds = message.detach();
    assert.equal(fds.length, 2);
    assert.deepEqual(message.detach(), []);
    message.close();
    for (const fd of fds) {
      fs.fstatSync(fd);
      fs.closeSync(fd);
    }
  });
});

test('what arrives is close-on-exec', async () => {
  const message = await pass(null_);
  const { 1: flags } = /flags:\s+(\d+)/.exec(
    fs.readFileSync(`/proc/self/fdinfo/${message.fd}`, 'utf8'),
  );
  assert.ok(Number.parseInt(flags, 8) & 0o2000000);
  message.close();
});

test('a forgotten message is closed by the garbage collector, with a warning', async (t) => {
  const { line, exited } = node(
    t,
    `import fs from 'node:fs';
     import { Receiver, sendSync } from 'sendfd';
     const count = () => fs.readdirSync('/proc/self/fd').length;
     const receiver = new Receiver(${sig});
     const iterator = receiver[Symbol.asyncIterator]();
     const receive = async (keep) => {
       sendSync(process.pid, ${sig}, [0, 0]);
       const { value } = await iterator.next();
       if (!keep) value.close();
     };
     await receive(false);
     // The console opens what it needs when it is first used.
     console.log('ready');
     const before = count();
     process.on('warning', ({ name, code, message }) => console.log(name, code, message));
     await receive(false);
     await receive(true);
     if (count() !== before + 2) throw new Error('not kept');
     for (let i = 0; i < 200 && count() !== before; i++) {
       gc();
       await new Promise((resolve) => setTimeout(resolve, 5));
     }
     console.log(count() === before);
     receiver.close();`,
    { flags: ['--expose-gc', '--no-warnings'] },
  );
  assert.equal(await line(), 'ready');
  assert.match(await line(), /^SendfdWarning SENDFD_FORGOTTEN .*2 descriptors/);
  assert.equal(await line(), 'true');
  await exited();
});
