// The addon: found and loaded. Its types are those that its build wrote down.

import type * as Addon from '../build/native';

/** @internal */
export type Failure = Addon.Failure;
/** @internal */
export type Probed = Addon.Report;
/** @internal */
export type Descriptors = Addon.Descriptors;
/** @internal */
export type NativeTarget = Addon.NativeTarget;
/** @internal */
export type NativeReceiver = Addon.NativeReceiver;

/** The way that a message takes. */
export type Path = 'syscall' | 'pidfd' | 'name';

/** What a descriptor refers to, as `detect` found it. */
export interface Kind {
  /** The type of the open file; `anonymous` is an eventfd, a pidfd, an epoll instance, ... */
  readonly type:
    | 'socket'
    | 'file'
    | 'directory'
    | 'pipe'
    | 'character-device'
    | 'block-device'
    | 'anonymous';
  /** Of a socket: its family; the number of another one, as in `<sys/socket.h>`. */
  readonly family?: 'IPv4' | 'IPv6' | 'unix' | number;
  /** Of a socket: its type; the number of another one. */
  readonly socketType?: 'stream' | 'dgram' | 'seqpacket' | number;
  /** Of a socket: its protocol, such as 6 for TCP. */
  readonly protocol?: number;
  /** Of a socket: whether connections are to be accepted from it. */
  readonly listening?: boolean;
  /** Whether it was opened for reading. */
  readonly readable: boolean;
  /** Whether it was opened for writing. */
  readonly writable: boolean;
}

/** @internal */
export const native: typeof Addon = load();

function load(): typeof Addon {
  const { platform, arch } = process;
  if (platform !== 'linux') {
    throw unsupported(`sendfd needs Linux, and this is ${platform}: there are no pidfds here`);
  }
  // The one for glibc first: to ask which it is takes longer than to find that there is none.
  let reason: unknown;
  for (const libc of ['gnu', 'musl']) {
    const target = `linux-${arch}-${libc}`;
    for (const name of [`../sendfd.${target}.node`, `sendfd-${target}`]) {
      try {
        return require(name);
      } catch (error) {
        // What is there but cannot be loaded says more than that nothing is there.
        if (reason === undefined || (error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') {
          reason = error;
        }
      }
    }
  }
  const isMissing = (reason as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND';
  throw unsupported(
    isMissing
      ? `sendfd has no addon for linux-${arch}: the package sendfd-linux-${arch}-gnu (or -musl) is not installed. Reinstall without --omit=optional, on the machine that runs the program, or build the addon from the sources`
      : `sendfd cannot load its addon: ${(reason as Error).message}`,
    reason as Error,
  );
}

function unsupported(message: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { code: 'ERR_SENDFD_UNSUPPORTED_PLATFORM' });
}
