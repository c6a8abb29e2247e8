// What the tests share: other processes, and the count of descriptors.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { probe, Receiver, SIGRTMAX, SIGRTMIN } from 'sendfd';

export const sig = SIGRTMIN + 1;

const PEER =
  process.env.SENDFD_TEST_PEER ??
  fileURLToPath(new URL('../../../target/release/examples/peer', import.meta.url));

const required = new Set((process.env.SENDFD_TEST_REQUIRE ?? '').split(',').filter(Boolean));

/** Skips the test where `what` is not there, unless it was asked for. Answers whether it is. */
export function need(t, what) {
  if (available[what]()) return true;
  if (required.has(what)) throw new Error(`${what} is required and not there`);
  t.skip(`needs ${what}`);
  return false;
}

/** Where the Python package is installed for its tests. */
const PYTHON = fileURLToPath(new URL('../../../.venv/bin/python', import.meta.url));

const available = {
  python: () => fs.existsSync(PYTHON) && spawnSync(PYTHON, ['-c', 'import sendfd']).status === 0,
  root: () => process.geteuid() === 0,
  pidfd: () => leads('pidfd'),
  name: () => leads('name'),
  'no-syscall': () => !leads('syscall'),
};

function leads(path) {
  const receiver = new Receiver(SIGRTMAX);
  const { paths } = probe(process.pid, SIGRTMAX);
  receiver.close();
  return paths.some((report) => report.path === path && report.error === null);
}

/** How many descriptors are open, less the one that counts. */
export function descriptorCount() {
  return fs.readdirSync('/proc/self/fd').length - 1;
}

/** The same, once what was closed is closed: libuv closes files in another thread. */
async function settledCount() {
  let count = descriptorCount();
  for (let unchanged = 0; unchanged < 20; unchanged++) {
    await sleep(1);
    if (descriptorCount() !== count) {
      count = descriptorCount();
      unchanged = 0;
    }
  }
  return count;
}

/**
 * Runs `f` and finds as many descriptors open afterwards as before. Run it once before, for what is
 * opened for good.
 */
export async function leaksNothing(f) {
  await f();
  const before = await settledCount();
  await f();
  assert.equal(await settledCount(), before, 'as many descriptors as before');
}

/** The other process, in Rust. */
export function peer(t, ...args) {
  return start(t, PEER, args.map(String), {});
}

/** Another process, in Node: `source` is a module. */
export function node(t, source, options = {}) {
  const { wrap = [], flags = [], ...rest } = options;
  const command = [...wrap, process.execPath, ...flags, '--input-type=module', '--eval', source];
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  return start(t, command[0], command.slice(1), { cwd, ...rest });
}

/** Another process, in Python. */
export function python(t, source, ...args) {
  return start(t, PYTHON, ['-c', source, ...args.map(String)], {});
}

function start(t, command, args, options) {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], ...options });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const exit = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await exit;
  });
  return {
    child,
    pid: child.pid,
    /** The next line that it prints. */
    async line() {
      const { value, done } = await lines.next();
      if (done) throw new Error(`${command} ended: ${await exit}`);
      return value;
    },
    async exited() {
      const [code, signal] = await exit;
      assert.deepEqual({ code, signal }, { code: 0, signal: null });
    },
  };
}

/** A connected pair of TCP sockets: what a client has, and what a server accepted. */
export async function connection(t, options = {}) {
  const server = net.createServer({ pauseOnConnect: true, ...options }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect(server.address().port, '127.0.0.1');
  const [[accepted]] = await Promise.all([once(server, 'connection'), once(client, 'connect')]);
  server.close();
  t.after(() => {
    client.destroy();
    accepted.destroy();
  });
  return { client, accepted };
}

/** The next message, taken with an iterator. */
export async function receive(receiver) {
  const { value } = await receiver[Symbol.asyncIterator]().next();
  return value;
}

/** Everything that a stream gives. It stays open, unlike one that is iterated over. */
export async function text(stream) {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks).toString();
}

/** That `f` fails with an error of ours, with all that Node's own have. */
export async function fails(f, code, errno, more = {}) {
  await assert.rejects(
    async () => f(),
    (error) => {
      assert.ok(error instanceof Error);
      assert.deepEqual(
        { code: error.code, errno: error.errno, syscall: error.syscall },
        { code, errno, syscall: 'sendfd' },
      );
      assert.match(error.message, new RegExp(`^${code}: `));
      if (more.hint) assert.match(error.hint, more.hint);
      if (more.message) assert.match(error.message, more.message);
      return true;
    },
  );
}
