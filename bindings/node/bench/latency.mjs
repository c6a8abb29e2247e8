// How long the event loop takes from what has arrived to the callback: bytes on a unix socket, and
// messages. Both are sent by this process itself, so that they have arrived when the send returns.

import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { Receiver, Target } from 'sendfd';

const COUNT = 10_000;
const sig = Number(process.argv[2]);
const path = process.argv[3];

/** `send(called)` sends, and has `called` called back with the time. */
async function measure(send) {
  const times = [];
  for (let i = 0; i < COUNT; i++) {
    let sent;
    const called = await new Promise((resolve) => {
      send(resolve);
      sent = process.hrtime.bigint();
    });
    times.push(Number(called - sent) / 1000);
  }
  return times.sort((a, b) => a - b)[COUNT >> 1];
}

const server = net.createServer().listen(path);
const client = net.connect(path);
const [accepted] = await once(server, 'connection');
let resolve;
accepted.on('data', () => resolve(process.hrtime.bigint()));
const byte = Buffer.from('x');
const bytes = () =>
  measure((called) => {
    resolve = called;
    fs.writeSync(client._handle.fd, byte);
  });

const receiver = new Receiver(sig);
receiver.on('message', (message) => {
  const now = process.hrtime.bigint();
  message.close();
  resolve(now);
});
const target = Target.openSync(process.pid, sig);
const file = fs.openSync('/dev/null');
const messages = () =>
  measure((called) => {
    resolve = called;
    target.sendSync(file);
  });

// The first round warms up.
await bytes();
await messages();
process.send({ data: await bytes(), message: await messages() });
receiver.close();
client.destroy();
server.close();
process.disconnect();
