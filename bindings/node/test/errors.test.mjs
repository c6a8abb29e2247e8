// Every error: its code, its errno, its hint, and nothing left behind.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { detect, probe, Receiver, SIGRTMAX, SIGRTMIN, send, sendSync, Target } from 'sendfd';
import { fails, leaksNothing, need, node, peer, sig } from './helpers.mjs';

const null_ = fs.openSync('/dev/null');
const nobody = 65534;

/** Both ways to send fail in the same way and leave nothing behind. */
async function sendFails(arguments_, code, errno, more) {
  await leaksNothing(async () => {
    await fails(() => send(...arguments_), code, errno, more);
    await fails(() => sendSync(...arguments_), code, errno, more);
  });
}

describe('errors of the system', () => {
  test('EINVAL: no real-time signal', async () => {
    for (const bad of [0, -1, 15, SIGRTMIN - 1, SIGRTMAX + 1]) {
      await sendFails([process.pid, bad, null_], 'EINVAL', -22, { hint: /SIGRTMIN/ });
      await fails(() => new Receiver(bad), 'EINVAL', -22);
      await fails(() => probe(process.pid, bad), 'EINVAL', -22);
      await fails(() => Target.open(process.pid, bad), 'EINVAL', -22);
    }
  });

  test('EINVAL: no pid of a process', async () => {
    for (const bad of [0, -1]) await sendFails([bad, sig, null_], 'EINVAL', -22);
  });

  test('EINVAL: no descriptors, too many', async () => {
    await sendFails([process.pid, sig, []], 'EINVAL', -22);
    await sendFails([process.pid, sig, Array(254).fill(null_)], 'EINVAL', -22, { message: /254/ });
  });

  test('EBADF: not open', async () => {
    const receiver = new Receiver(sig);
    await sendFails([process.pid, sig, 1_000_000], 'EBADF', -9);
    await sendFails([process.pid, sig, [null_, 1_000_000]], 'EBADF', -9);
    const server = net.createServer();
    await sendFails([process.pid, sig, server], 'EBADF', -9, { message: /Server/ });
    const file = await fs.promises.open('/dev/null');
    await file.close();
    await sendFails([process.pid, sig, file], 'EBADF', -9, { message: /FileHandle/ });
    await fails(() => detect(1_000_000), 'EBADF', -9);
    receiver.close();
  });

  test('ESRCH: no such process', async (t) => {
    const { child, pid, exited } = node(t, '');
    await exited();
    await sendFails([pid, sig, null_], 'ESRCH', -3);
    await sendFails([pid, sig, null_, { timeout: 1000 }], 'ESRCH', -3);
    await fails(() => probe(pid, sig), 'ESRCH', -3);
    assert.equal(child.exitCode, 0);
  });

  test('ESRCH: it exits while a send waits for it', async (t) => {
    const other = peer(t, 'hold', sig + 1);
    await other.line();
    const sending = send(other.pid, sig, null_, { timeout: 60_000 });
    other.child.stdin.end();
    await fails(() => sending, 'ESRCH', -3);
  });

  test('ECONNREFUSED: it does not listen', async () => {
    await sendFails([process.pid, sig, null_], 'ECONNREFUSED', -111, { hint: /timeout/ });
  });

  test('EPERM: it does not accept this user', async (t) => {
    if (!need(t, 'root')) return;
    const receiver = new Receiver(sig);
    const other = node(
      t,
      `import { send } from 'sendfd';
       process.setgid(${nobody}); process.setuid(${nobody});
       await send(${process.pid}, ${sig}, 0).catch((error) => {
         console.log(error.code, error.errno, error.hint);
       });`,
    );
    assert.match(await other.line(), /^EPERM -1 .*user/);
    receiver.close();
    const more = new Receiver(sig, { uids: [nobody] });
    const welcome = node(
      t,
      `import { send } from 'sendfd';
       process.setgid(${nobody}); process.setuid(${nobody});
       await send(${process.pid}, ${sig}, 0);`,
    );
    for await (const message of more) {
      assert.deepEqual([message.uid, message.gid], [nobody, nobody]);
      message.close();
      break;
    }
    await welcome.exited();
    more.close();
  });

  test('EAGAIN and ETIMEDOUT: its queue is full', async (t) => {
    const other = peer(t, 'hold', sig);
    await other.line();
    await assert.rejects(
      async () => {
        for (;;) await send(other.pid, sig, null_);
      },
      { code: 'EAGAIN', errno: -11, syscall: 'sendfd', hint: /timeout/ },
    );
    await sendFails([other.pid, sig, null_], 'EAGAIN', -11);
    await sendFails([other.pid, sig, null_, { timeout: 5 }], 'ETIMEDOUT', -110, {
      message: /room/,
    });
  });

  test('ETIMEDOUT: it never listens', async () => {
    await sendFails([process.pid, sig, null_, { timeout: 5 }], 'ETIMEDOUT', -110, {
      message: /listen/,
    });
    await fails(() => Target.open(process.pid, sig, { timeout: 5 }), 'ETIMEDOUT', -110);
    await fails(() => Target.openSync(process.pid, sig, { timeout: 5 }), 'ETIMEDOUT', -110);
  });

  test('ETOOMANYREFS: too many in flight', async (t) => {
    if (!need(t, 'root')) return;
    const other = node(
      t,
      `import { Receiver, send } from 'sendfd';
       process.setgid(${nobody}); process.setuid(${nobody});
       const receiver = new Receiver(${sig});
       try {
         for (;;) await send(process.pid, ${sig}, Array(50).fill(0));
       } catch (error) {
         console.log(error.code, error.errno);
       }
       receiver.close();`,
      { wrap: ['prlimit', '--nofile=100'] },
    );
    assert.equal(await other.line(), 'ETOOMANYREFS -109');
    await other.exited();
  });

  test('EMFILE: sending needs a descriptor for the target', async (t) => {
    const other = peer(t, 'hold', sig);
    await other.line();
    const full = node(
      t,
      `import fs from 'node:fs';
       import { Receiver, send } from 'sendfd';
       const fds = [];
       try { for (;;) fds.push(fs.openSync('/dev/null')); } catch {}
       await send(${other.pid}, ${sig}, 0).catch((error) => fds.push(error));
       const { code, errno, hint } = fds.pop();
       fds.forEach((fd) => fs.closeSync(fd));
       await send(${other.pid}, ${sig}, 0);
       console.log(code, errno, hint);`,
      { wrap: ['prlimit', '--nofile=100'] },
    );
    assert.match(await full.line(), /^EMFILE -24 .*RLIMIT_NOFILE/);
    await full.exited();
  });

  test('EMSGSIZE: too much data', async () => {
    const receiver = new Receiver(sig);
    await sendFails([process.pid, sig, null_, { data: 'x'.repeat(2 ** 20 + 1) }], 'EMSGSIZE', -90);
    receiver.close();
  });

  test('EADDRINUSE: this process listens already', async () => {
    await leaksNothing(async () => {
      const receiver = new Receiver(sig);
      await fails(() => new Receiver(sig), 'EADDRINUSE', -98, { hint: /close/ });
      receiver.close();
    });
  });

  test('EOPNOTSUPP: a path that is not offered', async (t) => {
    if (!need(t, 'no-syscall')) return;
    const receiver = new Receiver(sig);
    await sendFails([process.pid, sig, null_, { paths: ['syscall'] }], 'EOPNOTSUPP', -95);
    receiver.close();
  });
});

describe('errors of the caller', () => {
  const pid = process.pid;
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
  const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
  const cases = [
    ['pid', ['1', sig, 0], type],
    ['pid', [1.5, sig, 0], range],
    ['pid', [NaN, sig, 0], range],
    ['pid', [2 ** 32 + 1, sig, 0], range],
    ['sig', [pid, 'SIGRTMIN', 0], type],
    ['sig', [pid, sig + 0.5, 0], range],
    ['fd', [pid, sig, '0'], type],
    ['fd', [pid, sig, undefined], type],
    ['fd', [pid, sig, null], type],
    ['fd', [pid, sig, {}], type],
    ['fd', [pid, sig, () => {}], type],
    ['fd', [pid, sig, [0, 'x']], type],
    ['fd', [pid, sig, -1], range],
    ['fd', [pid, sig, 0.5], range],
    ['options', [pid, sig, 0, null], type],
    ['options', [pid, sig, 0, 5], type],
    ['data', [pid, sig, 0, { data: 5 }], type],
    ['data', [pid, sig, 0, { data: null }], type],
    ['tag', [pid, sig, 0, { tag: '1' }], type],
    ['tag', [pid, sig, 0, { tag: -1 }], range],
    ['tag', [pid, sig, 0, { tag: 0.5 }], range],
    ['tag', [pid, sig, 0, { tag: 2 ** 53 }], range],
    ['tag', [pid, sig, 0, { tag: -1n }], range],
    ['tag', [pid, sig, 0, { tag: 2n ** 64n }], range],
    ['timeout', [pid, sig, 0, { timeout: '5' }], type],
    ['timeout', [pid, sig, 0, { timeout: -1 }], range],
    ['timeout', [pid, sig, 0, { timeout: NaN }], range],
    ['paths', [pid, sig, 0, { paths: 'name' }], type],
    ['paths', [pid, sig, 0, { paths: [] }], value],
    ['paths', [pid, sig, 0, { paths: ['smtp'] }], value],
    ['paths', [pid, sig, 0, { paths: ['toString'] }], value],
    ['close', [pid, sig, 0, { close: 1 }], type],
  ];
  for (const [name, arguments_, expected] of cases) {
    test(`${expected.code}: ${name}: ${arguments_.map(String).slice(2)}`, async () => {
      await leaksNothing(async () => {
        const receiver = new Receiver(sig);
        const error = { ...expected, message: new RegExp(name) };
        await assert.rejects(send(...arguments_), error);
        assert.throws(() => sendSync(...arguments_), error);
        receiver.close();
      });
    });
  }

  test('ERR_INVALID_ARG_TYPE: signal', async () => {
    await assert.rejects(send(pid, sig, 0, { signal: 5 }), type);
    await assert.rejects(Target.open(pid, sig, { signal: {} }), type);
  });

  test('of a Receiver', () => {
    assert.throws(() => new Receiver('34'), type);
    assert.throws(() => new Receiver(sig, null), type);
    assert.throws(() => new Receiver(sig, { uids: 5 }), type);
    assert.throws(() => new Receiver(sig, { uids: ['root'] }), type);
    assert.throws(() => new Receiver(sig, { uids: [-1] }), range);
    assert.throws(() => new Receiver(sig, { queueBytes: 1.5 }), range);
  });

  test('of a Target and a probe', async () => {
    await assert.rejects(Target.open('1', sig), type);
    assert.throws(() => Target.openSync(pid, sig, { timeout: 'x' }), type);
    assert.throws(() => probe('1', sig), type);
    assert.throws(() => detect('1'), type);
  });

  test('a TLS socket: its keys would stay behind', async () => {
    const socket = new tls.TLSSocket(new net.Socket());
    await assert.rejects(send(pid, sig, socket), { ...value, message: /TLS/ });
    socket.destroy();
  });
});

test('a probe says which paths lead there, and why the others do not', async () => {
  await leaksNothing(async () => {
    const receiver = new Receiver(sig);
    const report = probe(process.pid, sig);
    assert.deepEqual(
      report.paths.map(({ path }) => path),
      ['syscall', 'pidfd', 'name'],
    );
    const working = report.paths.filter(({ error }) => error === null).map(({ path }) => path);
    assert.equal(report.chosen, working[0]);
    for (const { error } of report.paths) if (error) assert.equal(error.syscall, 'sendfd');
    receiver.close();
    const { chosen, paths } = probe(process.pid, sig);
    assert.equal(chosen, null);
    assert.equal(paths.find(({ path }) => path === 'name').error.code, 'ECONNREFUSED');
  });
});
