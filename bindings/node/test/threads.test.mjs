// worker_threads: receiving in them, and their end at any moment.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Receiver, send, sendSync, Target } from 'sendfd';
import { descriptorCount, fails, leaksNothing, sig } from './helpers.mjs';

const null_ = fs.openSync('/dev/null');
const library = new URL('../dist/index.js', import.meta.url).pathname;

function worker(body) {
  const source = `
    const { parentPort } = require('node:worker_threads');
    const { Receiver, Target, send } = require(${JSON.stringify(library)});
    ${body}`;
  const thread = new Worker(source, { eval: true });
  // Asked for at once: the end may come together with what the thread said last.
  thread.exited = once(thread, 'exit');
  return thread;
}

test('a worker thread receives', async () => {
  await leaksNothing(async () => {
    const thread = worker(`
      const receiver = new Receiver(${sig});
      receiver.on('message', (message) => {
        parentPort.postMessage(message.tag);
        message.close();
        receiver.close();
      });`);
    const said = once(thread, 'message');
    await send(process.pid, sig, null_, { tag: 5, timeout: 60_000 });
    assert.deepEqual(await said, [5n]);
    await thread.exited;
  });
});

test('a worker thread sends', async () => {
  await leaksNothing(async () => {
    const receiver = new Receiver(sig);
    const thread = worker(`send(process.pid, ${sig}, 0, { tag: 6 });`);
    const [message] = await once(receiver, 'message');
    assert.equal(message.tag, 6n);
    message.close();
    receiver.close();
    await thread.exited;
  });
});

test('terminated while it receives: nothing is left, and the signal is free', async () => {
  await leaksNothing(async () => {
    for (let round = 0; round < 10; round++) {
      const thread = worker(`
        const kept = [];
        const receiver = new Receiver(${sig});
        const target = Target.openSync(process.pid, ${sig});
        receiver.on('message', (message) => {
          kept.push(message);
          if (kept.length === 20) parentPort.postMessage('busy');
        });`);
      const target = await Target.open(process.pid, sig, { timeout: 60_000 });
      let ended = false;
      const sending = (async () => {
        while (!ended) {
          try {
            target.sendSync(null_);
          } catch (error) {
            assert.ok(['EAGAIN', 'ECONNREFUSED', 'ESRCH'].includes(error.code), error.message);
          }
          await new Promise(setImmediate);
        }
      })();
      await once(thread, 'message');
      await thread.terminate();
      ended = true;
      await sending;
      target.close();
      const receiver = new Receiver(sig);
      receiver.close();
    }
  });
});

test('terminated with messages that nobody has looked at', async () => {
  await leaksNothing(async () => {
    const thread = worker(`
      const receiver = new Receiver(${sig});
      parentPort.postMessage('open');
      // Takes one, and with it some more, then has no time for them.
      receiver.once('message', () => { parentPort.postMessage('one'); for (;;); });`);
    await once(thread, 'message');
    const one = once(thread, 'message');
    for (let i = 0; i < 100; i++) sendSync(process.pid, sig, null_);
    await one;
    await thread.terminate();
    await fails(() => send(process.pid, sig, null_), 'ECONNREFUSED', -111);
  });
});

test('a receiver in each thread, and one signal for one of them', async () => {
  await leaksNothing(async () => {
    const receiver = new Receiver(sig);
    const thread = worker(`
      let code;
      try { new Receiver(${sig}); } catch (error) { code = error.code; }
      const receiver = new Receiver(${sig + 1});
      parentPort.postMessage(code);
      receiver.on('message', (message) => { message.close(); receiver.close(); });`);
    assert.deepEqual(await once(thread, 'message'), ['EADDRINUSE']);
    await send(process.pid, sig + 1, null_);
    await thread.exited;
    await send(process.pid, sig, null_);
    const [message] = await once(receiver, 'message');
    message.close();
    receiver.close();
  });
});

test('threads that come and go leave nothing', async () => {
  await leaksNothing(async () => {
    const threads = Array.from({ length: 8 }, (_, i) =>
      worker(`
        const receiver = new Receiver(${sig + i});
        receiver.on('message', () => {});
        parentPort.postMessage('open');
        if (${i % 2}) process.exit();`),
    );
    await Promise.all(threads.map((thread) => once(thread, 'message')));
    await Promise.all(threads.map((thread) => thread.terminate()));
  });
  assert.ok(descriptorCount() < 100);
});
