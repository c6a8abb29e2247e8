// Listening sockets, handed by a server that runs to the one that replaces it. The protocol, which
// other languages speak too, is docs/takeover.md.

import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  abortError,
  badDescriptor,
  checkObject,
  EAGAIN,
  ETIMEDOUT,
  invalidType,
  systemError,
  withCode,
} from './errors';
import { checkStopping, fdOf, stop } from './handle';
import { descriptors, type Message } from './message';
import { native } from './native';
import { Receiver } from './receiver';
import { send } from './send';
import { checkServer, listenOn } from './server';

const REQUEST = 'takeover 1';
const LONGEST_PAUSE = 20;
const PATIENCE = 30_000;

/** How a server offers its sockets. */
export interface OfferOptions {
  /** Milliseconds for a successor to say that it serves; by default 30,000. */
  timeout?: number | undefined;
  /** Stops offering: the promise is rejected with an `AbortError`. */
  signal?: AbortSignal | undefined;
  /** Called with the pid of each who asks, and what came of it if nothing did. */
  onAttempt?: ((pid: number, error: Error | null) => void) | undefined;
}

/** How sockets are asked for. */
export interface TakeOverOptions {
  /** Milliseconds to wait for the process to listen at the port and to answer; by default 30,000. */
  timeout?: number | undefined;
}

/**
 * Offers the listening sockets of `servers`, by name, to whoever asks this process at `sig` by
 * {@link takeOver} (its own user and root). Fulfilled with the pid that the kernel gave for it when
 * it serves: by then these servers have stopped, cutting off nobody, and their 'close' follows.
 * Until then nothing changes here: one that fails before it serves has taken nothing.
 *
 * Keeps no event loop alive. Rejected with what opening a {@link Receiver} fails with, and with an
 * `AbortError`. While it waits it holds the receiver's descriptors.
 */
export async function offerTakeover(
  sig: number,
  servers: Readonly<Record<string, net.Server>>,
  options: OfferOptions = {},
): Promise<number> {
  checkObject('servers', servers);
  checkObject('options', options);
  const { timeout = PATIENCE, signal, onAttempt = () => {} } = options;
  if (signal?.aborted) throw abortError(signal);
  const receiver = new Receiver(sig).unref();
  const end = () => receiver.close();
  signal?.addEventListener('abort', end);
  let busy = false;
  try {
    return await new Promise<number>((resolve, reject) => {
      receiver.on('message', async (message) => {
        const { pid } = message;
        try {
          if (await answer(message, servers, timeout, busy, (is) => (busy = is))) {
            receiver.close();
            resolve(pid);
            onAttempt(pid, null);
          }
        } catch (error) {
          onAttempt(pid, error as Error);
        }
      });
      receiver.on('error', () => {});
      receiver.once('close', () => signal?.aborted && reject(abortError(signal)));
    });
  } finally {
    signal?.removeEventListener('abort', end);
    receiver.close();
  }
}

/** True once the other serves and the servers have been left. */
async function answer(
  message: Message,
  servers: Readonly<Record<string, net.Server>>,
  timeout: number,
  busy: boolean,
  setBusy: (is: boolean) => void,
): Promise<boolean> {
  const request = message.data.toString();
  if (message.fds.length !== 1 || !request.startsWith('takeover ')) {
    message.close();
    throw new Error(`process ${message.pid} sent what is no request for a takeover`);
  }
  const socket = message.fd;
  const refuse = (why: string) => {
    native.sendOver(socket, `refuse ${why}\n`, []);
    message.close();
    return new Error(`process ${message.pid} was refused: ${why}`);
  };
  if (request !== REQUEST) throw refuse(`this process speaks "${REQUEST}"`);
  if (busy) throw refuse('another process is taking over');
  setBusy(true);
  try {
    const list = Object.values(servers);
    let fds: number[];
    try {
      for (const server of list) checkStopping(server);
      fds = list.map(fdOf);
    } catch (error) {
      throw refuse((error as Error).message.replaceAll('\n', ' '));
    }
    const failure = native.sendOver(socket, `offer ${Object.keys(servers).join(' ')}\n`, fds);
    if (failure !== null) throw refuse(failure.message);
    const { text } = await arrival(socket, timeout, false);
    if (text !== 'serving\n') {
      throw new Error(`process ${message.pid} did not come to serve`);
    }
    for (const server of list) stop(server);
    return true;
  } finally {
    message.close();
    setBusy(false);
  }
}

/**
 * Asks process `pid`, which offers them at `sig`, for its listening sockets. The process goes on to
 * accept from them until {@link Takeover.serving}.
 *
 * Rejected as {@link send} is; with `ETIMEDOUT`; with `ERR_SENDFD_REFUSED` and the words of the
 * other; with `ERR_SENDFD_PROTOCOL` if it does not speak this protocol.
 */
export async function takeOver(
  pid: number,
  sig: number,
  options: TakeOverOptions = {},
): Promise<Takeover> {
  checkObject('options', options);
  const { timeout = PATIENCE } = options;
  const started = performance.now();
  const ends = native.pair(descriptors);
  if (!Array.isArray(ends)) throw systemError(ends);
  const [mine, its] = ends as [number, number];
  try {
    await send(pid, sig, its, { data: REQUEST, timeout });
  } catch (error) {
    descriptors.close(ends);
    throw error;
  }
  descriptors.close([its]);
  try {
    const left = Math.max(0, timeout - (performance.now() - started));
    const { text, fds } = await arrival(mine, left, true);
    const names = /^offer ([\x21-\x7e]+(?: [\x21-\x7e]+)*)\n$/.exec(text)?.[1]?.split(' ');
    if (names === undefined || names.length !== fds.length) {
      descriptors.close(fds);
      const refused = /^refuse (.*)\n$/.exec(text)?.[1];
      if (refused !== undefined) {
        const error = new Error(`process ${pid} hands nothing over: ${refused}`);
        throw withCode(error, 'ERR_SENDFD_REFUSED');
      }
      const what = text === '' ? 'it went away, or refuses this user' : JSON.stringify(text);
      const error = new Error(`process ${pid} answered with no offer of sockets: ${what}`);
      throw withCode(error, 'ERR_SENDFD_PROTOCOL');
    }
    return new Takeover(mine, new Map(names.map((name, i) => [name, fds[i] as number])));
  } catch (error) {
    descriptors.close([mine]);
    throw error;
  }
}

/** Listening sockets on their way from a process that serves to this one. */
export class Takeover {
  #socket: number | null;
  readonly #offered: Map<string, number>;

  /** @internal */
  constructor(socket: number, offered: Map<string, number>) {
    this.#socket = socket;
    this.#offered = offered;
  }

  /** The names of the sockets that were not taken yet. */
  get names(): string[] {
    return [...this.#offered.keys()];
  }

  /**
   * Takes the socket of this name as a server, which emits 'listening' when it is ready: yours, that
   * does not listen yet, or a new `net.Server`.
   */
  server<S extends net.Server = net.Server>(name: string, server: S = net.createServer() as S): S {
    if (typeof name !== 'string') throw invalidType('name', 'of type string', name);
    const fd = this.#offered.get(name);
    if (fd === undefined)
      throw badDescriptor(`no socket named "${name}" is there, or it was taken`);
    checkServer(server);
    listenOn(server, fd);
    descriptors.release(fd);
    this.#offered.delete(name);
    return server;
  }

  /**
   * Tells the other process that this one serves. Fulfilled when the other has stopped accepting: it
   * finishes what it has and leaves. What was not taken is closed.
   */
  async serving(): Promise<void> {
    const socket = this.#socket;
    if (socket === null) throw badDescriptor('the takeover is over');
    this.#socket = null;
    this.#closeOffered();
    native.sendOver(socket, 'serving\n', []);
    const stream = new net.Socket({ fd: socket });
    descriptors.release(socket);
    stream.on('error', () => {});
    await once(stream.resume(), 'close');
  }

  /** Gives up: what was not taken is closed, and the other process goes on as if it was not asked. */
  close(): void {
    this.#closeOffered();
    if (this.#socket !== null) descriptors.close([this.#socket]);
    this.#socket = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #closeOffered(): void {
    descriptors.close([...this.#offered.values()]);
    this.#offered.clear();
  }
}

/** What comes over the pair, whose descriptors no stream of Node would take. */
async function arrival(socket: number, timeout: number, ref: boolean) {
  const deadline = performance.now() + timeout;
  for (let pause = 1; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    const result = native.receiveOver(socket, descriptors);
    if (!('errno' in result)) return result;
    if (result.errno !== EAGAIN) throw systemError(result);
    if (performance.now() >= deadline) {
      const message = `cannot take over: the other process did not answer in ${timeout} ms`;
      throw systemError({ errno: ETIMEDOUT, message });
    }
    await sleep(pause, undefined, { ref });
  }
}
