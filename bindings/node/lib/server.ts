// Servers that listen without having been told an address, and how they stop.

import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { systemError, withCode } from './errors';

/**
 * The object below a listening `net.Server` that brings its connections. Node sets `onconnection`,
 * and itself puts one of its own making there in workers of `cluster`.
 *
 * @internal
 */
export interface Listening {
  onconnection?(status: number, connection: object): void;
  listen(backlog: number): number;
  close(): void;
  ref(): void;
  unref(): void;
}

interface ServerInternals {
  _handle: Listening | null;
  _listen2?(address: null, port: number, type: number, backlog: number, fd: number): void;
}

interface NetInternals {
  _createServerHandle?(address: null, port: null, type: null, fd: number): Listening | number;
}

const { bun, deno } = process.versions as Record<string, string | undefined>;

/** Whether this is Node, whose servers have the parts that are used here. */
const isNode = !bun && !deno;

const BACKLOG = 511;

/** @internal */
export function checkServer(server: net.Server): void {
  if (!server.listening) return;
  const message = 'The server listens already; close it, or give another';
  throw withCode(new Error(message), 'ERR_SERVER_ALREADY_LISTEN');
}

/**
 * Has `server` listen on the socket `fd`, which is the server's from now on.
 *
 * Not by `server.listen({ fd })`: in a worker of `cluster` that would ask the primary for the number
 * in the primary's own table.
 *
 * @internal
 */
export function listenOn(server: net.Server, fd: number): void {
  if (!isNode) {
    server.listen({ fd, exclusive: true });
    return;
  }
  const handle = (net as NetInternals)._createServerHandle?.(null, null, null, fd);
  if (typeof handle !== 'object') {
    const message = `cannot listen on descriptor ${fd}`;
    throw systemError({ errno: handle ?? -95, message });
  }
  listen(server, handle);
}

/**
 * Has `server` take its connections from `handle`, as `server.listen()` does once it has one.
 *
 * @internal
 */
export function listen(server: net.Server, handle: Listening): void {
  const internals = server as unknown as ServerInternals;
  if (!isNode || internals._listen2 === undefined) {
    const message =
      'cannot serve here: the servers of this runtime take no connections from outside';
    throw systemError({ errno: -95, message });
  }
  internals._handle = handle;
  internals._listen2(null, -1, -1, BACKLOG, -1);
}

/** The responses of these servers already say that the connection ends with them. */
const ending = new WeakSet<net.Server>();

/**
 * Has each connection of a server of HTTP end with its next response. Those of others go on.
 *
 * @internal
 */
export function endWithResponses(server: net.Server): void {
  if (!(server instanceof http.Server || server instanceof https.Server)) return;
  if (ending.has(server)) return;
  ending.add(server);
  const last = (_request: unknown, response: http.ServerResponse) => {
    response.shouldKeepAlive = false;
  };
  const events = ['request', 'checkContinue', 'checkExpectation'].filter(
    (event) => event === 'request' || server.listenerCount(event) > 0,
  );
  const emitter: net.Server = server;
  for (const event of events) emitter.prependListener(event, last);
  // It may listen again, and then it keeps connections again.
  emitter.once('listening', () => {
    ending.delete(server);
    for (const event of events) emitter.off(event, last);
  });
}

/**
 * Stops a server from accepting and cuts off nobody. Its own `close()` would end the idle
 * connections of HTTP, on which the next request may be under way. Here each ends with its next
 * response, or when its time is out; the server's timeouts go on to hold for all of them.
 *
 * @internal
 */
export function leave(server: net.Server): void {
  endWithResponses(server);
  net.Server.prototype.close.call(server);
}
