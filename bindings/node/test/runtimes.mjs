// What works in every runtime that loads the addon. Uses nothing but what they all have.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { detect, probe, Receiver, SIGRTMIN, send, sendSync, Target } from 'sendfd';

const { bun, deno, node } = process.versions;
const name = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node ${node}`;

const sig = SIGRTMIN + 1;
const stdin = 0;
const receiver = new Receiver(sig);
const iterator = receiver[Symbol.asyncIterator]();
const receive = async () => (await iterator.next()).value;
const descriptors = () => fs.readdirSync('/proc/self/fd').length;

await send(process.pid, sig, stdin, { tag: 2n ** 64n - 1n, data: 'text' });
const message = await receive();
assert.equal(message.tag, 2n ** 64n - 1n);
assert.equal(message.data.toString(), 'text');
assert.equal(message.pid, process.pid);
assert.equal(message.kind().type, detect(stdin).type);
message.close();

const arrived = once(receiver, 'message');
sendSync(process.pid, sig, [stdin, stdin]);
const [both] = await arrived;
assert.equal(both.fds.length, 2);
both.close();

const before = descriptors();
const target = await Target.open(process.pid, sig);
const sending = (async () => {
  for (let tag = 0; tag < 10_000; tag++) await target.send(stdin, { tag, timeout: 60_000 });
})();
for (let tag = 0n; tag < 10_000n; tag++) {
  const message = await receive();
  assert.equal(message.tag, tag);
  message.close();
}
await sending;
target.close();
assert.equal(descriptors(), before);

// Deno's sockets have no descriptors. What arrives there becomes a socket all the same.
if (!deno) {
  const server = net.createServer({ pauseOnConnect: true });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = net.connect(server.address().port, '127.0.0.1');
  const [accepted] = await once(server, 'connection');
  await send(process.pid, sig, [server, accepted]);
  const message = await receive();
  assert.equal(message.kind().listening, true);
  const socket = message.socket({ index: 1 });
  message.close();
  client.write('bytes');
  assert.equal((await once(socket, 'data')).toString(), 'bytes');
  client.destroy();
  socket.destroy();
  accepted.destroy();
  server.close();
}

assert.equal(probe(process.pid, sig).pid, process.pid);
await assert.rejects(send(process.pid, sig + 1, stdin), { code: 'ECONNREFUSED', errno: -111 });
await assert.rejects(send(process.pid, sig + 1, stdin, { timeout: 5 }), { code: 'ETIMEDOUT' });
assert.throws(() => new Receiver(sig), { code: 'EADDRINUSE', syscall: 'sendfd' });

const waiting = iterator.next();
receiver.close();
assert.deepEqual(await waiting, { done: true, value: undefined });
console.log(`${name}: sends, receives, waits and fails as it should`);
