// Sending: one call, or a target that is kept open.

import {
  abortError,
  badDescriptor,
  checkInt32,
  checkObject,
  EINTR,
  invalidType,
  invalidValue,
  outOfRange,
  systemError,
} from './errors';
import { checkLettingGo, fdOf, hold, holdStill, letGo, type Sendable } from './handle';
import { descriptors } from './message';
import { type Failure, type NativeTarget, native, type Path } from './native';
import { mayPass, Outbox, type Waiter } from './outbox';

/** What goes with the descriptors, and how. */
export interface SendSyncOptions {
  /**
   * Bytes for the receiver, at most {@link MAX_DATA}; a string is sent as UTF-8. Above 4096 bytes they
   * take the place of one descriptor.
   */
  data?: string | NodeJS.ArrayBufferView | undefined;
  /** A number for the receiver, from 0 to 2^64 - 1. */
  tag?: number | bigint | undefined;
  /**
   * How long to wait, in milliseconds, for the target to start listening and for room in its queue.
   * 0, the default, does not wait; `Infinity` has no limit.
   */
  timeout?: number | undefined;
  /**
   * `'listening'`, the default, also waits for a process that does not listen: one that boots, or one
   * that lives but has stopped receiving. `'room'` fails with `ECONNREFUSED` at once.
   */
  waitFor?: 'listening' | 'room' | undefined;
  /** The paths that may be used; by default all. One that is not named here is never taken. */
  paths?: readonly Path[] | undefined;
  /** Once it is sent, close it here. See {@link send}. */
  close?: boolean | undefined;
}

/** What goes with the descriptors, and how. */
export interface SendOptions extends SendSyncOptions {
  /** Gives up waiting when it is aborted: the promise is rejected with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

/** How a target is opened. */
export interface TargetSyncOptions {
  /** How long to wait, in milliseconds, for the process to start listening; by default 0. */
  timeout?: number | undefined;
  /**
   * `'listening'`, the default, also waits for a process that does not listen: one that boots, or one
   * that lives but has stopped receiving. `'room'` does not.
   */
  waitFor?: 'listening' | 'room' | undefined;
  /** The paths that may be used; by default all. */
  paths?: readonly Path[] | undefined;
}

/** How a target is opened. */
export interface TargetOptions extends TargetSyncOptions {
  /** Gives up waiting when it is aborted: the promise is rejected with an `AbortError`. */
  signal?: AbortSignal | undefined;
}

const NO_OPTIONS = Object.freeze({});
const bits = native.pathBits();

/**
 * The call into the core, for a pid or for a target.
 *
 * @internal
 */
export type Transmit = (
  fds: number | number[],
  timeout: number,
  tagLow: number,
  tagHigh: number,
  data: Uint8Array | undefined,
  paths: number,
  forRoom: boolean,
) => Failure | null;

/** The messages that wait, for each pid, signal and choice of paths. */
const outboxes = new Map<string, Outbox>();

/**
 * Sends duplicates of descriptors to the process `pid`, which listens on `sig`.
 *
 * The promise is fulfilled when the kernel holds the duplicates for the target: this process may
 * close its own or exit, and they arrive as long as the target lives and keeps receiving. When it
 * is rejected, nothing was sent. Neither the event loop nor a pool thread is blocked: what cannot
 * be sent at once is tried again until `timeout`. Messages arrive in the order of the calls.
 *
 * Descriptors are only borrowed. A send that waits holds the open files itself, for which it needs
 * as many more numbers: what is closed, or opened anew, under a number that was given changes
 * nothing. Once it is sent, both processes hold the same open file: of a socket that is still being read here, each gets some of
 * the bytes. `{ close: true }` closes this side after sending, without shutting the connection
 * down; it is refused with `ERR_SENDFD_BUFFERED`, and nothing is sent, if bytes that belong to the
 * stream wait in this process.
 *
 * Rejected with a {@link SendfdError}, by `code`: `EINVAL` (`sig` is not a real-time signal, `pid`
 * is below 1, no descriptors or more than 253), `EBADF`, `ESRCH` (no such process), `ECONNREFUSED`
 * (it does not listen on `sig`), `EPERM` (it does not accept this user, or no path to it is
 * permitted: see `probe`), `EAGAIN` (its queue is full, and there is no `timeout`), `ETIMEDOUT`,
 * `ETOOMANYREFS` (too many of this user's descriptors are in flight), `EMSGSIZE` (more than 1 MiB
 * of data), `EOPNOTSUPP` (none of `paths` is offered, or no memfd, in which data above 4096 bytes
 * travels), `EMFILE`, `ENFILE`, `ENOMEM`.
 */
export async function send(
  pid: number,
  sig: number,
  fd: Sendable | readonly Sendable[],
  options: SendOptions = NO_OPTIONS,
): Promise<void> {
  const parcel = new Parcel(fd, options, transmitTo(pid, sig));
  const key = outboxKey(pid, sig, parcel);
  await parcel.send(options.signal, outboxes.get(key), () => outboxAt(key));
}

/**
 * Sends like {@link send}, and throws what that rejects with. Blocks the thread as long as
 * `timeout` allows: that is for start-up and scripts. A `FileHandle` that is to be closed is closed
 * a little later.
 */
export function sendSync(
  pid: number,
  sig: number,
  fd: Sendable | readonly Sendable[],
  options: SendSyncOptions = NO_OPTIONS,
): void {
  const parcel = new Parcel(fd, options, transmitTo(pid, sig));
  const outbox = outboxes.size === 0 ? undefined : outboxes.get(outboxKey(pid, sig, parcel));
  parcel.sendSync(outbox);
}

/**
 * A process at one of its signals, opened for sending again and again: it is looked up once, each
 * message is one system call, and it keeps to one path. It costs one descriptor until `close()`.
 *
 * It stands for the process that had the pid when it was opened: once that has exited, sending
 * fails with `ESRCH`, also when another process has the pid by then.
 */
export class Target {
  readonly pid: number;
  readonly sig: number;
  #native: NativeTarget | null;
  #transmit: Transmit;
  #outbox = new Outbox();

  private constructor(pid: number, sig: number, native: NativeTarget) {
    this.pid = pid;
    this.sig = sig;
    this.#native = native;
    this.#transmit = (...message) => this.#open().send(...message);
  }

  /**
   * Opens process `pid` at `sig`. While it does not listen yet, tries again until `timeout`,
   * blocking nothing. Rejected as {@link send} is, as far as that is about the target.
   */
  static async open(
    pid: number,
    sig: number,
    options: TargetOptions = NO_OPTIONS,
  ): Promise<Target> {
    checkAddress(pid, sig);
    checkObject('options', options);
    const { signal } = options;
    const [paths, timeout] = [pathMask(options.paths), milliseconds(options.timeout)];
    const forRoom = waitsForRoom(options.waitFor);
    checkSignal(signal);
    let target: Target | undefined;
    const attempt = (timeout: number) => {
      const opened = native.openTarget(pid, sig, paths, timeout, forRoom);
      if ('errno' in opened) return opened;
      target = new Target(pid, sig, opened);
      return null;
    };
    const failure = attempt(0);
    if (failure !== null) await wait(failure, attempt, timeout, forRoom, signal, new Outbox());
    return target as Target;
  }

  /** Opens process `pid` at `sig`, blocking the thread as long as `timeout` allows. */
  static openSync(pid: number, sig: number, options: TargetSyncOptions = NO_OPTIONS): Target {
    checkAddress(pid, sig);
    checkObject('options', options);
    const paths = pathMask(options.paths);
    const forRoom = waitsForRoom(options.waitFor);
    const opened = uninterrupted(milliseconds(options.timeout), (timeout) =>
      native.openTarget(pid, sig, paths, timeout, forRoom),
    );
    if ('errno' in opened) throw systemError(opened);
    return new Target(pid, sig, opened);
  }

  /** The path that it uses. */
  get path(): Path {
    return this.#open().path() as Path;
  }

  /**
   * How many bytes wait in its queue, by the kernel's count, in which the smallest message takes about
   * 768: of all its senders by `pidfd`, of this process by `name`. For choosing the one of several
   * that has least to do. Throws `EOPNOTSUPP` by `syscall`.
   */
  get queued(): number {
    const queued = this.#open().queued();
    if (typeof queued !== 'number') throw systemError(queued);
    return queued;
  }

  /** As the function {@link send}. With `paths`, it fails rather than go another way. */
  async send(fd: Sendable | readonly Sendable[], options: SendOptions = NO_OPTIONS): Promise<void> {
    const parcel = new Parcel(fd, options, this.#transmit);
    await parcel.send(options.signal, this.#outbox, () => this.#outbox);
  }

  /** As the function {@link sendSync}. */
  sendSync(fd: Sendable | readonly Sendable[], options: SendSyncOptions = NO_OPTIONS): void {
    new Parcel(fd, options, this.#transmit).sendSync(this.#outbox);
  }

  /** Closes it. What still waits to be sent is rejected with `EBADF`. */
  close(): void {
    this.#native?.close();
    this.#native = null;
    this.#outbox.flush();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #open(): NativeTarget {
    if (this.#native !== null) return this.#native;
    throw badDescriptor(
      `cannot send to process ${this.pid} at signal ${this.sig}: the target was closed`,
    );
  }
}

/**
 * One message, checked, on its way.
 *
 * @internal
 */
export class Parcel {
  readonly paths: number;
  readonly #transmit: Transmit;
  readonly #content: Sendable | readonly Sendable[];
  readonly #timeout: number;
  readonly #forRoom: boolean;
  readonly #close: boolean;
  #tagLow = 0;
  #tagHigh = 0;
  #data: Uint8Array | undefined;
  /** While it waits. */
  #held: number[] | undefined;

  constructor(
    content: Sendable | readonly Sendable[],
    options: SendSyncOptions,
    transmit: Transmit,
  ) {
    this.#content = content;
    this.#transmit = transmit;
    if (options === NO_OPTIONS) {
      this.paths = this.#timeout = 0;
      this.#close = this.#forRoom = false;
      return;
    }
    checkObject('options', options);
    const { data, tag, close = false } = options;
    if (data !== undefined) this.#data = bytes(data);
    if (tag !== undefined) [this.#tagLow, this.#tagHigh] = halves(tag);
    if (typeof close !== 'boolean') throw invalidType('options.close', 'of type boolean', close);
    this.paths = pathMask(options.paths);
    this.#timeout = milliseconds(options.timeout);
    this.#forRoom = waitsForRoom(options.waitFor);
    this.#close = close;
  }

  /** Tries, for `timeout` milliseconds at most. What was asked to be closed is, once it is sent. */
  attempt(timeout: number): Failure | null {
    const content = this.#content;
    if (this.#close) for (const sendable of this.#each()) checkLettingGo(sendable);
    const fds =
      this.#held ?? (Array.isArray(content) ? content.map(fdOf) : fdOf(content as Sendable));
    const failure = this.#transmit(
      fds,
      timeout,
      this.#tagLow,
      this.#tagHigh,
      this.#data,
      this.paths,
      this.#forRoom,
    );
    if (failure === null && this.#close) for (const sendable of this.#each()) letGo(sendable);
    return failure;
  }

  async send(
    signal: AbortSignal | undefined,
    outbox: Outbox | undefined,
    open: () => Outbox,
  ): Promise<void> {
    checkSignal(signal);
    // Those that wait came first.
    const failure = outbox?.flush() ?? this.attempt(0);
    if (failure === null) return;
    if (this.#timeout === 0 || !mayPass(failure, this.#forRoom)) throw systemError(failure);
    // What is sent is what was meant by the call: the open files are held, and the caller's bytes
    // copied. Its sockets are held still, so that no byte is read here that the target is to read.
    const content = this.#content;
    const held = hold(Array.isArray(content) ? content : [content as Sendable]);
    this.#held = held;
    this.#data = this.#data && Uint8Array.prototype.slice.call(this.#data);
    const restart = this.#close ? Array.from(this.#each(), holdStill) : [];
    try {
      const attempt = (timeout: number) => this.attempt(timeout);
      await wait(failure, attempt, this.#timeout, this.#forRoom, signal, open());
    } catch (error) {
      for (const each of restart) each();
      throw error;
    } finally {
      descriptors.close(held);
    }
  }

  sendSync(outbox: Outbox | undefined): void {
    const started = this.#timeout === 0 ? 0 : performance.now();
    let failure =
      outbox === undefined || outbox.isEmpty ? null : outbox.flush(started + this.#timeout);
    if (failure === null) {
      const left =
        this.#timeout && Math.max(Number.MIN_VALUE, started + this.#timeout - performance.now());
      failure = uninterrupted(left, (timeout) => this.attempt(timeout));
    }
    if (failure !== null) throw systemError(failure);
  }

  #each(): Set<Sendable> {
    const content = this.#content;
    return new Set(Array.isArray(content) ? content : [content as Sendable]);
  }
}

/** Waits in `outbox` until `attempt` succeeds, time is out or `signal` aborted. */
function wait(
  failure: Failure,
  attempt: (timeout: number) => Failure | null,
  timeout: number,
  forRoom: boolean,
  signal: AbortSignal | undefined,
  outbox: Outbox,
): Promise<void> {
  if (timeout === 0 || !mayPass(failure, forRoom)) throw systemError(failure);
  return new Promise((resolve, reject) => {
    const waiter: Waiter = {
      attempt,
      forRoom,
      deadline: performance.now() + timeout,
      settle(error) {
        signal?.removeEventListener('abort', abort);
        if (error === undefined) resolve();
        else reject(error);
      },
    };
    const abort = () => {
      outbox.remove(waiter);
      waiter.settle(abortError(signal as AbortSignal));
    };
    signal?.addEventListener('abort', abort);
    outbox.add(waiter);
  });
}

/** A signal's handler is run by the event loop, which waits for us: so an interruption is none. */
function uninterrupted<T extends object | null>(
  timeout: number,
  attempt: (timeout: number) => T | Failure,
): T | Failure {
  if (timeout === 0) return attempt(0);
  const deadline = performance.now() + timeout;
  for (let left = timeout; ; left = Math.max(Number.MIN_VALUE, deadline - performance.now())) {
    const result = attempt(left);
    if (result === null || !('errno' in result) || result.errno !== EINTR) return result;
  }
}

function outboxAt(key: string): Outbox {
  let outbox = outboxes.get(key);
  if (outbox === undefined) {
    outbox = new Outbox(() => outboxes.delete(key));
    outboxes.set(key, outbox);
  }
  return outbox;
}

function outboxKey(pid: number, sig: number, { paths }: Parcel): string {
  return `${pid} ${sig} ${paths}`;
}

function transmitTo(pid: number, sig: number): Transmit {
  checkAddress(pid, sig);
  return (...message) => native.send(pid, sig, ...message);
}

/** @internal */
export function checkAddress(pid: number, sig: number): void {
  checkInt32('pid', pid);
  checkInt32('sig', sig);
}

function checkSignal(signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  if (typeof signal !== 'object' || signal === null || !('aborted' in signal)) {
    throw invalidType('options.signal', 'an instance of AbortSignal', signal);
  }
  if (signal.aborted) throw abortError(signal);
}

function bytes(data: unknown): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) {
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
  throw invalidType(
    'options.data',
    'of type string or an instance of Buffer, TypedArray or DataView',
    data,
  );
}

function halves(tag: unknown): [low: number, high: number] {
  if (typeof tag === 'number') {
    if (!Number.isSafeInteger(tag) || tag < 0) {
      throw outOfRange('options.tag', 'an integer >= 0, a bigint above 2^53', tag);
    }
    return [tag % 2 ** 32, Math.floor(tag / 2 ** 32)];
  }
  if (typeof tag !== 'bigint') throw invalidType('options.tag', 'of type number or bigint', tag);
  if (tag !== BigInt.asUintN(64, tag)) throw outOfRange('options.tag', '>= 0n && < 2n ** 64n', tag);
  return [Number(tag & 0xffffffffn), Number(tag >> 32n)];
}

function waitsForRoom(waitFor: unknown = 'listening'): boolean {
  if (waitFor === 'room' || waitFor === 'listening') return waitFor === 'room';
  throw invalidValue('options.waitFor', "must be 'listening' or 'room'");
}

function milliseconds(timeout: unknown = 0): number {
  if (typeof timeout !== 'number') throw invalidType('options.timeout', 'of type number', timeout);
  if (!(timeout >= 0)) throw outOfRange('options.timeout', '>= 0', timeout);
  return timeout;
}

function pathMask(paths: unknown): number {
  if (paths === undefined) return 0;
  if (!Array.isArray(paths)) throw invalidType('options.paths', 'an instance of Array', paths);
  if (paths.length === 0) throw invalidValue('options.paths', 'must name a path');
  return paths.reduce((mask, path) => {
    if (!Object.hasOwn(bits, path)) {
      throw invalidValue('options.paths', "must be made of 'syscall', 'pidfd' and 'name'");
    }
    return mask | bits[path as Path];
  }, 0);
}
