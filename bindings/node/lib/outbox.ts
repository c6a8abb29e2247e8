// Messages that wait for their target, in the order in which they were sent.

import { EAGAIN, ECONNREFUSED, ETIMEDOUT, ETOOMANYREFS, systemError } from './errors';
import type { Failure } from './native';

/** @internal */
export interface Waiter {
  /** Tries to send, for `timeout` milliseconds at most; `null` once it is sent. May throw. */
  attempt(timeout: number): Failure | null;
  /** Whether it waits for room only, and not for the target to listen. */
  readonly forRoom: boolean;
  /** On the clock of `performance.now()`. */
  readonly deadline: number;
  settle(error?: unknown): void;
}

const FIRST_PAUSE = 1;
const LONGEST_PAUSE = 20;
/** Fails with ETIMEDOUT rather than EAGAIN, having waited for no time to speak of. */
const NO_TIME = 1e-6;

/**
 * Whether waiting can help.
 *
 * @internal
 */
export function mayPass({ errno }: Failure, forRoom: boolean): boolean {
  return errno === EAGAIN || errno === ETOOMANYREFS || (errno === ECONNREFUSED && !forRoom);
}

/**
 * The messages that wait for one target. Only the first is tried: the others could not be sent
 * before it anyway.
 *
 * @internal
 */
export class Outbox {
  #waiters: Waiter[] = [];
  #timer: NodeJS.Timeout | undefined;
  #pause = FIRST_PAUSE;
  #onEmpty: () => void;

  constructor(onEmpty: () => void = () => {}) {
    this.#onEmpty = onEmpty;
  }

  get isEmpty(): boolean {
    return this.#waiters.length === 0;
  }

  add(waiter: Waiter): void {
    this.#waiters.push(waiter);
    this.#schedule();
  }

  /** Takes out one that is settled or gave up. */
  remove(waiter: Waiter): void {
    const at = this.#waiters.indexOf(waiter);
    if (at >= 0) this.#waiters.splice(at, 1);
    if (this.isEmpty) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#onEmpty();
    }
  }

  /**
   * Sends what can be sent now, or until the moment `until` if the thread may be blocked. Answers
   * why the first of the others cannot be sent.
   */
  flush(until = 0): Failure | null {
    for (let first = this.#waiters[0]; first !== undefined; first = this.#waiters[0]) {
      const failure = this.#try(first, until);
      if (failure !== null) return failure;
      this.#pause = FIRST_PAUSE;
    }
    return null;
  }

  #try(waiter: Waiter, until: number): Failure | null {
    let error: unknown;
    try {
      const left = Math.min(until, waiter.deadline) - performance.now();
      let failure = waiter.attempt(Math.max(0, left));
      if (failure !== null && (mayPass(failure, waiter.forRoom) || failure.errno === ETIMEDOUT)) {
        if (performance.now() < waiter.deadline) return failure;
        failure = waiter.attempt(NO_TIME);
      }
      if (failure !== null) error = systemError(failure);
    } catch (thrown) {
      error = thrown;
    }
    this.remove(waiter);
    waiter.settle(error);
    return null;
  }

  #schedule(): void {
    const first = this.#waiters[0];
    if (first === undefined || this.#timer !== undefined) return;
    const left = Math.ceil(first.deadline - performance.now());
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
        this.flush();
        this.#schedule();
      },
      Math.max(1, Math.min(this.#pause, left)),
    );
  }
}
