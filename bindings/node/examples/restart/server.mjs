// An Express application that replaces itself without refusing or dropping a request.
//
//     node server.mjs [PORT]     by default 8080
//     kill -USR2 PID             starts a new process, which takes the listening socket over
//     kill -TERM PID             finishes what it is doing and ends
//
// There is no process in front, no cluster and no SO_REUSEPORT: both processes accept from the same
// socket until the new one has said that it serves, and the kernel's queue of connections stays with
// it. If the new one fails before, nothing has changed.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import express from 'express';
import { offerTakeover, port, takeOver } from 'sendfd';

const PORT = port(5);
const application = express();

application.get('/', async (_request, response) => {
  // Some work, so that there are always requests under way.
  await sleep(5);
  response.type('text').send(`${process.pid}\n`);
});

const server = http.createServer(application);
const { PREDECESSOR } = process.env;
if (PREDECESSOR === undefined) {
  server.listen(Number(process.argv[2] ?? 8080));
  await once(server, 'listening');
} else {
  const old = await takeOver(Number(PREDECESSOR), PORT);
  old.server('http', server);
  await once(server, 'listening');
  await old.serving();
}
console.log(`${process.pid} listens on ${server.address().port}`);

process.on('SIGUSR2', () => {
  const env = { ...process.env, PREDECESSOR: process.pid };
  spawn(process.execPath, process.argv.slice(1), { env, stdio: 'inherit' }).unref();
});

process.on('SIGTERM', () => server.close());

// Its own successor will ask for it. Once that serves, this server has stopped accepting; open
// connections end with their next response, and then this process does.
const successor = await offerTakeover(PORT, { http: server }, { onAttempt: report });
console.log(`${process.pid} is followed by ${successor}`);

function report(_pid, error) {
  if (error !== null) console.error(`${process.pid} stays: ${error.message}`);
}
