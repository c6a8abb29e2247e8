// What can be sent, and what arrives.

import assert from 'node:assert/strict';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { describe, test } from 'node:test';
import { MAX_DATA, MAX_FDS, Receiver, send, sendSync, Target } from 'sendfd';
import { connection, fails, leaksNothing, need, node, peer, receive, sig } from './helpers.mjs';

const null_ = fs.openSync('/dev/null', 'r');

describe('everything that has a descriptor', () => {
  async function sent(sendable, options) {
    const receiver = new Receiver(sig);
    try {
      await send(process.pid, sig, sendable, options);
      const message = await receive(receiver);
      const kinds = message.fds.map((_, index) => message.kind({ index }));
      message.close();
      return kinds;
    } finally {
      receiver.close();
    }
  }

  test('a number', async () => {
    await leaksNothing(async () => {
      const [kind] = await sent(null_);
      assert.deepEqual(kind, { type: 'character-device', readable: true, writable: false });
    });
  });

  test('a FileHandle', async () => {
    await leaksNothing(async () => {
      const file = await fs.promises.open('/proc/self/status');
      assert.equal((await sent(file))[0].type, 'file');
      await file.close();
    });
  });

  test('a file stream', async () => {
    const stream = fs.createReadStream('/proc/self/status');
    await once(stream, 'open');
    assert.equal((await sent(stream))[0].type, 'file');
    stream.destroy();
  });

  test('a net.Socket', async (t) => {
    const { client } = await connection(t);
    const [kind] = await sent(client);
    assert.deepEqual(
      { ...kind },
      {
        type: 'socket',
        family: 'IPv4',
        socketType: 'stream',
        protocol: 6,
        listening: false,
        readable: true,
        writable: true,
      },
    );
  });

  test('a net.Server', async () => {
    const server = net.createServer().listen(0, '::1');
    await once(server, 'listening');
    const [kind] = await sent(server);
    assert.equal(kind.listening, true);
    assert.equal(kind.family, 'IPv6');
    server.close();
  });

  test('a dgram.Socket, without a deprecation warning', async () => {
    const warnings = [];
    const warned = (warning) => warnings.push(warning);
    process.on('warning', warned);
    const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const [kind] = await sent(socket);
    assert.equal(kind.socketType, 'dgram');
    socket.close();
    await new Promise(setImmediate);
    process.off('warning', warned);
    assert.deepEqual(warnings, []);
  });

  test('an array of these, up to 253', async () => {
    await leaksNothing(async () => {
      const file = fs.openSync('/dev/zero');
      const kinds = await sent([null_, { fd: file }, ...Array(MAX_FDS - 2).fill(null_)]);
      assert.equal(kinds.length, 253);
      fs.closeSync(file);
    });
  });
});

describe('what goes with it', () => {
  const cases = [
    ['nothing', {}, 0n, ''],
    ['a string', { data: 'grüße' }, 0n, 'grüße'],
    ['a Buffer', { data: Buffer.from('bytes') }, 0n, 'bytes'],
    ['a view of a larger buffer', { data: Buffer.from('xabcx').subarray(1, 4) }, 0n, 'abc'],
    ['a DataView', { data: new DataView(new TextEncoder().encode('view').buffer) }, 0n, 'view'],
    ['a Uint16Array', { data: new Uint16Array([0x4141, 0x4242]) }, 0n, 'AABB'],
    ['4096 bytes', { data: 'y'.repeat(4096) }, 0n, 'y'.repeat(4096)],
    ['4097 bytes', { data: 'y'.repeat(4097) }, 0n, 'y'.repeat(4097)],
    ['1 MiB', { data: Buffer.alloc(MAX_DATA, 'abcd') }, 0n, 'abcd'.repeat(2 ** 18)],
    ['a small tag', { tag: 7 }, 7n, ''],
    ['the largest number', { tag: Number.MAX_SAFE_INTEGER }, BigInt(Number.MAX_SAFE_INTEGER), ''],
    ['the largest tag', { tag: 2n ** 64n - 1n }, 2n ** 64n - 1n, ''],
    ['both', { tag: 2n ** 32n, data: 'z' }, 2n ** 32n, 'z'],
  ];
  for (const [name, options, tag, data] of cases) {
    test(name, async () => {
      const receiver = new Receiver(sig);
      for (const each of [send, sendSync]) {
        await each(process.pid, sig, null_, options);
        const message = await receive(receiver);
        assert.equal(message.tag, tag);
        assert.equal(message.data.toString(), data);
        assert.equal(message.pid, process.pid);
        assert.equal(message.uid, process.geteuid());
        assert.equal(message.gid, process.getegid());
        message.close();
      }
      receiver.close();
    });
  }

  test('the bytes of the data are those of the call, although it waits', async (_t) => {
    const data = Buffer.from('before');
    const sending = send(process.pid, sig, null_, { data, timeout: 10_000 });
    data.fill('x');
    const receiver = new Receiver(sig);
    await sending;
    const message = await receive(receiver);
    assert.equal(message.data.toString(), 'before');
    message.close();
    receiver.close();
  });
});

describe('paths', () => {
  for (const path of ['pidfd', 'name']) {
    test(path, async (t) => {
      if (!need(t, path)) return;
      await leaksNothing(async () => {
        const receiver = new Receiver(sig);
        await send(process.pid, sig, null_, { paths: [path] });
        const message = await receive(receiver);
        assert.equal(message.path, path);
        message.close();
        using(Target.openSync(process.pid, sig, { paths: [path] }), (target) => {
          assert.equal(target.path, path);
        });
        receiver.close();
      });
    });
  }
});

function using(target, f) {
  try {
    f(target);
  } finally {
    target.close();
  }
}

describe('waiting', () => {
  test('for a target that is still booting', async (t) => {
    const { pid, line } = node(
      t,
      `import { Receiver } from 'sendfd';
       setTimeout(() => {
         const receiver = new Receiver(${sig});
         receiver.on('message', (message) => { console.log(message.tag); message.close(); });
       }, 100);`,
    );
    await send(pid, sig, null_, { timeout: 60_000, tag: 3 });
    assert.equal(await line(), '3n');
  });

  test('for room, in the order of the calls, with the loop running', async (_t) => {
    const receiver = new Receiver(sig);
    const sending = [];
    const count = 2000;
    for (let tag = 0; tag < count; tag++) {
      sending.push(send(process.pid, sig, null_, { tag, timeout: 60_000 }));
    }
    for (let tag = 0n; tag < count; tag++) {
      const message = await receive(receiver);
      assert.equal(message.tag, tag);
      message.close();
    }
    await Promise.all(sending);
    receiver.close();
  });

  test('in the order of the calls, when a call empties the queue of those that wait', async () => {
    const receiver = new Receiver(sig);
    const iterator = receiver[Symbol.asyncIterator]();
    let sent = 0;
    let next = 0n;
    const sending = [];
    const burst = (count) => {
      for (let i = 0; i < count; i++) {
        sending.push(send(process.pid, sig, null_, { tag: sent++, timeout: 60_000 }));
      }
    };
    const take = async (count) => {
      for (let i = 0; i < count; i++) {
        const { value } = await iterator.next();
        assert.equal(value.tag, next++);
        value.close();
      }
    };
    // However many wait, receiving makes room for a few more than one: for some number, for just
    // those that wait, and not for the call that finds them waiting.
    for (let waiting = 1; waiting <= 34; waiting++) {
      assert.throws(
        () => {
          for (;;) {
            sendSync(process.pid, sig, null_, { tag: sent });
            sent++;
          }
        },
        { code: 'EAGAIN' },
      );
      burst(waiting);
      await take(1);
      burst(10);
      await take(40);
      burst(10);
      await take(sent - Number(next));
    }
    await Promise.all(sending);
    receiver.close();
  });

  test('a sendSync does not overtake what waits', async (t) => {
    const other = peer(t, 'hold', sig);
    await other.line();
    const target = Target.openSync(other.pid, sig);
    fill(target);
    const first = target.send(null_, { timeout: 60_000, tag: 1 });
    await fails(() => target.sendSync(null_, { tag: 2 }), 'EAGAIN', -11);
    await fails(() => target.sendSync(null_, { tag: 2, timeout: 5 }), 'ETIMEDOUT', -110);
    other.child.kill();
    await fails(() => first, 'ESRCH', -3);
    target.close();
  });

  test('an AbortSignal ends it', async () => {
    await leaksNothing(async () => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const sending = send(process.pid, sig, null_, {
        timeout: Infinity,
        signal: controller.signal,
      });
      controller.abort(reason);
      await assert.rejects(sending, { name: 'AbortError', code: 'ABORT_ERR', cause: reason });
      const receiver = new Receiver(sig);
      await send(process.pid, sig, null_, { tag: 9 });
      const message = await receive(receiver);
      assert.equal(message.tag, 9n, 'what was aborted is not sent later');
      message.close();
      receiver.close();
    });
  });

  test('an aborted AbortSignal lets nothing be sent', async () => {
    const receiver = new Receiver(sig);
    const signal = AbortSignal.abort();
    await assert.rejects(send(process.pid, sig, null_, { signal }), { name: 'AbortError' });
    await send(process.pid, sig, null_, { tag: 1 });
    const message = await receive(receiver);
    assert.equal(message.tag, 1n);
    message.close();
    receiver.close();
  });
});

describe('Target', () => {
  test('opens, sends, closes', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      const target = await Target.open(process.pid, sig);
      assert.deepEqual([target.pid, target.sig], [process.pid, sig]);
      await target.send(null_, { tag: 1 });
      target.sendSync([null_, null_], { data: 'two' });
      const [first, second] = [await receive(receiver), await receive(receiver)];
      assert.equal(first.tag, 1n);
      assert.equal(second.fds.length, 2);
      first.close();
      second.close();
      target.close();
      target.close();
      await fails(() => target.send(null_), 'EBADF', -9, { message: /closed/ });
      await fails(() => target.sendSync(null_), 'EBADF', -9);
      receiver.close();
    });
  });

  test('waits for its process to listen', async () => {
    const opening = Target.open(process.pid, sig, { timeout: 60_000 });
    const receiver = new Receiver(sig);
    const target = await opening;
    target.close();
    receiver.close();
  });

  test('stands for one process', async (t) => {
    const other = peer(t, 'hold', sig);
    await other.line();
    const target = Target.openSync(other.pid, sig);
    other.child.stdin.end();
    await other.exited();
    await fails(() => target.send(null_, { timeout: 1000 }), 'ESRCH', -3);
    target.close();
  });

  test('what waits when it is closed is rejected', async (t) => {
    const other = peer(t, 'hold', sig);
    await other.line();
    const target = Target.openSync(other.pid, sig);
    fill(target);
    const waiting = [1, 2].map(() => target.send(null_, { timeout: Infinity }));
    target.close();
    for (const each of waiting) await fails(() => each, 'EBADF', -9);
  });
});

/** Sends until the queue is full. */
function fill(target) {
  for (;;) {
    try {
      target.sendSync(null_);
    } catch (error) {
      assert.equal(error.code, 'EAGAIN');
      return;
    }
  }
}
