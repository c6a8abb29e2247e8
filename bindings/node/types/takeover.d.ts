import net from 'node:net';
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
export declare function offerTakeover(sig: number, servers: Readonly<Record<string, net.Server>>, options?: OfferOptions): Promise<number>;
/**
 * Asks process `pid`, which offers them at `sig`, for its listening sockets. The process goes on to
 * accept from them until {@link Takeover.serving}.
 *
 * Rejected as {@link send} is; with `ETIMEDOUT`; with `ERR_SENDFD_REFUSED` and the words of the
 * other; with `ERR_SENDFD_PROTOCOL` if it does not speak this protocol.
 */
export declare function takeOver(pid: number, sig: number, options?: TakeOverOptions): Promise<Takeover>;
/** Listening sockets on their way from a process that serves to this one. */
export declare class Takeover {
    #private;
    /** The names of the sockets that were not taken yet. */
    get names(): string[];
    /**
     * Takes the socket of this name as a server, which emits 'listening' when it is ready: yours, that
     * does not listen yet, or a new `net.Server`.
     */
    server<S extends net.Server = net.Server>(name: string, server?: S): S;
    /**
     * Tells the other process that this one serves. Fulfilled when the other has stopped accepting: it
     * finishes what it has and leaves. What was not taken is closed.
     */
    serving(): Promise<void>;
    /** Gives up: what was not taken is closed, and the other process goes on as if it was not asked. */
    close(): void;
    [Symbol.dispose](): void;
}
