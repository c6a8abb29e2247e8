// What can be sent, how its descriptor is found, and how it is let go of.

import dgram from 'node:dgram';
import type fs from 'node:fs';
import net from 'node:net';
import {
  badDescriptor,
  checkInt32,
  invalidType,
  invalidValue,
  systemError,
  withCode,
} from './errors';
import { descriptors } from './message';
import { native } from './native';
import { leave } from './server';

/**
 * What can be sent: the number of a descriptor, or what has one: a `net.Socket`, `net.Server`,
 * `dgram.Socket`, `FileHandle`, file stream, or anything with a property `fd`.
 */
export type Sendable =
  | number
  | net.Socket
  | net.Server
  | dgram.Socket
  | fs.ReadStream
  | fs.WriteStream
  | { readonly fd: number | null };

// What Node does not declare but has had since its first versions.
interface Internals {
  fd?: unknown;
  _handle?: { fd?: number; reading?: boolean; readStart?(): void; readStop?(): void } | null;
  encrypted?: boolean;
  destroyed?: boolean;
  parser?: object | null;
  readableLength?: number;
  writableLength?: number;
  _pipeName?: unknown;
}

const { bun, deno } = process.versions as Record<string, string | undefined>;

/** @internal */
export function fdOf(sendable: Sendable): number {
  if (typeof sendable === 'number') {
    checkInt32('fd', sendable, 0);
    return sendable;
  }
  if (typeof sendable !== 'object' || sendable === null) throw wrong(sendable);
  const fd = handleFd(sendable as Internals);
  if (typeof fd === 'number' && fd >= 0) return fd;
  if (fd === undefined) throw wrong(sendable);
  throw badDescriptor(
    `cannot send an instance of ${sendable.constructor?.name}: it has no descriptor, being closed or not open yet`,
  );
}

function handleFd(object: Internals): unknown {
  if (object instanceof dgram.Socket) {
    return dgramHandle(object)?.fd ?? null;
  }
  if (object instanceof net.Socket || object instanceof net.Server) {
    if (object instanceof net.Socket && (object as Internals).encrypted) {
      throw invalidValue(
        'fd',
        'must not be a TLS socket: its keys are in this process and do not travel with the descriptor',
      );
    }
    return (object as Internals)._handle?.fd ?? null;
  }
  return object.fd;
}

/** dgram keeps its handle behind a symbol; the property it once had is deprecated. */
function dgramHandle(socket: dgram.Socket): { fd?: number } | null | undefined {
  const symbol = Object.getOwnPropertySymbols(socket).find(
    (symbol) => symbol.description === 'state symbol',
  );
  const state =
    symbol && (socket as unknown as Record<symbol, { handle?: { fd?: number } }>)[symbol];
  return state?.handle;
}

function wrong(value: unknown): TypeError {
  const expected =
    'a descriptor, a net.Socket, net.Server, dgram.Socket, FileHandle, an object with a descriptor as its fd, or an array of these';
  return invalidType('fd', expected, value);
}

/**
 * Numbers of our own for what is sent while it waits: whatever the sender does with its own
 * meanwhile, these are the same open files. To be closed by `descriptors.close()`.
 *
 * @internal
 */
export function hold(sendables: readonly Sendable[]): number[] {
  const held: number[] = [];
  try {
    for (const sendable of sendables) {
      const fd = descriptors.duplicate(fdOf(sendable));
      if (typeof fd !== 'number') throw systemError(fd);
      held.push(fd);
    }
  } catch (error) {
    descriptors.close(held);
    throw error;
  }
  return held;
}

/**
 * That letting go would lose nothing: bytes that this process has taken from the kernel or not
 * given to it yet do not travel with the descriptor.
 *
 * @internal
 */
export function checkLettingGo(sendable: Sendable): void {
  if (typeof sendable === 'number') return;
  const object = sendable as unknown as Internals;
  // It was given up here already, with all that waited in it.
  if (object.destroyed) return;
  if (object.parser) {
    throw buffered(
      'an HTTP parser reads from the socket; take it over at an upgrade, or send it before HTTP starts',
    );
  }
  if (object.readableLength) {
    throw buffered(
      `${object.readableLength} bytes were read and wait in this process; read() them and send them as data`,
    );
  }
  const queued =
    object.writableLength || (sendable instanceof dgram.Socket && sendable.getSendQueueSize?.());
  if (queued) {
    throw buffered(
      `${queued} bytes were written and wait in this process; wait until they are written`,
    );
  }
  if (sendable instanceof net.Server) checkStopping(sendable);
}

/**
 * That a server can be closed here while another process goes on to listen.
 *
 * @internal
 */
export function checkStopping(server: net.Server): void {
  if (keepPath(server, false)) return;
  const path = (server as Internals)._pipeName;
  throw invalidValue(
    'server',
    `cannot be closed without removing ${path}, on which the other process listens. Exit without closing it`,
  );
}

/**
 * Stops a server here while another process goes on to listen on its socket.
 *
 * @internal
 */
export function stop(server: net.Server): void {
  // One that would remove its path stays open until this process exits: the other can accept all.
  if (keepPath(server, true)) leave(server);
}

/** Whether closing the server removes no path, which Node does of one that it has bound to a path. */
function keepPath(server: net.Server, fromNowOn: boolean): boolean {
  const path = (server as Internals)._pipeName;
  if (typeof path !== 'string' || path === '' || path.startsWith('\0')) return true;
  return !bun && !deno && native.keepPath(fdOf(server), path, fromNowOn);
}

function buffered(reason: string): Error {
  const message = `cannot let go of what is sent: ${reason}`;
  return withCode(new Error(message), 'ERR_SENDFD_BUFFERED');
}

/**
 * Stops a socket from reading while it waits to be sent. The answer starts it again.
 *
 * @internal
 */
export function holdStill(sendable: Sendable): () => void {
  if (!(sendable instanceof net.Socket)) return () => {};
  const handle = (sendable as Internals)._handle;
  const flowing = sendable.readableFlowing;
  const reading = handle?.reading;
  if (flowing) sendable.pause();
  if (handle && reading) {
    handle.reading = false;
    handle.readStop?.();
  }
  return () => {
    if (sendable.destroyed) return;
    if (handle && reading) {
      handle.reading = true;
      handle.readStart?.();
    }
    if (flowing) sendable.resume();
  };
}

/**
 * Closes this process's side, once the other has it. Closing is not shutting down: the connection
 * goes on. A server stops accepting and cuts off nobody.
 *
 * @internal
 */
export function letGo(sendable: Sendable): void {
  if (typeof sendable === 'number') {
    // It was open a moment ago, and there is nothing that a caller could do.
    native.close(sendable);
    return;
  }
  if (sendable instanceof net.Server) {
    stop(sendable);
    return;
  }
  const object = sendable as { destroy?(): void; close?(): unknown };
  if (typeof object.destroy === 'function') {
    object.destroy();
  } else if (typeof object.close === 'function') {
    const closing = object.close();
    if (closing instanceof Promise) closing.catch(() => {});
  }
}
