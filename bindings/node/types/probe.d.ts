import { type SendfdError } from './errors';
import { type Sendable } from './handle';
import { type Kind, type Path } from './native';
/** What a probe found. */
export interface Report {
    readonly pid: number;
    readonly sig: number;
    /** The path that a send would take now, `null` if there is none. */
    readonly chosen: Path | null;
    /** Each path, in the order in which they are tried, and why it does not lead there. */
    readonly paths: readonly {
        readonly path: Path;
        readonly error: SendfdError | null;
    }[];
}
/**
 * Tries each path to process `pid` at `sig`, sending nothing. Does not block and leaves nothing
 * open. That a path does not lead there is part of the report; throws `EINVAL`, `ESRCH`, `EMFILE`,
 * `ENFILE` or `ENOMEM`.
 */
export declare function probe(pid: number, sig: number): Report;
/**
 * Tries each path from this process to itself: what this machine, with its kernel and sandbox, offers
 * at all. Opens a receiver at a free signal meanwhile. Throws `EADDRINUSE` if this process listens at
 * every signal, `EMFILE`, `ENFILE` or `ENOMEM`.
 */
export declare function probeSelf(): Report;
/** Asks what a descriptor refers to. Does not block and changes nothing. Throws `EBADF`. */
export declare function detect(fd: Sendable): Kind;
