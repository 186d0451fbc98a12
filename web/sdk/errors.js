// What can go wrong, as one error type: refusals of the server, close codes, broken connections.

/** @import { ErrorDetails } from './index.js' */

export class DanmakuError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {ErrorDetails} [details]
   */
  constructor(code, message, { field, retryAfterMs, status, fatal = false, cause } = {}) {
    super(message, { cause });
    this.name = 'DanmakuError';
    this.code = code;
    this.field = field;
    this.retryAfterMs = retryAfterMs;
    this.status = status;
    this.fatal = fatal;
  }
}

/**
 * A connection that failed without a word from the server.
 *
 * @param {string} message
 * @param {unknown} [cause]
 */
export function networkError(message, cause) {
  return new DanmakuError('network', message, { cause });
}

/**
 * What a close code means (PROTOCOL.md, "Close codes"). Unknown codes are worth another attempt.
 *
 * @param {number} code
 * @param {string} reason
 */
export function closeError(code, reason) {
  const name = CLOSE_NAMES.get(code);
  const message = `the server closed the connection: ${reason || name || code}`;
  if (!name) return networkError(message);
  return new DanmakuError(name, message, { fatal: !RECONNECT.has(code) });
}

/**
 * The refusal in an `error` message or in the body of an HTTP error.
 *
 * @param {{code?: unknown, message?: unknown, field?: string, retry_after_ms?: number}} error
 * @param {ErrorDetails} [details]
 */
export function refusal({ code, message, field, retry_after_ms: retryAfterMs }, details) {
  return new DanmakuError(String(code), String(message ?? code), { field, retryAfterMs, ...details });
}

/**
 * The refusal in an HTTP response. A proxy's own error has no code of ours and counts as `network`.
 *
 * @param {Response} response
 */
export async function responseError(response) {
  const { status } = response;
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {
    code: status === 401 ? 'unauthorized' : 'network',
    message: `the server answered ${status}`,
  };
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  const retryAfterMs = error.retry_after_ms ?? (seconds >= 0 ? seconds * 1000 : undefined);
  return refusal({ ...error, retry_after_ms: retryAfterMs }, { status });
}

const CLOSE_NAMES = new Map([
  [1000, 'normal'],
  [1001, 'going_away'],
  [1002, 'protocol_error'],
  [1003, 'unsupported'],
  [1007, 'invalid_data'],
  [1009, 'too_big'],
  [4001, 'slow_consumer'],
  [4002, 'idle_timeout'],
  [4003, 'new_epoch'],
  [4004, 'flooding'],
]);
const RECONNECT = new Set([1001, 4001, 4002, 4003]);
