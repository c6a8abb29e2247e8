import type { Sendable } from './handle';
import { type SendOptions } from './send';
/**
 * Processes that do the same work, each listening at the same signal. A message goes to the next of
 * them in turn that takes it: one that is full, is booting, has retired, cannot be reached or has
 * gone is passed over.
 * One that lives is tried again with the next message, whatever it answered before; only what has
 * exited is given up.
 */
export declare class Targets {
    #private;
    readonly sig: number;
    /** Processes can be added and taken out later. Each costs a descriptor from its first message on. */
    constructor(sig: number, pids?: Iterable<number>);
    /** The processes: those that were added, less those that were taken out or found to have exited. */
    get pids(): number[];
    /** Has messages go to `pid` too. It need not listen yet. */
    add(pid: number): this;
    /** Has no more messages go to `pid`. False if none did. */
    delete(pid: number): boolean;
    /**
     * Sends to one of them, and answers its pid. Waits, with a `timeout`, until one of them has room
     * or listens. Otherwise as the function `send`; rejected with `ESRCH` if there is none left.
     */
    send(fd: Sendable | readonly Sendable[], options?: SendOptions): Promise<number>;
    /** Closes all of them. What still waits to be sent is rejected with `ESRCH`. */
    close(): void;
    [Symbol.dispose](): void;
}
