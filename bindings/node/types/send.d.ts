import { type Sendable } from './handle';
import { type Path } from './native';
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
export declare function send(pid: number, sig: number, fd: Sendable | readonly Sendable[], options?: SendOptions): Promise<void>;
/**
 * Sends like {@link send}, and throws what that rejects with. Blocks the thread as long as
 * `timeout` allows: that is for start-up and scripts. A `FileHandle` that is to be closed is closed
 * a little later.
 */
export declare function sendSync(pid: number, sig: number, fd: Sendable | readonly Sendable[], options?: SendSyncOptions): void;
/**
 * A process at one of its signals, opened for sending again and again: it is looked up once, each
 * message is one system call, and it keeps to one path. It costs one descriptor until `close()`.
 *
 * It stands for the process that had the pid when it was opened: once that has exited, sending
 * fails with `ESRCH`, also when another process has the pid by then.
 */
export declare class Target {
    #private;
    readonly pid: number;
    readonly sig: number;
    private constructor();
    /**
     * Opens process `pid` at `sig`. While it does not listen yet, tries again until `timeout`,
     * blocking nothing. Rejected as {@link send} is, as far as that is about the target.
     */
    static open(pid: number, sig: number, options?: TargetOptions): Promise<Target>;
    /** Opens process `pid` at `sig`, blocking the thread as long as `timeout` allows. */
    static openSync(pid: number, sig: number, options?: TargetSyncOptions): Target;
    /** The path that it uses. */
    get path(): Path;
    /**
     * How many bytes wait in its queue, by the kernel's count, in which the smallest message takes about
     * 768: of all its senders by `pidfd`, of this process by `name`. For choosing the one of several
     * that has least to do. Throws `EOPNOTSUPP` by `syscall`.
     */
    get queued(): number;
    /** As the function {@link send}. With `paths`, it fails rather than go another way. */
    send(fd: Sendable | readonly Sendable[], options?: SendOptions): Promise<void>;
    /** As the function {@link sendSync}. */
    sendSync(fd: Sendable | readonly Sendable[], options?: SendSyncOptions): void;
    /** Closes it. What still waits to be sent is rejected with `EBADF`. */
    close(): void;
    [Symbol.dispose](): void;
}
