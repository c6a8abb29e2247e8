/**
 * Hand an open descriptor to another process, by pid.
 *
 * @packageDocumentation
 */
export type { SendfdError } from './errors';
export type { Sendable } from './handle';
export { Message, type Which } from './message';
export type { Kind, Path } from './native';
export { detect, probe, probeSelf, type Report } from './probe';
export { Receiver, type ReceiverEvents, type ReceiverOptions } from './receiver';
export { type SendOptions, type SendSyncOptions, send, sendSync, Target, type TargetOptions, type TargetSyncOptions, } from './send';
export type { ServeOptions } from './serve';
export { listen, unlisten } from './signals';
export { type OfferOptions, offerTakeover, type TakeOverOptions, Takeover, takeOver, } from './takeover';
export { Targets } from './targets';
/**
 * The signal of port `n`, from 0 to 29: `SIGRTMAX - n`. Unlike `SIGRTMIN + n` it names the same signal
 * under glibc and musl.
 */
export declare function port(n: number): number;
/** The first real-time signal, for which Node has no name. */
export declare const SIGRTMIN: number;
/** The last real-time signal. */
export declare const SIGRTMAX: number;
/** How many descriptors one message can carry. */
export declare const MAX_FDS: number;
/** How many bytes of data one message can carry. */
export declare const MAX_DATA: number;
/** The version of the library. */
export declare const version: string;
