import { EventEmitter } from 'node:events';
import type net from 'node:net';
import { type SendfdError } from './errors';
import { Message } from './message';
import { type ServeOptions } from './serve';
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
/** The events of a {@link Receiver}. */
export interface ReceiverEvents {
    message: [message: Message];
    error: [error: SendfdError];
    retire: [];
    close: [];
}
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
export declare class Receiver extends EventEmitter<ReceiverEvents> {
    #private;
    readonly sig: number;
    /**
     * Listens on `sig`, from `SIGRTMIN` to `SIGRTMAX`. Throws `EINVAL` for another signal,
     * `EADDRINUSE` if this process already listens there, and `EMFILE`, `ENFILE`, `ENOMEM`. Senders
     * get `EPERM` unless they are this process's user, root or one of `uids`.
     */
    constructor(sig: number, options?: ReceiverOptions);
    /** How many records were dropped: from users not accepted, or not made by this library. */
    get dropped(): number;
    /** Whether it was closed. */
    get closed(): boolean;
    /** Lets the event loop end although this receives. */
    unref(): this;
    /** Keeps the event loop alive while this receives; so it does by default. */
    ref(): this;
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
    serve<S extends net.Server>(server: S, options?: ServeOptions): S;
    /**
     * Receives no more than what was sent already: senders get `ECONNREFUSED` from now on, and may
     * turn to another. When the last message is given out, this closes: iterators end, and 'close'
     * is emitted. The signal is free at once: a new receiver may listen there. Does not wait; may be
     * called again. In signal mode, what no signal was raised for yet is closed.
     */
    retire(): void;
    /**
     * Closes it and what nobody received; senders get `ECONNREFUSED` from then on. Iterators end.
     * 'close' is emitted a little later. May be called again.
     */
    close(): void;
    [Symbol.asyncDispose](): Promise<void>;
    /**
     * Receives a message each time one is asked for. Ends when the receiver is closed. Leaving the
     * loop leaves the receiver open, with what it has not given out.
     */
    [Symbol.asyncIterator](): AsyncIterableIterator<Message>;
}
