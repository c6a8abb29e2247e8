import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import { type Kind, type Path } from './native';
/** Which descriptor of the message is meant. */
export interface Which {
    /** Its place in `fds`; by default 0. */
    index?: number | undefined;
}
/**
 * What another process sent. It owns its descriptors, all close-on-exec, until they are taken out
 * (`socket()`, `server()`, `readStream()`, `writeStream()`, `detach()`) or it is closed.
 */
export declare class Message {
    #private;
    /**
     * Process id of the sender, vouched for by the kernel; 0 if it cannot be seen from here. It is no
     * address to answer to: by then it may be another process's.
     */
    readonly pid: number;
    /** User id of the sender, vouched for by the kernel. */
    readonly uid: number;
    /** Group id of the sender, vouched for by the kernel. */
    readonly gid: number;
    /** The way it came; `null` in signal mode, where that is not known. */
    readonly path: Path | null;
    /** The sender's bytes. */
    readonly data: Buffer;
    private constructor();
    /** The sender's number. */
    get tag(): bigint;
    /** The numbers of its descriptors, in the order sent; -1 where one was taken out. */
    get fds(): readonly number[];
    /** The number of its first descriptor, -1 once it was taken out. It stays the message's. */
    get fd(): number;
    /** What a descriptor refers to. Throws `EBADF` once it was taken out. */
    kind(which?: Which): Kind;
    /**
     * Takes a descriptor out as a socket: a `net.Socket` for a stream socket or a pipe, by the
     * options of its constructor, or a `dgram.Socket` for UDP, which emits 'listening' when it is
     * ready. Throws `ERR_INVALID_FD_TYPE` for what is neither.
     *
     * Bytes that the sender had read already, and sent as `data`, are put back in front by
     * `socket.unshift(message.data)`.
     */
    socket(options?: Which & net.SocketConstructorOpts): net.Socket | dgram.Socket;
    /**
     * Takes a listening socket out as a server, which emits 'listening' when it is ready. Give it an
     * `http.Server` or another `net.Server` of yours that does not listen yet.
     * Throws `ERR_INVALID_FD_TYPE` for what is no listening stream socket.
     */
    server<S extends net.Server = net.Server>(server?: S, which?: Which): S;
    /**
     * Takes a descriptor out as a stream to read from, at the position that it shares with the
     * sender unless `start` is given. Closes it at its end. For files; a pipe is better read
     * as a `socket()`, which holds no thread while it waits.
     */
    readStream(options?: Which & FileReadOptions): fs.ReadStream;
    /** Takes a descriptor out as a stream to write to. Closes it at its end. */
    writeStream(options?: Which & FileWriteOptions): fs.WriteStream;
    /** Takes all descriptors out. The caller owns the numbers now, and has to close them. */
    detach(): number[];
    /** Closes what was not taken out. May be called again. */
    close(): void;
    [Symbol.dispose](): void;
}
type FileReadOptions = Omit<Exclude<Parameters<typeof fs.createReadStream>[1], string | undefined>, 'fd'>;
type FileWriteOptions = Omit<Exclude<Parameters<typeof fs.createWriteStream>[1], string | undefined>, 'fd'>;
export {};
