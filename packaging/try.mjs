// The installed package, in one hand-off: a child receives an end of a pipe from its parent, and writes into it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { port, Receiver, send, version } from 'sendfd';

function child() {
  const receiver = new Receiver(port(3));
  receiver.once('message', (message) => {
    fs.writeSync(message.fd, `received from ${message.pid}`);
    message.close();
    receiver.close();
  });
}

async function parent() {
  const other = spawn(process.execPath, [process.argv[1], 'child'], { stdio: ['ignore', 'pipe', 'inherit'] });
  // The child has no other way to its parent's file than to be sent it.
  const name = `${process.cwd()}/try.${process.pid}`;
  const fd = fs.openSync(name, 'wx+');
  fs.unlinkSync(name);
  await send(other.pid, port(3), fd, { timeout: 30_000 });
  const [code] = await new Promise((resolve) => other.once('exit', (...how) => resolve(how)));
  assert.equal(code, 0);
  const buffer = Buffer.alloc(100);
  const text = buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, 100, 0));
  assert.equal(text, `received from ${process.pid}`);
  console.log(`sendfd ${version}, Node ${process.versions.node}: ${text}`);
}

if (process.argv[2] === 'child') child();
else parent();
