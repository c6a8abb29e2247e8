/**
 * Hand an open descriptor to another process, by pid.
 *
 * @packageDocumentation
 */

import { checkInt32, outOfRange } from './errors';
import { native } from './native';

export type { SendfdError } from './errors';
export type { Sendable } from './handle';
export { Message, type Which } from './message';
export type { Kind, Path } from './native';
export { detect, probe, probeSelf, type Report } from './probe';
export { Receiver, type ReceiverEvents, type ReceiverOptions } from './receiver';
export {
  type SendOptions,
  type SendSyncOptions,
  send,
  sendSync,
  Target,
  type TargetOptions,
  type TargetSyncOptions,
} from './send';
export type { ServeOptions } from './serve';
export { listen, unlisten } from './signals';
export {
  type OfferOptions,
  offerTakeover,
  type TakeOverOptions,
  Takeover,
  takeOver,
} from './takeover';
export { Targets } from './targets';

/**
 * The signal of port `n`, from 0 to 29: `SIGRTMAX - n`. Unlike `SIGRTMIN + n` it names the same signal
 * under glibc and musl.
 */
export function port(n: number): number {
  checkInt32('n', n);
  if (n < 0 || n > LAST_PORT) throw outOfRange('n', `>= 0 && <= ${LAST_PORT}`, n);
  return SIGRTMAX - n;
}

/** How many there are under both. */
const LAST_PORT = 29;

/** The first real-time signal, for which Node has no name. */
export const SIGRTMIN: number = native.rtmin();
/** The last real-time signal. */
export const SIGRTMAX: number = native.rtmax();
/** How many descriptors one message can carry. */
export const MAX_FDS: number = native.MAX_FDS;
/** How many bytes of data one message can carry. */
export const MAX_DATA: number = native.MAX_DATA;
/** The version of the library. */
export const version: string = native.version();
