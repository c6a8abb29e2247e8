// Several targets for the same work, each message for one of them.

import { checkInt32, EAGAIN, ECONNREFUSED, EOPNOTSUPP, EPERM, ESRCH, ETOOMANYREFS } from './errors';
import type { Sendable } from './handle';
import { type Failure, type NativeTarget, native } from './native';
import { Outbox } from './outbox';
import { checkAddress, Parcel, type SendOptions } from './send';

const NO_OPTIONS = Object.freeze({});

/** After these another target is tried. Of several refusals, the first in this list is reported. */
const ANOTHER = [EAGAIN, ETOOMANYREFS, ECONNREFUSED, EPERM, EOPNOTSUPP, ESRCH];

/**
 * Processes that do the same work, each listening at the same signal. A message goes to the next of
 * them in turn that takes it: one that is full, is booting, has retired, cannot be reached or has
 * gone is passed over.
 * One that lives is tried again with the next message, whatever it answered before; only what has
 * exited is given up.
 */
export class Targets {
  readonly sig: number;
  #targets = new Map<number, NativeTarget | null>();
  #next = 0;
  #took = 0;
  #outbox = new Outbox();

  /** Processes can be added and taken out later. Each costs a descriptor from its first message on. */
  constructor(sig: number, pids: Iterable<number> = []) {
    checkInt32('sig', sig);
    this.sig = sig;
    for (const pid of pids) this.add(pid);
  }

  /** The processes: those that were added, less those that were taken out or found to have exited. */
  get pids(): number[] {
    return [...this.#targets.keys()];
  }

  /** Has messages go to `pid` too. It need not listen yet. */
  add(pid: number): this {
    checkAddress(pid, this.sig);
    if (!this.#targets.has(pid)) this.#targets.set(pid, null);
    return this;
  }

  /** Has no more messages go to `pid`. False if none did. */
  delete(pid: number): boolean {
    this.#targets.get(pid)?.close();
    return this.#targets.delete(pid);
  }

  /**
   * Sends to one of them, and answers its pid. Waits, with a `timeout`, until one of them has room
   * or listens. Otherwise as the function `send`; rejected with `ESRCH` if there is none left.
   */
  async send(
    fd: Sendable | readonly Sendable[],
    options: SendOptions = NO_OPTIONS,
  ): Promise<number> {
    let took = 0;
    const parcel = new Parcel(fd, options, (...message) => {
      const failure = this.#transmit(message);
      took = this.#took;
      return failure;
    });
    await parcel.send(options.signal, this.#outbox, () => this.#outbox);
    return took;
  }

  /** Closes all of them. What still waits to be sent is rejected with `ESRCH`. */
  close(): void {
    for (const pid of this.pids) this.delete(pid);
    this.#outbox.flush();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #transmit(message: Parameters<NativeTarget['send']>): Failure | null {
    const pids = this.pids;
    let reason: Failure = { errno: ESRCH, message: 'no process is left to send to' };
    for (let i = 0; i < pids.length; i++) {
      const at = (this.#next + i) % pids.length;
      const pid = pids[at] as number;
      const failure = this.#try(pid, message);
      if (failure === null) {
        this.#next = (at + 1) % pids.length;
        this.#took = pid;
        return null;
      }
      // What is wrong with the message is wrong with each.
      if (!ANOTHER.includes(failure.errno)) return failure;
      if (ANOTHER.indexOf(failure.errno) < ANOTHER.indexOf(reason.errno)) reason = failure;
    }
    return reason;
  }

  #try(pid: number, message: Parameters<NativeTarget['send']>): Failure | null {
    const [, , , , , paths] = message;
    let target = this.#targets.get(pid);
    if (!target) {
      const opened = native.openTarget(pid, this.sig, paths, 0, true);
      if ('errno' in opened) {
        if (opened.errno === ESRCH) this.#targets.delete(pid);
        return opened;
      }
      target = opened;
      this.#targets.set(pid, target);
    }
    const failure = target.send(...message);
    if (failure === null || failure.errno === EAGAIN || failure.errno === ETOOMANYREFS) {
      return failure;
    }
    // It does not listen any more, or not to this user: it may later, and then anew.
    target.close();
    if (failure.errno === ESRCH) this.#targets.delete(pid);
    else this.#targets.set(pid, null);
    return failure;
  }
}
