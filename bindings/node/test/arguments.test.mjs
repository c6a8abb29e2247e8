// Whatever is given as an argument: an answer, or an error that says so; nothing else.
// SENDFD_TEST_EXAMPLES is how many calls each test makes up.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import * as sendfd from '../dist/index.js';

const SIG = sendfd.SIGRTMIN + 6;
const runs = { numRuns: Number(process.env.SENDFD_TEST_EXAMPLES ?? 300), seed: 1 };

const odd = fc.oneof(
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withTypedArray: true }),
  fc.constantFrom(0, -0, 1.5, NaN, Infinity, -Infinity, 2 ** 31, 2 ** 53, 10n ** 30n, Symbol('s')),
  fc.constantFrom({ fd: -1 }, { fd: {} }, { fd: 1e9 }, { _handle: { fd: -1 } }, { pid: 1n }),
);
const pid = fc.oneof(fc.constantFrom(process.pid, 0, -1, 2 ** 22 + 1, 2 ** 32), odd);
const sig = fc.oneof(fc.constantFrom(SIG, SIG + 1), odd);
const descriptor = fc.oneof(fc.constantFrom(0, [0], [0, 1], [], -1, 1e6), odd);
// Nothing that would wait for long.
const options = fc.oneof(
  odd.filter((some) => typeof some !== 'object' || some === null || !('timeout' in some)),
  fc.record(
    {
      paths: fc.oneof(fc.constantFrom('name', ['name'], ['pidfd', 'name'], []), odd),
      timeout: fc.oneof(
        fc.constantFrom(0, 1, -1, NaN, '5', null),
        odd.filter((some) => typeof some !== 'number' && some !== undefined),
      ),
      tag: fc.oneof(fc.constantFrom(0, 1n, 2n ** 64n - 1n, 2n ** 64n, -1n), odd),
      data: fc.oneof(fc.constantFrom('x', Buffer.alloc(5000), new ArrayBuffer(3)), odd),
    },
    { requiredKeys: ['timeout'] },
  ),
);

const open = () => readdirSync('/proc/self/fd').length;

/** What comes of it; an error is one with a code, or a TypeError or RangeError. */
async function attempt(call) {
  try {
    return await call();
  } catch (error) {
    const fine =
      typeof error?.code === 'string' || error instanceof TypeError || error instanceof RangeError;
    assert.ok(fine, `${error?.stack ?? String(error)}`);
    return null;
  }
}

/** Nothing is left open; what was sent to this process is closed. */
async function withReceiver(run) {
  const receiver = new sendfd.Receiver(SIG);
  receiver.on('message', (message) => message.close());
  try {
    await run();
    await new Promise(setImmediate);
  } finally {
    receiver.close();
  }
}

async function check(...parts) {
  const run = parts.pop();
  await run();
  const before = open();
  await fc.assert(fc.asyncProperty(...parts, run), runs);
  assert.ok(open() <= before + 2, `${open()} open, ${before} before`);
}

test('send', () =>
  check(pid, sig, descriptor, options, (pid, sig, fd, options) =>
    withReceiver(async () => {
      await attempt(() => sendfd.send(pid, sig, fd, options));
      await attempt(() => sendfd.sendSync(pid, sig, fd, options));
    }),
  ));

test('Target', () =>
  check(pid, sig, descriptor, options, (pid, sig, fd, options) =>
    withReceiver(async () => {
      const target = await attempt(() => sendfd.Target.open(pid, sig, options));
      if (target) {
        await attempt(() => target.send(fd, options));
        target.close();
      }
    }),
  ));

test('Receiver', () =>
  check(sig, odd, async (sig, options) => {
    const receiver = await attempt(() => new sendfd.Receiver(sig, options));
    receiver?.close();
  }));

test('questions', () =>
  check(pid, sig, odd, async (pid, sig, what) => {
    await attempt(() => sendfd.probe(pid, sig));
    await attempt(() => sendfd.detect(what));
    await attempt(() => sendfd.port(what));
    await attempt(() => sendfd.unlisten(what));
  }));
