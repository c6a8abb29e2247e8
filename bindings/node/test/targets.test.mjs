// Several targets for the same work.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Targets } from 'sendfd';
import { fails, leaksNothing, node, peer, sig } from './helpers.mjs';

/** A worker that does as the lines say that are written to its input. */
function worker(t) {
  const { child, pid, line, exited } = node(
    t,
    `import { createInterface } from 'node:readline';
     import { Receiver } from 'sendfd';
     let receiver;
     const listen = () => {
       receiver = new Receiver(${sig});
       receiver.on('message', (message) => { console.log(String(message.tag)); message.close(); });
     };
     for await (const line of createInterface({ input: process.stdin })) {
       if (line === 'listen') listen();
       if (line === 'close') receiver.close();
       console.log(line);
     }`,
  );
  const tell = async (word) => {
    child.stdin.write(`${word}\n`);
    assert.equal(await line(), word);
  };
  return { child, pid, line, exited, tell };
}

test('takes turns', async (t) => {
  const workers = [worker(t), worker(t)];
  for (const { tell } of workers) await tell('listen');
  await leaksNothing(async () => {
    const targets = new Targets(
      sig,
      workers.map(({ pid }) => pid),
    );
    for (let tag = 0; tag < 6; tag++) {
      assert.equal(await targets.send(0, { tag }), workers[tag % 2].pid);
      assert.equal(await workers[tag % 2].line(), String(tag));
    }
    targets.close();
  });
});

describe('passes over', () => {
  test('one that does not listen, and comes back to it', async (t) => {
    const [one, other] = [worker(t), worker(t)];
    await leaksNothing(async () => {
      await one.tell('listen');
      const targets = new Targets(sig).add(one.pid).add(other.pid);
      for (let tag = 0; tag < 3; tag++) assert.equal(await targets.send(0, { tag }), one.pid);
      for (let tag = 0; tag < 3; tag++) assert.equal(await one.line(), String(tag));
      await one.tell('close');
      await fails(() => targets.send(0), 'ECONNREFUSED', -111);
      assert.deepEqual(targets.pids, [one.pid, other.pid]);
      // It waits for whichever listens first.
      const sent = targets.send(0, { tag: 7, timeout: 60_000 });
      await other.tell('listen');
      assert.equal(await sent, other.pid);
      assert.equal(await other.line(), '7');
      await other.tell('close');
      await one.tell('listen');
      assert.equal(await targets.send(0, { tag: 8 }), one.pid);
      assert.equal(await one.line(), '8');
      await one.tell('close');
      targets.close();
    });
  });

  test('one that is full', async (t) => {
    const other = worker(t);
    await other.tell('listen');
    const full = peer(t, 'hold', sig);
    await full.line();
    const targets = new Targets(sig, [full.pid, other.pid]);
    const count = 600;
    let taken = 0;
    for (let tag = 0; tag < count; tag++) {
      if ((await targets.send(0, { tag, timeout: 60_000 })) === full.pid) taken++;
    }
    assert.ok(taken > 50 && taken < count / 2, `${taken} were taken by the one that holds them`);
    for (let i = 0; i < count - taken; i++) await other.line();
  });

  test('one that cannot be reached', async (t) => {
    const other = worker(t);
    await other.tell('listen');
    const leaderless = peer(t, 'leaderless', sig);
    await leaderless.line();
    const targets = new Targets(sig, [leaderless.pid, other.pid]);
    // Nothing can be fetched from a process whose main thread has exited.
    const options = { paths: ['pidfd'], timeout: 60_000 };
    for (let tag = 0; tag < 3; tag++) {
      assert.equal(await targets.send(0, { tag, ...options }), other.pid);
    }
    targets.delete(other.pid);
    await fails(() => targets.send(0, options), 'EOPNOTSUPP', -95);
    assert.deepEqual(targets.pids, [leaderless.pid]);
  });

  test('one that has exited, for good', async (t) => {
    const [gone, other] = [worker(t), worker(t)];
    for (const { tell } of [gone, other]) await tell('listen');
    const targets = new Targets(sig, [gone.pid, other.pid]);
    assert.equal(await targets.send(0), gone.pid);
    gone.child.stdin.end();
    gone.child.kill('SIGKILL');
    await assert.rejects(gone.exited());
    for (let tag = 0; tag < 3; tag++) assert.equal(await targets.send(0, { tag }), other.pid);
    assert.deepEqual(targets.pids, [other.pid]);
    assert.ok(targets.delete(other.pid));
    assert.ok(!targets.delete(other.pid));
    await fails(() => targets.send(0, { timeout: 60_000 }), 'ESRCH', -3);
  });
});

test('what is wrong with a message is not tried elsewhere', async (t) => {
  const one = worker(t);
  await one.tell('listen');
  const targets = new Targets(sig, [one.pid]);
  await fails(() => targets.send([]), 'EINVAL', -22);
  await fails(() => targets.send(12345), 'EBADF', -9);
  assert.throws(() => new Targets('x'), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => targets.add('x'), { code: 'ERR_INVALID_ARG_TYPE' });
});
