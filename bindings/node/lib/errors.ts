// Errors as Node makes them.

import { getSystemErrorName, inspect } from 'node:util';
import type { Failure } from './native';

/** What a send, a receiver or a probe fails with. */
export interface SendfdError extends Error {
  /** The name of the errno, such as `ECONNREFUSED`. */
  code: string;
  /** The errno, negative. */
  errno: number;
  syscall: 'sendfd';
  /** What can be done about it, where there is something. */
  hint?: string;
}

// Those that libuv has no name or another name for.
const names = new Map([
  [-95, 'EOPNOTSUPP'],
  [-108, 'ESHUTDOWN'],
  [-109, 'ETOOMANYREFS'],
]);

/** @internal */
export const EPERM = -1;
/** @internal */
export const ESRCH = -3;
/** @internal */
export const EAGAIN = -11;
/** @internal */
export const EBADF = -9;
/** @internal */
export const EINTR = -4;
/** @internal */
export const EINVAL = -22;
/** @internal */
export const EOPNOTSUPP = -95;
/** @internal */
export const ESHUTDOWN = -108;
/** @internal */
export const ETOOMANYREFS = -109;
/** @internal */
export const ETIMEDOUT = -110;
/** @internal */
export const ECONNREFUSED = -111;

// ENOMEM, ENFILE, EMFILE, ENOBUFS
const PASSING = [-12, -23, -24, -105];

/**
 * Whether receiving can go on later, with nothing lost.
 *
 * @internal
 */
export function mayPassReceiving({ errno }: SendfdError): boolean {
  return PASSING.includes(errno);
}

/** @internal */
export function systemError(failure: Failure): SendfdError {
  const { errno, message, hint } = failure;
  const code = names.get(errno) ?? getSystemErrorName(errno);
  const error = new Error(`${code}: ${message}`);
  const properties = { code, errno, syscall: 'sendfd' as const };
  return Object.assign(error, properties, hint === undefined ? {} : { hint });
}

/** @internal */
export function badDescriptor(message: string): SendfdError {
  return systemError({ errno: EBADF, message });
}

/** @internal */
export function invalidType(name: string, expected: string, value: unknown): TypeError {
  const message = `The "${name}" argument must be ${expected}. Received ${describe(value)}`;
  return withCode(new TypeError(message), 'ERR_INVALID_ARG_TYPE');
}

/** @internal */
export function invalidValue(name: string, reason: string): TypeError {
  return withCode(new TypeError(`The "${name}" argument ${reason}`), 'ERR_INVALID_ARG_VALUE');
}

/** @internal */
export function outOfRange(name: string, range: string, value: unknown): RangeError {
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${inspect(value)}`;
  return withCode(new RangeError(message), 'ERR_OUT_OF_RANGE');
}

/** @internal */
export function withCode<E extends Error>(error: E, code: string): E & { code: string } {
  return Object.assign(error, { code });
}

/** @internal */
export function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  return withCode(error, 'ABORT_ERR');
}

function describe(value: unknown): string {
  if (value == null) return String(value);
  if (typeof value === 'function') return `function ${value.name}`;
  if (typeof value === 'object') {
    const name = value.constructor?.name;
    return name ? `an instance of ${name}` : inspect(value, { depth: -1 });
  }
  return `type ${typeof value} (${inspect(value)})`;
}

/** @internal */
export function checkInt32(
  name: string,
  value: unknown,
  least = -0x80000000,
): asserts value is number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value);
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value);
  if (value < least || value > 0x7fffffff) {
    throw outOfRange(name, `>= ${least} && <= 2147483647`, value);
  }
}

/** @internal */
export function checkObject(name: string, value: unknown): asserts value is object {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidType(name, 'of type object', value);
  }
}
