// Receiving: events or an asynchronous iterator.

import { EventEmitter } from 'node:events';
import type net from 'node:net';
import {
  checkInt32,
  checkObject,
  ESHUTDOWN,
  invalidType,
  mayPassReceiving,
  type SendfdError,
  systemError,
} from './errors';
import { descriptors, Message } from './message';
import { type NativeReceiver, native } from './native';
import { type ServeOptions, serve } from './serve';

/** How a receiver is opened. */
export interface ReceiverOptions {
  /** Users whose messages are accepted, beside this process's own and root. Each costs a descriptor. */
  uids?: readonly number[] | undefined;
  /**
   * How many bytes senders that came by `pidfd` can have queued together, by the kernel's count, in
   * which the smallest message takes about 768. By default 212,992, some 277 messages.
   */
  queueBytes?: number | undefined;
}

/**
 * What `listen` gives in place of options.
 *
 * @internal
 */
export const SIGNAL_MODE: ReceiverOptions = Object.freeze({});

/** The events of a {@link Receiver}. */
export interface ReceiverEvents {
  message: [message: Message];
  error: [error: SendfdError];
  retire: [];
  close: [];
}

/** How many messages are received with one call, and so at most wait in this process. */
const BATCH = 32;
/** The same while messages come singly. A call that finds less than it asks for need not be repeated. */
const SMALL_BATCH = 2;
/** How long receiving pauses after an error, in milliseconds; what frees descriptors runs then. */
const FIRST_PAUSE = 1;
const LONGEST_PAUSE = 100;

// What the addon writes messages into, and what each is made from at once.
const block = new Uint32Array(BATCH * native.layout().size);

// Bun and Deno export libuv's names, but have no libuv loop.
const { bun, deno } = process.versions as Record<string, string | undefined>;
const hasUv = !bun && !deno && process.env.SENDFD_NODE_POLLER !== 'thread';

type Waiting = {
  resolve(result: IteratorResult<Message, undefined>): void;
  reject(error: unknown): void;
};

/**
 * Receives what other processes send to this process at one signal. No signal is raised.
 *
 * While somebody wants messages, a listener for 'message' or an iterator that waits for one, it
 * receives, and keeps the event loop alive unless `unref()` was called. At other times messages
 * stay in the kernel's queue, and senders find it full in the end: that is the backpressure. It
 * uses no thread of libuv's pool, and in Node no thread at all.
 *
 * - 'message' (message): the listener owns it, see {@link Message}.
 * - 'error' (error): receiving failed. With `EMFILE` (the descriptor table is full), `ENFILE` or
 *   `ENOMEM` no message is lost, and receiving, iterators too, goes on by itself when it can: it is
 *   reported once, until a message is received again, and is a `SendfdWarning` where nobody listens
 *   for 'error'. Anything else goes to the iterator, if one is waiting.
 * - 'retire': it takes no more than what was sent already.
 * - 'close': it is closed, or was retired and has given out its last message.
 *
 * A process can have one receiver for each signal, in whichever of its threads.
 */
export class Receiver extends EventEmitter<ReceiverEvents> {
  readonly sig: number;
  #native: NativeReceiver | null;
  #messages: Message[] = [];
  #waiting: Waiting[] = [];
  #polling = false;
  #keepsAlive = true;
  #batch = SMALL_BATCH;
  #pause = 0;
  #timer: NodeJS.Timeout | undefined;
  #drain: NodeJS.Immediate | undefined;
  #retired = false;
  /** The end of signal mode makes no descriptor readable. */
  readonly #takesSignals: boolean;

  /**
   * Listens on `sig`, from `SIGRTMIN` to `SIGRTMAX`. Throws `EINVAL` for another signal,
   * `EADDRINUSE` if this process already listens there, and `EMFILE`, `ENFILE`, `ENOMEM`. Senders
   * get `EPERM` unless they are this process's user, root or one of `uids`.
   */
  constructor(sig: number, options: ReceiverOptions = {}) {
    super();
    checkInt32('sig', sig);
    checkObject('options', options);
    const { uids = [], queueBytes = 0 } = options;
    if (!Array.isArray(uids)) throw invalidType('options.uids', 'an instance of Array', uids);
    for (const uid of uids) checkInt32('options.uids', uid, 0);
    checkInt32('options.queueBytes', queueBytes, 0);
    const opened =
      options === SIGNAL_MODE
        ? native.listen(sig, descriptors, hasUv)
        : native.openReceiver(sig, uids, queueBytes, descriptors, hasUv);
    if ('errno' in opened) throw systemError(opened);
    this.sig = sig;
    this.#takesSignals = options === SIGNAL_MODE;
    this.#native = opened;
    // These two come with every emitter, and are no business of the types above.
    const events = this as unknown as EventEmitter;
    events.on('newListener', (event) => {
      // The listener is there only after this.
      if (event === 'message') this.#start();
    });
    events.on('removeListener', (event) => {
      if (event === 'message') this.#update();
    });
  }

  /** How many records were dropped: from users not accepted, or not made by this library. */
  get dropped(): number {
    return this.#native?.dropped() ?? 0;
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#native === null;
  }

  /** Lets the event loop end although this receives. */
  unref(): this {
    return this.#setAlive(false);
  }

  /** Keeps the event loop alive while this receives; so it does by default. */
  ref(): this {
    return this.#setAlive(true);
  }

  /**
   * Has `server` serve the connections that arrive, as if it listened and had accepted them: a
   * `net.Server` or one of tls, http, https, http2, with what is built on it. All its options,
   * limits and timeouts hold; `getConnections()`, `closeIdleConnections()` and
   * `closeAllConnections()` know of them; bytes that came along as `data` are read first. Answers
   * the server. Blocks nothing; not for Bun and Deno.
   *
   * When this receiver retires or is closed, the server stops, cutting off nobody: each connection of
   * HTTP ends with its next response or its timeout, and 'close' follows. The other
   * way round, `server.close()` retires this receiver: what was sent already is still served.
   *
   * Throws `ERR_SERVER_ALREADY_LISTEN` if the server listens.
   */
  serve<S extends net.Server>(server: S, options: ServeOptions = {}): S {
    checkObject('options', options);
    serve(this, server, options);
    return server;
  }

  /**
   * Receives no more than what was sent already: senders get `ECONNREFUSED` from now on, and may
   * turn to another. When the last message is given out, this closes: iterators end, and 'close'
   * is emitted. The signal is free at once: a new receiver may listen there. Does not wait; may be
   * called again. In signal mode, what no signal was raised for yet is closed.
   */
  retire(): void {
    if (this.#native === null || this.#retired) return;
    const failure = this.#native.retire();
    if (failure !== null) throw systemError(failure);
    this.#retired = true;
    this.emit('retire');
    this.#receive();
    if (this.#isWanted) this.#deliverSoon();
  }

  /**
   * Closes it and what nobody received; senders get `ECONNREFUSED` from then on. Iterators end.
   * 'close' is emitted a little later. May be called again.
   */
  close(): void {
    if (this.#native === null) return;
    this.#native.close();
    this.#native = null;
    this.#polling = false;
    clearTimeout(this.#timer);
    clearImmediate(this.#drain);
    for (const message of this.#messages.splice(0)) message.close();
    for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined });
    process.nextTick(() => this.emit('close'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#native === null) return;
    this.close();
    await new Promise<void>((resolve) => this.once('close', resolve));
  }

  /**
   * Receives a message each time one is asked for. Ends when the receiver is closed. Leaving the
   * loop leaves the receiver open, with what it has not given out.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Message> {
    let left = false;
    const end = { done: true, value: undefined } as const;
    return {
      next: () => (left ? Promise.resolve(end) : this.#next()),
      return: async () => {
        left = true;
        return end;
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  #next(): Promise<IteratorResult<Message, undefined>> {
    // Whoever asked first is served first.
    const ready = this.#waiting.length === 0 ? this.#messages.shift() : undefined;
    if (ready !== undefined) return Promise.resolve({ done: false, value: ready });
    if (this.#native === null) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#receive();
      this.#deliver();
    });
  }

  get #isWanted(): boolean {
    return this.#waiting.length > 0 || this.listenerCount('message') > 0;
  }

  /** Watches, or does not, as it has to be now. */
  #update(): void {
    if (this.#native === null) return;
    if (this.#isWanted && this.#timer === undefined) this.#start();
    else this.#stop();
  }

  #start(): void {
    if (this.#native === null) return;
    if (this.#messages.length > 0) this.#deliverSoon();
    if (this.#polling || this.#timer !== undefined) return;
    this.#polling = true;
    this.#native.start(this.#ready);
    this.#native.keepAlive(this.#keepsAlive);
  }

  #stop(): void {
    if (!this.#polling) return;
    this.#polling = false;
    this.#native?.stop();
  }

  #setAlive(keep: boolean): this {
    this.#keepsAlive = keep;
    this.#native?.keepAlive(keep);
    if (keep) this.#timer?.ref();
    else this.#timer?.unref();
    return this;
  }

  #ready = (): void => {
    this.#receive();
    this.#deliver();
  };

  /** Takes what is there off the kernel's queue, as much as one call gives. */
  #receive(): void {
    if (this.#native === null || this.#timer !== undefined || this.#messages.length > 0) return;
    const count = this.#native.receive(block, this.#batch);
    if (typeof count !== 'number') {
      if (count.errno === ESHUTDOWN) this.close();
      else this.#fail(systemError(count));
      return;
    }
    for (let i = 0; i < count; i++) {
      this.#messages.push(Message.from(block, i, this.#native));
    }
    this.#batch = count < this.#batch ? SMALL_BATCH : BATCH;
    if (count > 0) this.#pause = 0;
  }

  /** Gives out what was received, for as long as somebody wants it. */
  #deliver(): void {
    try {
      while (this.#messages.length > 0 && this.#isWanted) {
        const value = this.#messages.shift() as Message;
        const waiting = this.#waiting.shift();
        if (waiting !== undefined) waiting.resolve({ done: false, value });
        else this.emit('message', value);
      }
    } finally {
      // A listener may have thrown.
      const isMoreToCome = this.#messages.length > 0 || (this.#retired && this.#takesSignals);
      if (isMoreToCome && this.#isWanted) this.#deliverSoon();
      this.#update();
    }
  }

  #deliverSoon(): void {
    this.#drain ??= setImmediate(() => {
      this.#drain = undefined;
      this.#receive();
      this.#deliver();
    });
  }

  /** Reports it, and leaves the descriptor, which stays readable, alone for a while. */
  #fail(error: SendfdError): void {
    const isNew = this.#pause === 0;
    this.#stop();
    this.#pause = Math.min(Math.max(this.#pause * 2, FIRST_PAUSE), LONGEST_PAUSE);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#update();
    }, this.#pause);
    if (!this.#keepsAlive) this.#timer.unref();
    if (mayPassReceiving(error)) {
      if (isNew) this.#report(error);
      return;
    }
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) waiting.reject(error);
    else if (isNew) this.emit('error', error);
  }

  /** Says that receiving pauses. A worker does not have to end of that. */
  #report(error: SendfdError): void {
    if (this.listenerCount('error') > 0) {
      this.emit('error', error);
      return;
    }
    process.emitWarning(`Receiving waits until there is room: ${error.message}`, {
      type: 'SendfdWarning',
      code: `SENDFD_${error.code}`,
    });
  }
}
