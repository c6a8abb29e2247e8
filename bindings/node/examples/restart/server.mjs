// An Express application that replaces itself without refusing or dropping a request.
//
//     node server.mjs [PORT]     by default 8080
//     kill -USR2 PID             starts a new process, hands the listening socket to it, and leaves
//     kill -TERM PID             finishes what it is doing and ends
//
// There is no process in front, no cluster and no SO_REUSEPORT: both processes accept from the same
// socket until the old one lets go of it, and the kernel's queue of connections stays with it.

import { spawn } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { Receiver, SIGRTMIN, send } from 'sendfd';

const SIG = SIGRTMIN + 5;

const application = express();
let leaving = false;

application.use((_request, response, next) => {
  // The client takes its next request to the new process.
  if (leaving) response.set('Connection', 'close');
  next();
});

application.get('/', async (_request, response) => {
  // Some work, so that there are always requests under way.
  await sleep(5);
  response.type('text').send(`${process.pid}\n`);
});

const server = http.createServer(application);
server.on('listening', () => console.log(`${process.pid} listens on ${server.address().port}`));

const { PREDECESSOR } = process.env;
if (PREDECESSOR === undefined) {
  server.listen(Number(process.argv[2] ?? 8080));
} else {
  const receiver = new Receiver(SIG);
  for await (const message of receiver) {
    if (message.pid === Number(PREDECESSOR)) {
      message.server(server);
      break;
    }
    message.close();
  }
  receiver.close();
}

function leave() {
  leaving = true;
  // Not server.close(): that closes idle connections, on which a request may be under way here.
  // They are asked to go with their next answer, or go when their time is out.
  net.Server.prototype.close.call(server, () => process.exit(0));
}

process.on('SIGTERM', leave);

process.on('SIGUSR2', async () => {
  if (leaving) return;
  const env = { ...process.env, PREDECESSOR: process.pid };
  const successor = spawn(process.execPath, process.argv.slice(1), { env, stdio: 'inherit' });
  try {
    // Until it listens: it has a while to start. Both serve once this is done.
    await send(successor.pid, SIG, server, { timeout: 10_000 });
    leave();
  } catch (error) {
    // Nothing was handed over, and this process goes on.
    console.error(`${process.pid} stays: ${error.message}`);
    successor.kill();
  }
});
