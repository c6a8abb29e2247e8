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
  const target = `linux-${arch}-${isMusl() ? 'musl' : 'gnu'}`;
  const missing: Error[] = [];
  for (const name of [`../sendfd.${target}.node`, `sendfd-${target}`]) {
    try {
      return require(name);
    } catch (error) {
      // What is there but cannot be loaded says more than that nothing is there.
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
      missing.push(error as Error);
    }
  }
  throw unsupported(
    `sendfd has no addon for ${target}: the package sendfd-${target} is not installed. ` +
      'Reinstall without --omit=optional, on the machine that runs the program, ' +
      'or build the addon from the sources',
    missing[0],
  );
}

function isMusl(): boolean {
  // Node's report names the glibc that it runs on; where there is none, it is musl.
  const report = process.report as { excludeNetwork?: boolean } & NodeJS.ProcessReport;
  if (report?.getReport === undefined) return false;
  const { excludeNetwork } = report;
  // Names of peers would be looked up, which can take seconds.
  report.excludeNetwork = true;
  const { header } = report.getReport() as unknown as { header: Record<string, unknown> };
  report.excludeNetwork = excludeNetwork ?? false;
  return header.glibcVersionRuntime === undefined;
}

function unsupported(message: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { code: 'ERR_SENDFD_UNSUPPORTED_PLATFORM' });
}
