// A server asks the one that runs for its sockets. Both sides of the protocol of docs/takeover.md.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { offerTakeover, Receiver, send, takeOver } from 'sendfd';
import { fails, leaksNothing, need, node, python, receive, sig, text } from './helpers.mjs';

const answering = (words) =>
  http.createServer((_request, response) => {
    response.setHeader('connection', 'close');
    response.end(words);
  });

async function listening(server, ...where) {
  server.listen(...(where.length > 0 ? where : [0, '127.0.0.1']));
  await once(server, 'listening');
  return server;
}

const ask = async (port) => (await fetch(`http://127.0.0.1:${port}/`)).text();

test('the new one serves, then the old one leaves', async () => {
  await leaksNothing(async () => {
    const old = await listening(answering('old'));
    const { port } = old.address();
    const left = Promise.all([offerTakeover(sig, { http: old }), once(old, 'close')]);
    const taken = await takeOver(process.pid, sig);
    assert.deepEqual(taken.names, ['http']);
    assert.ok(old.listening);
    assert.equal(await ask(port), 'old');
    const server = taken.server('http', answering('new'));
    await once(server, 'listening');
    await taken.serving();
    assert.equal((await left)[0], process.pid);
    for (let i = 0; i < 5; i++) assert.equal(await ask(port), 'new');
    server.close();
    await once(server, 'close');
  });
});

test('several sockets, one of them at a path, and one that is not wanted', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'sendfd-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const at = path.join(folder, 'socket');
  const servers = {
    http: await listening(answering('old')),
    local: await listening(
      net.createServer((socket) => socket.end('old')),
      at,
    ),
    unused: await listening(net.createServer()),
  };
  const { port } = servers.unused.address();
  const left = offerTakeover(sig, servers);
  const taken = await takeOver(process.pid, sig);
  assert.deepEqual(taken.names, ['http', 'local', 'unused']);
  const local = taken.server(
    'local',
    net.createServer((socket) => socket.end('new')),
  );
  const web = taken.server('http', answering('new'));
  assert.throws(() => taken.server('local'), { code: 'EBADF' });
  await taken.serving();
  await left;
  assert.equal(await text(net.connect(at)), 'new');
  await assert.rejects(once(net.connect(port, '127.0.0.1'), 'connect'), { code: 'ECONNREFUSED' });
  local.close();
  web.close();
});

describe('the old one goes on', () => {
  test('if the new one fails before it serves', async (t) => {
    const old = await listening(answering('old'));
    const { port } = old.address();
    const attempts = [];
    const end = new AbortController();
    const left = offerTakeover(
      sig,
      { http: old },
      { signal: end.signal, onAttempt: (pid, error) => attempts.push([pid, error?.message]) },
    );
    const { exited, pid } = node(
      t,
      `import { takeOver } from 'sendfd';
       (await takeOver(${process.pid}, ${sig})).server('http');
       process.exit();`,
    );
    await exited();
    while (attempts.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(attempts, [[pid, `process ${pid} did not come to serve`]]);
    assert.equal(await ask(port), 'old');
    // And offers again.
    const taken = await takeOver(process.pid, sig);
    taken.close();
    end.abort();
    await assert.rejects(left, { name: 'AbortError' });
    assert.ok(old.listening);
    old.close();
  });

  test('while another is taking over, who is refused', async () => {
    await leaksNothing(async () => {
      const old = await listening(answering('old'));
      const end = new AbortController();
      const left = offerTakeover(sig, { http: old }, { signal: end.signal });
      const taken = await takeOver(process.pid, sig);
      await assert.rejects(takeOver(process.pid, sig), {
        code: 'ERR_SENDFD_REFUSED',
        message: /another process is taking over/,
      });
      taken.close();
      end.abort();
      await assert.rejects(left, { name: 'AbortError' });
      old.close();
      await once(old, 'close');
    });
  });

  test('if the new one says nothing for too long', async () => {
    await leaksNothing(async () => {
      const old = await listening(answering('old'));
      const end = new AbortController();
      const left = offerTakeover(
        sig,
        { http: old },
        {
          signal: end.signal,
          timeout: 20,
          onAttempt(_pid, error) {
            assert.equal(error.code, 'ETIMEDOUT');
            end.abort();
          },
        },
      );
      const taken = await takeOver(process.pid, sig);
      await assert.rejects(left, { name: 'AbortError' });
      taken.close();
      assert.equal(await ask(old.address().port), 'old');
      old.close();
      await once(old, 'close');
    });
  });

  test('if one of its servers does not listen', async () => {
    const end = new AbortController();
    const left = offerTakeover(sig, { http: net.createServer() }, { signal: end.signal });
    await assert.rejects(takeOver(process.pid, sig), {
      code: 'ERR_SENDFD_REFUSED',
      message: /no descriptor/,
    });
    end.abort();
    await assert.rejects(left, { name: 'AbortError' });
  });

  test('if it is asked something else', async () => {
    const end = new AbortController();
    const words = [];
    const asked = new Promise((resolve) => {
      const onAttempt = (_pid, error) => {
        words.push(error.message);
        if (words.length === 2) resolve();
      };
      offerTakeover(sig, {}, { signal: end.signal, onAttempt }).catch(() => {});
    });
    const fd = fs.openSync('/dev/null');
    await send(process.pid, sig, fd, { data: 'hello' });
    await send(process.pid, sig, fd, { data: 'takeover 2', close: true });
    await asked;
    assert.match(words[0], /no request/);
    assert.match(words[1], /speaks "takeover 1"/);
    end.abort();
  });
});

describe('the new one', () => {
  test('says what is wrong: nobody there, silence, another protocol', async () => {
    await leaksNothing(async () => {
      await fails(() => takeOver(process.pid, sig, { timeout: 0 }), 'ECONNREFUSED', -111);
      const receiver = new Receiver(sig);
      await fails(() => takeOver(process.pid, sig, { timeout: 30 }), 'ETIMEDOUT', -110);
      (await receive(receiver)).close();
      receiver.on('message', (message) => message.socket().end('hello\n'));
      await assert.rejects(takeOver(process.pid, sig), { code: 'ERR_SENDFD_PROTOCOL' });
      receiver.removeAllListeners('message');
      receiver.on('message', (message) => message.close());
      await assert.rejects(takeOver(process.pid, sig), { code: 'ERR_SENDFD_PROTOCOL' });
      receiver.close();
      await once(receiver, 'close');
    });
  });
});

const inPython = `
import http.server, sys, threading, sendfd
from sendfd import takeover

sig, old = map(int, sys.argv[1:])

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"python")

    def log_message(self, *_):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False

with takeover.take_or_listen({"http": ("127.0.0.1", 0)}, old=old or None, sig=sig) as taken:
    listener = taken.sockets["http"]
    server = Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    threading.Thread(target=server.serve_forever, args=[0.01]).start()
    taken.serving()
    assert taken.wait_left(60)
with takeover.Offer(sig, {"http": listener}, leave=server.shutdown) as offer:
    print(listener.getsockname()[1], flush=True)
    offer.left.wait()
    # It waits for its threads.
    server.server_close()
`;

test('from a server in Python to one in Node and back, under load: no request is lost', async (t) => {
  if (!need(t, 'python')) return;
  const first = python(t, inPython, sig, 0);
  const port = Number(await first.line());
  const answers = { python: 0, node: 0 };
  let ended = false;
  const client = async () => {
    while (!ended) {
      const socket = net.connect(port, '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
      const answer = await text(socket);
      const [, words] = /^HTTP\/1.[01] 200 .*\r\n\r\n(python|node)$/s.exec(answer) ?? [];
      assert.ok(words, `answered: ${answer}`);
      answers[words]++;
    }
  };
  const clients = Promise.all([client(), client(), client(), client()]);
  // A client that fails is heard of below.
  clients.catch(() => {});
  const until = async (words) => {
    const before = answers[words];
    while (answers[words] < before + 20) {
      await Promise.race([clients, new Promise((resolve) => setTimeout(resolve, 5))]);
    }
  };
  await until('python');
  const second = node(
    t,
    `import http from 'node:http';
     import { once } from 'node:events';
     import { offerTakeover, takeOver } from 'sendfd';
     const server = http.createServer((_, response) => {
       response.useChunkedEncodingByDefault = false;
       response.end('node');
     });
     const old = await takeOver(${first.pid}, ${sig});
     old.server('http', server);
     await once(server, 'listening');
     await old.serving();
     const left = offerTakeover(${sig}, { http: server });
     console.log('serves');
     await left;`,
  );
  assert.equal(await second.line(), 'serves');
  await first.exited();
  await until('node');
  const third = python(t, inPython, sig, second.pid);
  assert.equal(Number(await third.line()), port);
  await second.exited();
  await until('python');
  ended = true;
  await clients;
});
