// The receiver: events, iterators, backpressure, its life.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Receiver, send, sendSync, Target } from 'sendfd';
import { fails, leaksNothing, node, peer, receive, sig } from './helpers.mjs';

const null_ = fs.openSync('/dev/null');

describe('events', () => {
  test("'message' for each, in order", async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      const tags = [];
      const all = new Promise((resolve) => {
        receiver.on('message', (message) => {
          tags.push(message.tag);
          message.close();
          if (tags.length === 200) resolve();
        });
      });
      for (let tag = 0; tag < 200; tag++) sendSync(process.pid, sig, null_, { tag });
      await all;
      assert.deepEqual(
        tags,
        Array.from({ length: 200 }, (_, tag) => BigInt(tag)),
      );
      receiver.close();
      await once(receiver, 'close');
    });
  });

  test('a listener for one takes one', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      for (let tag = 0; tag < 5; tag++) sendSync(process.pid, sig, null_, { tag });
      for (let tag = 0n; tag < 3n; tag++) {
        const [message] = await once(receiver, 'message');
        assert.equal(message.tag, tag);
        message.close();
      }
      receiver.close();
    });
  });

  test('a listener that throws loses no other message', async (t) => {
    const { line, exited } = node(
      t,
      `import { Receiver, sendSync } from 'sendfd';
       const receiver = new Receiver(${sig});
       process.on('uncaughtException', (error) => console.log(error.message));
       for (let tag = 0; tag < 4; tag++) sendSync(process.pid, ${sig}, 0, { tag });
       receiver.on('message', (message) => {
         message.close();
         if (message.tag === 3n) receiver.close();
         throw new Error('thrown at ' + message.tag);
       });`,
    );
    for (let tag = 0; tag < 4; tag++) assert.equal(await line(), `thrown at ${tag}`);
    await exited();
  });

  test('microtasks and ticks run after each wake-up', async (t) => {
    const { line, exited } = node(
      t,
      `import { Receiver, sendSync } from 'sendfd';
       const receiver = new Receiver(${sig});
       receiver.on('message', async (message) => {
         message.close();
         await null;
         process.nextTick(() => { console.log('ran'); receiver.close(); });
       });
       sendSync(process.pid, ${sig}, 0);`,
    );
    assert.equal(await line(), 'ran');
    await exited();
  });
});

describe('the iterator', () => {
  test('gives messages in order and ends with the receiver', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      for (let tag = 0; tag < 100; tag++) sendSync(process.pid, sig, null_, { tag });
      let next = 0n;
      for await (const message of receiver) {
        assert.equal(message.tag, next++);
        message.close();
        if (next === 100n) receiver.close();
      }
      assert.equal(next, 100n);
    });
  });

  test('leaving the loop leaves the receiver open', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      for (let tag = 0; tag < 10; tag++) sendSync(process.pid, sig, null_, { tag });
      for (let tag = 0n; tag < 10n; tag++) {
        for await (const message of receiver) {
          assert.equal(message.tag, tag);
          message.close();
          break;
        }
      }
      receiver.close();
    });
  });

  test('several that wait are served in the order in which they asked', async () => {
    const receiver = new Receiver(sig);
    const iterator = receiver[Symbol.asyncIterator]();
    const asked = [1, 2, 3].map(() => iterator.next());
    for (let tag = 1; tag <= 3; tag++) sendSync(process.pid, sig, null_, { tag });
    const tags = (await Promise.all(asked)).map(({ value }) => {
      value.close();
      return value.tag;
    });
    assert.deepEqual(tags, [1n, 2n, 3n]);
    const last = iterator.next();
    receiver.close();
    assert.deepEqual(await last, { done: true, value: undefined });
    assert.deepEqual(await iterator.next(), { done: true, value: undefined });
  });
});

test('100,000 messages to a slow consumer: all arrive in order, and few wait in this process', async (t) => {
  const receiver = new Receiver(sig);
  const count = 100_000;
  peer(t, 'send', process.pid, sig, count, 'text');
  let next = 0n;
  let most = 0;
  const base = process.memoryUsage().arrayBuffers;
  const descriptors = fs.readdirSync('/proc/self/fd').length;
  for await (const message of receiver) {
    assert.equal(message.tag, next++);
    message.close();
    // Slow, compared with a sender that does nothing else.
    if (next % 1000n === 0n) {
      await sleep(2);
      most = Math.max(most, fs.readdirSync('/proc/self/fd').length - descriptors);
    }
    if (next === BigInt(count)) break;
  }
  assert.ok(most <= 40, `${most} more descriptors than before are open at most`);
  assert.ok(process.memoryUsage().arrayBuffers - base < 2 ** 20, 'memory is bounded');
  receiver.close();
});

test('without a consumer nothing is received, and senders feel it', async () => {
  await leaksNothing(async () => {
    const receiver = new Receiver(sig);
    const target = Target.openSync(process.pid, sig);
    await fails(
      async () => {
        for (;;) {
          target.sendSync(null_);
          await new Promise(setImmediate);
        }
      },
      'EAGAIN',
      -11,
    );
    target.close();
    receiver.close();
  });
});

describe('a full descriptor table', () => {
  const source = (consume) => `
    import fs from 'node:fs';
    import { Receiver, sendSync } from 'sendfd';
    const receiver = new Receiver(${sig});
    const files = [];
    for (let tag = 0; tag < 5; tag++) sendSync(process.pid, ${sig}, 0, { tag });
    try { for (;;) files.push(fs.openSync('/dev/null')); } catch {}
    const makeRoom = () => files.splice(0).forEach((fd) => fs.closeSync(fd));
    let next = 0n;
    const take = (message) => {
      if (message.tag !== next++) throw new Error('lost one');
      message.close();
      if (next === 5n) { console.log('all'); receiver.close(); }
    };
    ${consume}`;
  const wrap = ['prlimit', '--nofile=100'];

  test("is an 'error', once, and loses nothing", async (t) => {
    const { line, exited } = node(
      t,
      source(`
        receiver.on('message', take);
        receiver.on('error', (error) => {
          console.log(error.code, error.errno, error.syscall);
          // Long enough for it to be tried again in vain.
          setTimeout(makeRoom, 50);
        });`),
      { wrap },
    );
    assert.equal(await line(), 'EMFILE -24 sendfd');
    assert.equal(await line(), 'all');
    await exited();
  });

  test("ends no loop: it is an 'error', once, or a warning, once", async (t) => {
    for (const say of [
      "receiver.on('error', say);",
      "process.on('warning', ({ code }) => say({ code: code.slice(7), errno: -24, syscall: 'sendfd' }));",
    ]) {
      const { line, exited } = node(
        t,
        source(`
          const say = ({ code, errno, syscall }) => {
            console.log(code, errno, syscall);
            setTimeout(makeRoom, 50);
          };
          ${say}
          for await (const message of receiver) take(message);`),
        { wrap, flags: ['--no-warnings'] },
      );
      assert.equal(await line(), 'EMFILE -24 sendfd');
      assert.equal(await line(), 'all');
      await exited();
    }
  });
});

describe('its life', () => {
  test('keeps the process alive while it receives, and only then', async (t) => {
    const idle = node(t, `import { Receiver } from 'sendfd'; new Receiver(${sig});`);
    await idle.exited();
    const unwatched = node(
      t,
      `import { Receiver } from 'sendfd';
       const receiver = new Receiver(${sig});
       receiver.on('message', () => {});
       receiver.unref();`,
    );
    await unwatched.exited();
    const left = node(
      t,
      `import { Receiver } from 'sendfd';
       const receiver = new Receiver(${sig});
       const listener = () => {};
       receiver.unref().ref().on('message', listener);
       receiver.off('message', listener);`,
    );
    await left.exited();
    const busy = node(
      t,
      `import { Receiver } from 'sendfd';
       const receiver = new Receiver(${sig}).unref().ref();
       receiver.on('message', (message) => { message.close(); receiver.close(); });
       receiver.on('close', () => console.log('closed'));`,
    );
    await send(busy.pid, sig, null_, { timeout: 60_000 });
    assert.equal(await busy.line(), 'closed');
    await busy.exited();
  });

  test('close() lets a next one open at once, and may be called again', async () => {
    await leaksNothing(async () => {
      for (let i = 0; i < 20; i++) {
        const receiver = new Receiver(sig);
        receiver.on('message', () => assert.fail('nothing was sent'));
        receiver.close();
        receiver.close();
        assert.equal(receiver.dropped, 0);
      }
    });
  });

  test('close() closes what nobody received', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      for (let tag = 0; tag < 100; tag++) sendSync(process.pid, sig, null_, { tag });
      (await receive(receiver)).close();
      receiver.close();
      await fails(() => send(process.pid, sig, null_), 'ECONNREFUSED', -111);
    });
  });

  test('close() from within a listener', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      for (let tag = 0; tag < 10; tag++) sendSync(process.pid, sig, null_, { tag });
      let count = 0;
      receiver.on('message', (message) => {
        count++;
        message.close();
        receiver.close();
      });
      await once(receiver, 'close');
      assert.equal(count, 1);
    });
  });

  test('[Symbol.asyncDispose] waits until it is closed', async () => {
    const receiver = new Receiver(sig);
    let closed = false;
    receiver.on('close', () => {
      closed = true;
    });
    await receiver[Symbol.asyncDispose]();
    assert.ok(closed);
    await receiver[Symbol.asyncDispose]();
  });

  test('an idle one that is forgotten is closed with its garbage', async (t) => {
    const { line, exited } = node(
      t,
      `import { Receiver } from 'sendfd';
       (() => { new Receiver(${sig}); })();
       for (let i = 0; i < 100; i++) {
         gc();
         await new Promise(setImmediate);
         try { new Receiver(${sig}).close(); console.log('free'); break; } catch {}
       }`,
      { flags: ['--expose-gc'] },
    );
    assert.equal(await line(), 'free');
    await exited();
  });
});
