// The peer in Node: see tests/PEER.md.
import { createInterface } from 'node:readline';
import * as sendfd from '../../bindings/node/dist/index.js';

const receivers = new Map();
const messages = [];
let target = null;

/**
 * One after the other: an answer that came too late for its `recv` is the next one's. What the library reports
 * and then gets over by itself, a table that is full, is the answer to the `recv` that waits.
 */
class Incoming {
  constructor(sig) {
    this.receiver = new sendfd.Receiver(sig);
    this.iterator = this.receiver[Symbol.asyncIterator]();
    this.next = null;
    this.tell = () => {};
    this.receiver.on('error', (error) => this.tell(error));
  }

  async recv(ms) {
    const reported = new Promise((_, reject) => {
      this.tell = reject;
    });
    const next = (this.next ??= this.iterator.next());
    let timer;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, ms, null);
    });
    let result = null;
    try {
      const failed = next.catch((error) => {
        this.next = null;
        throw error;
      });
      result = await Promise.race([failed, reported, late]);
    } finally {
      clearTimeout(timer);
    }
    if (result === null) throw failure(ms === 0 ? 11 : 110, 'no message came');
    // Whoever waited in vain leaves it to the next one, also if it comes between the two.
    this.next = null;
    if (result.done) throw failure(108, 'retired or closed');
    return result.value;
  }
}

function failure(errno, message) {
  return Object.assign(new Error(message), { errno: -errno });
}

function options(words) {
  return {
    paths: words.paths?.split(','),
    timeout: Number(words.ms ?? 0),
  };
}

async function send(words, one) {
  const fds = (words.fds ?? '').split(',').filter(Boolean).map(Number);
  const first = BigInt(words.tag ?? 0);
  for (let nth = 0n; nth < BigInt(words.times ?? 1); nth++) {
    await one(fds, { ...options(words), tag: first + nth, data: words.data });
  }
  return '';
}

async function recv(words, sig) {
  const message = await receivers.get(sig).recv(Number(words.ms ?? 0));
  messages.push(message);
  const { pid, uid, gid, tag, path, fds, data } = message;
  return `pid=${pid} uid=${uid} gid=${gid} tag=${tag} path=${path} at=${fds.join()} data=${data}`;
}

const verbs = {
  self: () => 'language=node signals=no',
  open: (_, sig) => {
    receivers.set(sig, new Incoming(sig));
  },
  recv,
  close: (_, sig) => {
    receivers.get(sig).receiver.close();
    receivers.delete(sig);
  },
  retire: (_, sig) => {
    const { receiver } = receivers.get(sig);
    if (!receiver.retire) throw failure(38, 'no retire');
    receiver.retire();
  },
  fork: () => {
    throw failure(38, 'Node cannot fork');
  },
  exec: () => {
    throw failure(38, 'Node cannot execute another program in its place');
  },
  listen: () => {
    throw failure(38, 'JavaScript cannot take a real-time signal with its value');
  },
  forget: () => {
    for (const message of messages.splice(0)) message.close();
  },
  send: (words, sig) =>
    send(words, (fds, options) => sendfd.send(Number(words.pid), sig, fds, options)),
  target: async (words, sig) => {
    target?.close();
    target = await sendfd.Target.open(Number(words.pid), sig, options(words));
    return `path=${target.path}`;
  },
  // A target keeps to its path: saying it again is not needed.
  tsend: (words) => send(words, (fds, { paths, ...options }) => target.send(fds, options)),
  untarget: () => {
    target.close();
    target = null;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...rest] = line.split(' ').filter(Boolean);
  const words = Object.fromEntries(rest.map((word) => word.split(/=(.*)/s, 2)));
  try {
    const answer = await verbs[verb](words, Number(words.sig ?? 0));
    process.stdout.write(`ok ${answer ?? ''}\n`);
  } catch (error) {
    if (typeof error.errno !== 'number') throw error;
    process.stdout.write(`error ${-error.errno} ${error.message}\n`);
  }
}
process.exit(0);
