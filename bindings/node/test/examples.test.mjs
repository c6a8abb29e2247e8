// The examples, run for real.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Target } from 'sendfd';
import { sig, text } from './helpers.mjs';

const example = (name) => fileURLToPath(new URL(`../examples/${name}`, import.meta.url));

describe('the worker of the pool', () => {
  async function worker(t) {
    const child = spawn(process.execPath, [example('pool/worker.mjs'), sig], {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    const target = await Target.open(child.pid, sig, { timeout: 60_000 });
    t.after(() => target.close());
    return { child, target };
  }

  /** A front: accepts and hands over. */
  async function front(t, target) {
    const server = net.createServer({ pauseOnConnect: true }, (socket) => {
      target.send(socket, { timeout: 60_000, close: true });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    return server.address().port;
  }

  test('answers what the front accepted, many at a time, and ends on SIGTERM', async (t) => {
    const { child, target } = await worker(t);
    const port = await front(t, target);
    const answers = Array.from({ length: 500 }, async () => {
      const response = await fetch(`http://127.0.0.1:${port}/`);
      assert.equal(response.status, 200);
      assert.equal(response.headers.get('connection'), 'close');
      assert.equal(response.headers.get('content-type'), 'text/plain');
      return response.text();
    });
    assert.deepEqual(new Set(await Promise.all(answers)), new Set([`node ${child.pid}\n`]));
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });

  test('outlives clients that went away, and messages that are no connections', async (t) => {
    const { child, target } = await worker(t);
    const port = await front(t, target);
    const errors = createInterface({ input: child.stderr });
    const complaint = once(errors, 'line');
    target.sendSync(fs.openSync('/dev/null'), { close: true });
    assert.match((await complaint)[0], /no connection/);
    for (let i = 0; i < 100; i++) {
      const client = net.connect(port, '127.0.0.1');
      await once(client, 'connect');
      client.write('GET / HT');
      client.resetAndDestroy();
    }
    const client = net.connect(port, '127.0.0.1');
    client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    const answer = await text(client);
    assert.match(answer, /^HTTP\/1.1 200 OK/);
    assert.ok(answer.endsWith(`\r\n\r\nnode ${child.pid}\n`));
  });
});

test('a restart loses no request', async (t) => {
  const child = spawn(process.execPath, [example('restart/server.mjs'), 0], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const pids = [child.pid];
  t.after(() => {
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {}
    }
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const listening = async () => {
    for (;;) {
      const { value } = await lines.next();
      const found = /^(\d+) listens on (\d+)$/.exec(value);
      if (found !== null) return found.slice(1).map(Number);
      assert.match(value, /is followed by/);
    }
  };
  const [, port] = await listening();

  const counts = new Map();
  let ended = false;
  const client = async (agent) => {
    while (!ended) {
      const request = http.get({ port, host: '127.0.0.1', agent });
      const [response] = await once(request, 'response');
      assert.equal(response.statusCode, 200);
      const pid = Number(await text(response));
      counts.set(pid, (counts.get(pid) ?? 0) + 1);
    }
  };
  const keepAlive = new http.Agent({ keepAlive: true, maxSockets: 8 });
  const clients = [
    ...Array.from({ length: 8 }, () => client(keepAlive)),
    ...Array.from({ length: 8 }, () => client(false)),
  ];
  const all = Promise.all(clients);
  const served = async (pid, more) => {
    const from = counts.get(pid) ?? 0;
    while ((counts.get(pid) ?? 0) < from + more) {
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 5)), all]);
    }
  };
  await served(child.pid, 100);
  for (let restart = 0; restart < 3; restart++) {
    process.kill(pids.at(-1), 'SIGUSR2');
    const [pid, same] = await listening();
    assert.equal(same, port);
    pids.push(pid);
    await served(pid, 100);
  }
  ended = true;
  await all;
  keepAlive.destroy();
  assert.deepEqual([...counts.keys()].sort(), pids.toSorted());
  process.kill(pids.at(-1), 'SIGTERM');
});
