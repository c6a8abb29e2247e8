// A received message, which owns its descriptors.

import dgram from 'node:dgram';
import fs from 'node:fs';
import net from 'node:net';
import { badDescriptor, checkInt32, checkObject, systemError, withCode } from './errors';
import { type Descriptors, type Kind, type NativeReceiver, native, type Path } from './native';
import { checkServer, listenOn } from './server';

/** Which descriptor of the message is meant. */
export interface Which {
  /** Its place in `fds`; by default 0. */
  index?: number | undefined;
}

/**
 * What this environment has received and not passed on. The addon closes it when the environment
 * ends, as a worker thread's does when it is terminated.
 *
 * @internal
 */
export const descriptors: Descriptors = new native.Descriptors();

const LAYOUT = native.layout();

/** A number in `fds` whose descriptor is no longer the message's. */
const GONE = -1;
const NO_OPTIONS = Object.freeze({});
const NO_DATA = Buffer.alloc(0);
const PATHS: Record<number, Path> = Object.fromEntries(
  Object.entries(native.pathBits()).map(([path, bit]) => [bit, path as Path]),
);

const forgotten = new FinalizationRegistry((fds: number[]) => {
  const left = fds.filter((fd) => fd !== GONE);
  if (left.length === 0) return;
  descriptors.close(left);
  process.emitWarning(
    `A message was forgotten and its ${left.length === 1 ? 'descriptor' : `${left.length} descriptors`} had to be closed by the garbage collector`,
    {
      type: 'SendfdWarning',
      code: 'SENDFD_FORGOTTEN',
      detail:
        'Take what a message brings with socket(), server(), a stream or detach(), or close() it',
    },
  );
});

/**
 * What another process sent. It owns its descriptors, all close-on-exec, until they are taken out
 * (`socket()`, `server()`, `readStream()`, `writeStream()`, `detach()`) or it is closed.
 */
export class Message {
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
  readonly #fds: number[];
  readonly #tagLow: number;
  readonly #tagHigh: number;

  /**
   * Made from what the addon wrote into record `index` of what was received last.
   *
   * @internal
   */
  static from(words: Uint32Array, index: number, receiver: NativeReceiver): Message {
    return new Message(words, index * LAYOUT.size, receiver);
  }

  private constructor(words: Uint32Array, at: number, receiver: NativeReceiver) {
    const word = (offset: number) => words[at + offset] as number;
    this.pid = word(LAYOUT.pid);
    this.uid = word(LAYOUT.uid);
    this.gid = word(LAYOUT.gid);
    this.path = PATHS[word(LAYOUT.path)] ?? null;
    this.#tagLow = word(LAYOUT.tagLow);
    this.#tagHigh = word(LAYOUT.tagHigh);
    const count = word(LAYOUT.count);
    const first = at + LAYOUT.fds;
    const fds = count === 1 ? [word(LAYOUT.fds)] : Array.from(words.subarray(first, first + count));
    this.#fds = fds;
    const length = word(LAYOUT.length);
    if (length === 0) {
      this.data = NO_DATA;
    } else if (length > LAYOUT.inline) {
      this.data = receiver.large(word(LAYOUT.data));
    } else {
      const start = words.byteOffset + (at + LAYOUT.data) * 4;
      this.data = Buffer.from(Buffer.from(words.buffer as ArrayBuffer, start, length));
    }
    forgotten.register(this, fds);
  }

  /** The sender's number. */
  get tag(): bigint {
    return (BigInt(this.#tagHigh) << 32n) | BigInt(this.#tagLow);
  }

  /** The numbers of its descriptors, in the order sent; -1 where one was taken out. */
  get fds(): readonly number[] {
    return this.#fds;
  }

  /** The number of its first descriptor, -1 once it was taken out. It stays the message's. */
  get fd(): number {
    return this.#fds[0] as number;
  }

  /** What a descriptor refers to. Throws `EBADF` once it was taken out. */
  kind(which: Which = NO_OPTIONS): Kind {
    return this.#kind(this.#index(which));
  }

  /**
   * Takes a descriptor out as a socket: a `net.Socket` for a stream socket or a pipe, by the
   * options of its constructor, or a `dgram.Socket` for UDP, which emits 'listening' when it is
   * ready. Throws `ERR_INVALID_FD_TYPE` for what is neither.
   *
   * Bytes that the sender had read already, and sent as `data`, are put back in front by
   * `socket.unshift(message.data)`.
   */
  socket(options: Which & net.SocketConstructorOpts = NO_OPTIONS): net.Socket | dgram.Socket {
    const index = this.#index(options);
    const kind = this.#kind(index);
    const { index: _, ...rest } = options;
    if (
      (kind.type === 'socket' && kind.socketType === 'stream' && !kind.listening) ||
      kind.type === 'pipe'
    ) {
      const { readable, writable } = kind;
      return this.#pass(index, (fd) => adopt({ readable, writable, ...rest }, fd));
    }
    if (kind.socketType === 'dgram' && (kind.family === 'IPv4' || kind.family === 'IPv6')) {
      const socket = dgram.createSocket(kind.family === 'IPv4' ? 'udp4' : 'udp6');
      return this.#pass(index, (fd) => bind(socket, fd));
    }
    throw this.#wrongKind(kind, 'a connected stream socket, a pipe or a UDP socket');
  }

  /**
   * Takes a listening socket out as a server, which emits 'listening' when it is ready. Give it an
   * `http.Server` or another `net.Server` of yours that does not listen yet.
   * Throws `ERR_INVALID_FD_TYPE` for what is no listening stream socket.
   */
  server<S extends net.Server = net.Server>(
    server: S = net.createServer() as S,
    which: Which = NO_OPTIONS,
  ): S {
    const index = this.#index(which);
    const kind = this.#kind(index);
    if (!kind.listening || kind.socketType !== 'stream') {
      throw this.#wrongKind(kind, 'a listening stream socket');
    }
    checkServer(server);
    return this.#pass(index, (fd) => {
      listenOn(server, fd);
      return server;
    });
  }

  /**
   * Takes the only descriptor out as the object that Node has below a socket, for a server to make
   * its own socket of. `null`, and nothing is taken, if it is no connected stream socket.
   *
   * @internal
   */
  connection(): object | null {
    const kind = this.#kind(0);
    if (kind.type !== 'socket' || kind.socketType !== 'stream' || kind.listening) return null;
    return this.#pass(0, (fd) => {
      const socket = new net.Socket({ fd, manualStart: true } as net.SocketConstructorOpts);
      const internals = socket as unknown as { _handle: object | null };
      const handle = internals._handle as object;
      internals._handle = null;
      return handle;
    });
  }

  /**
   * Takes a descriptor out as a stream to read from, at the position that it shares with the
   * sender unless `start` is given. Closes it at its end. For files; a pipe is better read
   * as a `socket()`, which holds no thread while it waits.
   */
  readStream(options: Which & FileReadOptions = NO_OPTIONS): fs.ReadStream {
    const index = this.#index(options);
    const kind = this.#kind(index);
    if (!kind.readable || kind.type === 'directory') {
      throw this.#wrongKind(kind, 'open for reading');
    }
    const { index: _, ...rest } = options;
    return this.#pass(index, (fd) => fs.createReadStream('', { ...rest, fd }));
  }

  /** Takes a descriptor out as a stream to write to. Closes it at its end. */
  writeStream(options: Which & FileWriteOptions = NO_OPTIONS): fs.WriteStream {
    const index = this.#index(options);
    const kind = this.#kind(index);
    if (!kind.writable || kind.type === 'directory') {
      throw this.#wrongKind(kind, 'open for writing');
    }
    const { index: _, ...rest } = options;
    return this.#pass(index, (fd) => fs.createWriteStream('', { ...rest, fd }));
  }

  /** Takes all descriptors out. The caller owns the numbers now, and has to close them. */
  detach(): number[] {
    const fds = this.#fds.filter((fd) => fd !== GONE);
    for (const fd of fds) descriptors.release(fd);
    this.#forget();
    return fds;
  }

  /** Closes what was not taken out. May be called again. */
  close(): void {
    descriptors.close(this.#fds);
    this.#forget();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #forget(): void {
    this.#fds.fill(GONE);
  }

  #index(which: Which): number {
    checkObject('options', which);
    const { index = 0 } = which;
    checkInt32('options.index', index, 0);
    return index;
  }

  #fd(index: number): number {
    const fd = this.#fds[index] ?? GONE;
    if (fd === GONE) {
      throw badDescriptor(`the message has no descriptor ${index}, or it was taken out`);
    }
    return fd;
  }

  #kind(index: number): Kind {
    const kind = native.detect(this.#fd(index));
    if ('errno' in kind) throw systemError(kind);
    return kind as Kind;
  }

  /** Whoever `take` makes owns the descriptor, unless it throws. */
  #pass<T>(index: number, take: (fd: number) => T): T {
    const fd = this.#fd(index);
    const owner = take(fd);
    descriptors.release(fd);
    this.#fds[index] = GONE;
    return owner;
  }

  #wrongKind(kind: Kind, wanted: string): TypeError {
    const found = [kind.family, kind.socketType, kind.listening && 'listening', kind.type];
    const words = found.filter((word) => word !== undefined && word !== false).join(' ');
    return withCode(
      new TypeError(`The descriptor must be ${wanted}. It is: ${words}`),
      'ERR_INVALID_FD_TYPE',
    );
  }
}

function adopt(options: net.SocketConstructorOpts, fd: number): net.Socket {
  if (!process.versions.bun) return new net.Socket({ ...options, fd });
  // In Bun the constructor takes no descriptor, but connect() does.
  return new net.Socket(options).connect({ fd } as unknown as net.SocketConnectOpts);
}

/** Node says 'listening' before anybody can listen for it: it is said again, as for other servers. */
function bind(socket: dgram.Socket, fd: number): dgram.Socket {
  let listens = false;
  const early = () => {
    listens = true;
  };
  socket.once('listening', early);
  try {
    socket.bind({ fd, exclusive: true });
  } finally {
    socket.off('listening', early);
  }
  if (listens) process.nextTick(() => socket.emit('listening'));
  return socket;
}

type FileReadOptions = Omit<
  Exclude<Parameters<typeof fs.createReadStream>[1], string | undefined>,
  'fd'
>;
type FileWriteOptions = Omit<
  Exclude<Parameters<typeof fs.createWriteStream>[1], string | undefined>,
  'fd'
>;
