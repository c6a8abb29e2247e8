// What leads to a target, and what a descriptor is.

import { type SendfdError, systemError } from './errors';
import { fdOf, type Sendable } from './handle';
import { type Failure, type Kind, native, type Path, type Probed } from './native';
import { checkAddress } from './send';

/** What a probe found. */
export interface Report {
  readonly pid: number;
  readonly sig: number;
  /** The path that a send would take now, `null` if there is none. */
  readonly chosen: Path | null;
  /** Each path, in the order in which they are tried, and why it does not lead there. */
  readonly paths: readonly { readonly path: Path; readonly error: SendfdError | null }[];
}

/**
 * Tries each path to process `pid` at `sig`, sending nothing. Does not block and leaves nothing
 * open. That a path does not lead there is part of the report; throws `EINVAL`, `ESRCH`, `EMFILE`,
 * `ENFILE` or `ENOMEM`.
 */
export function probe(pid: number, sig: number): Report {
  checkAddress(pid, sig);
  return answer(native.probe(pid, sig));
}

/**
 * Tries each path from this process to itself: what this machine, with its kernel and sandbox, offers
 * at all. Opens a receiver at a free signal meanwhile. Throws `EADDRINUSE` if this process listens at
 * every signal, `EMFILE`, `ENFILE` or `ENOMEM`.
 */
export function probeSelf(): Report {
  return answer(native.probeSelf());
}

function answer(report: Probed | Failure): Report {
  if ('errno' in report) throw systemError(report);
  const { pid, sig } = report;
  const paths = report.paths.map(({ path, failure }) => ({
    path: path as Path,
    error: failure === undefined ? null : systemError(failure),
  }));
  return { pid, sig, chosen: (report.chosen as Path | undefined) ?? null, paths };
}

/** Asks what a descriptor refers to. Does not block and changes nothing. Throws `EBADF`. */
export function detect(fd: Sendable): Kind {
  const number = fdOf(fd);
  const kind = native.detect(number);
  if ('errno' in kind) throw systemError(kind);
  return kind as Kind;
}
