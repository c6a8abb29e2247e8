// The types as a program uses them: this has to compile, and what is marked must not.

import dgram from 'node:dgram';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import {
  detect,
  type Kind,
  MAX_DATA,
  MAX_FDS,
  Message,
  type Path,
  probe,
  Receiver,
  type Report,
  type Sendable,
  type SendfdError,
  SIGRTMAX,
  SIGRTMIN,
  send,
  sendSync,
  Target,
  version,
} from 'sendfd';

const pid: number = process.pid;
const sig: number = Math.min(SIGRTMIN + 1, SIGRTMAX);
const limits: number[] = [MAX_FDS, MAX_DATA];
const text: string = version;

// Everything that can be sent.
const server = net.createServer();
const sent: Promise<void> = send(pid, sig, 0);
await send(pid, sig, [0, 1]);
await send(pid, sig, server, { close: true });
await send(pid, sig, new net.Socket(), { timeout: 1000, signal: AbortSignal.timeout(50) });
await send(pid, sig, dgram.createSocket('udp4'), { tag: 1n, data: 'text' });
await send(pid, sig, await fs.promises.open('/dev/null'), { tag: 1, data: Buffer.alloc(5) });
await send(pid, sig, [http.createServer(), fs.createReadStream('/dev/null')], { paths: ['name'] });
sendSync(pid, sig, 0, { data: new Uint16Array(2), timeout: Infinity });

// @ts-expect-error a string is no descriptor
send(pid, sig, '0');
// @ts-expect-error neither is an object without one
send(pid, sig, {});
// @ts-expect-error not a path
send(pid, sig, 0, { paths: ['smtp'] });
// @ts-expect-error nothing could abort it
sendSync(pid, sig, 0, { signal: AbortSignal.abort() });

const target: Target = await Target.open(pid, sig, { timeout: 10, paths: ['pidfd'] });
const path: Path = target.path;
target.sendSync(server);
await target.send([server], { signal: AbortSignal.timeout(5) });
target.close();
// @ts-expect-error opened by open() and openSync() only
new Target(pid, sig);

const receiver = new Receiver(sig, { uids: [1000], queueBytes: 0 });
receiver.on('message', (message) => {
  const { fd, tag, data }: { fd: number; tag: bigint; data: Buffer } = message;
  const fds: readonly number[] = message.fds;
  const kind: Kind = message.kind({ index: 1 });
  if (kind.listening) {
    const listening: http.Server = message.server(http.createServer());
    listening.close();
  }
  const socket = message.socket({ allowHalfOpen: true });
  if (socket instanceof net.Socket) socket.unshift(data);
  else socket.close();
  const reader: fs.ReadStream = message.readStream({ index: 2, start: 0 });
  const writer: fs.WriteStream = message.writeStream({ index: 3, encoding: 'utf8' });
  const detached: number[] = message.detach();
  message.close();
  // @ts-expect-error the kernel says who sent it
  message.pid = 1;
  return [fd, tag, fds, reader, writer, detached];
});
receiver.on('error', (error: SendfdError) => error.hint?.toUpperCase());
receiver.on('close', () => {});
// @ts-expect-error a listener takes what the event brings
receiver.on('message', (error: SendfdError) => error);
for await (const message of receiver.ref().unref()) {
  const one: Message = message;
  one.close();
  break;
}
const dropped: number = receiver.dropped;
receiver.close();
// @ts-expect-error made by a receiver only
new Message();

const report: Report = probe(pid, sig);
const reasons: (SendfdError | null)[] = report.paths.map(({ error }) => error);
const sendable: Sendable = { fd: 0 };
const found: Kind['type'] = detect(sendable).type;

try {
  sendSync(pid, sig, 0);
} catch (error) {
  const { code, errno, syscall, hint } = error as SendfdError;
  console.log(code, errno, syscall, hint);
}

export { dropped, found, limits, path, reasons, sent, text };
