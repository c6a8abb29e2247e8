// A server whose connections a receiver brings.

import type { ServerHttp2Session } from 'node:http2';
import type net from 'node:net';
import { withCode } from './errors';
import type { Message } from './message';
import type { Receiver } from './receiver';
import { checkServer, endWithResponses, type Listening, leave, listen } from './server';

/** How a server is served. */
export interface ServeOptions {
  /**
   * Called with each message that brings no connection, or several descriptors, and owns it. Without
   * it, they are closed, with a `SendfdWarning`.
   */
  other?: ((message: Message) => void) | undefined;
}

/**
 * Gives each connection that arrives to `server`, in the way in which Node gives it those that it
 * accepts: so all its options, limits and timeouts hold, and it counts them as its own.
 *
 * @internal
 */
export function serve(receiver: Receiver, server: net.Server, options: ServeOptions): void {
  checkServer(server);
  const { other = refuse } = options;
  const sessions = new Set<ServerHttp2Session>();
  const watch = (session: ServerHttp2Session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  };
  // Not before 'listening', with which HTTP's watch over slow clients begins.
  const start = () => receiver.on('message', take);
  const counting = server as unknown as { _connections: number; _emitCloseIfDrained(): void };
  let queue = 0;
  let ended = false;
  const handle: Listening = {
    listen: () => 0,
    ref: () => void receiver.ref(),
    unref: () => void receiver.unref(),
    // The server was closed: senders are refused, and what they have sent already is still served.
    // Until it is there, the queue counts as one connection more, so that 'close' waits for it.
    close() {
      if (ended) return;
      queue = 1;
      counting._connections += queue;
      server.off('listening', start);
      if (receiver.listeners('message').indexOf(take) < 0) start();
      receiver.retire();
    },
  };
  const take = (message: Message) => {
    const connection = message.fds.length === 1 ? message.connection() : null;
    if (connection === null) {
      other(message);
      return;
    }
    if (message.data.length === 0) {
      handle.onconnection?.(0, connection);
      return;
    }
    // What was read before it was sent comes first.
    const putBack = (socket: net.Socket) => socket.unshift(message.data);
    server.prependOnceListener('connection', putBack);
    try {
      handle.onconnection?.(0, connection);
    } finally {
      server.off('connection', putBack);
    }
  };
  listen(server, handle);
  server.on('session', watch);
  server.once('listening', start);
  const end = () => endWithResponses(server);
  receiver.once('retire', end);
  receiver.once('close', () => {
    ended = true;
    receiver.off('retire', end);
    receiver.off('message', take);
    server.off('session', watch);
    if (queue > 0) {
      counting._connections -= queue;
      counting._emitCloseIfDrained();
    } else if (server.listening) {
      leave(server);
    }
    for (const session of sessions) session.close();
  });
}

function refuse(message: Message): void {
  const { pid, fds } = message;
  message.close();
  const text = `Process ${pid} sent ${fds.length === 1 ? 'something' : `${fds.length} descriptors`}, which is no connection to serve: closed`;
  const warning = withCode(new Error(text), 'SENDFD_NO_CONNECTION');
  warning.name = 'SendfdWarning';
  process.emitWarning(warning);
}
