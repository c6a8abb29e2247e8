// What this costs beside what Node has. Ratios of one run count; times are of this machine now.
//
//     node bench/bench.mjs [ROUNDS]

import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { SIGRTMIN, send, Target } from 'sendfd';

const sig = SIGRTMIN + 1;
const rounds = Number(process.argv[2] ?? 5);
const HANDLES = 3_000;
const MESSAGES = 60_000;

const script = (name) => fileURLToPath(new URL(name, import.meta.url));
const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
const round = (number) => number.toFixed(2);

/** Microseconds each, from the first send until the other process has closed the last. */
async function stream(count, env, sendAll) {
  const child = fork(script('consumer.mjs'), [String(sig)], { env: { ...process.env, ...env } });
  await once(child, 'message');
  child.send({ count });
  await once(child, 'message');
  const server = net.createServer().listen(0);
  await once(server, 'listening');
  const done = once(child, 'message');
  const start = performance.now();
  await sendAll(child, server);
  await done;
  const time = performance.now() - start;
  server.close();
  child.disconnect();
  await once(child, 'exit');
  return (time * 1000) / count;
}

async function overTarget(child, server) {
  const target = await Target.open(child.pid, sig);
  for (let i = 0; i < MESSAGES; i++) await target.send(server, { timeout: Infinity });
  target.close();
}

const ways = {
  "child.send('x', handle)": () =>
    stream(HANDLES, {}, async (child, server) => {
      for (let i = 0; i < HANDLES; i++) child.send('x', server);
    }),
  'await target.send(handle)': () => stream(MESSAGES, {}, overTarget),
  'await target.send(handle), polled by a thread': () =>
    stream(MESSAGES, { SENDFD_NODE_POLLER: 'thread' }, overTarget),
  'await send(pid, sig, handle)': () =>
    stream(MESSAGES, {}, async (child, server) => {
      for (let i = 0; i < MESSAGES; i++) await send(child.pid, sig, server, { timeout: Infinity });
    }),
};

console.log(`Streaming a handle to a child, ${rounds} rounds`);
const times = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
for (let i = 0; i < rounds; i++) {
  for (const [way, run] of Object.entries(ways)) times[way].push(await run());
}
const [theirs] = Object.values(times);
for (const [way, ours] of Object.entries(times)) {
  const ratios = theirs.map((time, i) => time / ours[i]);
  console.log(
    `  ${way.padEnd(48)}${round(median(ours)).padStart(8)} µs ${round(median(ratios)).padStart(8)} times as fast`,
  );
}

/** Microseconds from the moment at which the bytes have arrived to the callback; medians. */
async function latency(env) {
  const child = fork(script('latency.mjs'), [String(sig), socketPath], {
    env: { ...process.env, ...env },
  });
  const [result] = await once(child, 'message');
  await once(child, 'exit');
  return result;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-bench-'));
const socketPath = path.join(folder, 'socket');
console.log(`From arrival to the callback, ${rounds} rounds`);
for (const poller of ['uv', 'thread']) {
  const results = [];
  for (let i = 0; i < rounds; i++) results.push(await latency({ SENDFD_NODE_POLLER: poller }));
  const data = median(results.map(({ data }) => data));
  const message = median(results.map(({ message }) => message));
  const ratio = median(results.map(({ data, message }) => message / data));
  console.log(
    `  polled by ${poller.padEnd(8)} net.Socket 'data' ${round(data)} µs, 'message' ${round(message)} µs: ${round(ratio)} of it`,
  );
}
fs.rmSync(folder, { recursive: true });
