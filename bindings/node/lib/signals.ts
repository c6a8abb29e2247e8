// Signal mode: each descriptor that is sent raises the real-time signal.

import { EINVAL, systemError } from './errors';
import { Receiver, SIGNAL_MODE } from './receiver';

const listening = new Map<number, Receiver>();

/**
 * Starts signal mode at `sig`: each descriptor that is sent to this process there raises the signal in
 * it. That is how a process has to listen for a kernel that has sendfd(2), whose senders come by
 * `syscall`; other senders reach it as well. Otherwise `new Receiver(sig)` is the better way: a signal has
 * no place for data, a tag or the sender's group, and costs a thread.
 *
 * The answer receives the signals, as a {@link Receiver} does messages: each brings one descriptor, and of
 * its sender `pid` and `uid`; `gid` is 4294967295 and `path` is `null`, for a signal does not say them.
 * Several descriptors in one message come one by one, in order. A signal whose value is no open,
 * close-on-exec descriptor is ignored and counted in `dropped`. Nothing is lost where JavaScript does not
 * keep up: signals wait in the kernel, and senders find that there is no room.
 *
 * All threads of this process block the signal from then on, for good: those that run already are sent it
 * once. Blocks a few milliseconds for that. Throws `EINVAL` for what is no real-time signal, `EADDRINUSE` if this process listens there
 * already or something else in it handles the signal, and `EAGAIN`, `EMFILE`, `ENFILE`, `ENOMEM`.
 */
export function listen(sig: number): Receiver {
  const receiver = new Receiver(sig, SIGNAL_MODE);
  listening.set(sig, receiver);
  return receiver;
}

/**
 * Ends signal mode at `sig`, as closing what {@link listen} answered does: senders get `ECONNREFUSED`, and
 * what nobody took is closed. Waits a moment for the thread. Throws `EINVAL` if this thread did not
 * start it.
 */
export function unlisten(sig: number): void {
  const receiver = listening.get(sig);
  listening.delete(sig);
  if (receiver === undefined || receiver.closed) {
    const message = `cannot end signal mode at signal ${sig}: it was not started here`;
    throw systemError({ errno: EINVAL, message });
  }
  receiver.close();
}
