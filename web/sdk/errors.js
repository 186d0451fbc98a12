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
export const networkError = (message, cause) => new DanmakuError('network', message, { cause });

/** @param {unknown} cause whatever was thrown */
export function asDanmakuError(cause) {
  if (cause instanceof DanmakuError) return cause;
  return new DanmakuError(cause instanceof SyntaxError ? 'corrupted_frame' : 'network', `${cause}`, { cause });
}

/**
 * What a close code means (PROTOCOL.md, "Close codes"). Unknown codes are worth another attempt.
 *
 * @param {number} code
 * @param {string} reason
 * @param {boolean} [reconnect] the server's word on it, where it has said one
 */
export function closeError(code, reason, reconnect) {
  const name = CLOSE_NAMES[code] ?? 'network';
  const fatal = reconnect === undefined ? FINAL.has(code) : !reconnect;
  return new DanmakuError(name, `the connection was closed: ${reason || code}`, { fatal });
}

/**
 * The refusal in an `error` message or in the body of an HTTP error.
 *
 * @param {{code?: unknown, message?: unknown, field?: string, retry_after_ms?: number}} error
 * @param {number} [status]
 */
export function refusal({ code, message, field, retry_after_ms: retryAfterMs }, status) {
  return new DanmakuError(`${code}`, `${message ?? code}`, { field, retryAfterMs, status });
}

/**
 * The refusal in an HTTP response. A proxy's own error has no code of ours and counts as `network`.
 *
 * @param {Response} response
 */
export async function responseError(response) {
  const { status, headers } = response;
  const code = status === 401 ? 'unauthorized' : 'network';
  const body = await response.json().catch(() => null);
  const seconds = Number(headers.get('retry-after') ?? NaN);
  const retry_after_ms = seconds >= 0 ? seconds * 1000 : undefined;
  return refusal({ code, message: `the server answered ${status}`, retry_after_ms, ...body?.error }, status);
}

/** @type {Record<number, string>} */
const CLOSE_NAMES = {
  1000: 'normal',
  1001: 'going_away',
  1002: 'protocol_error',
  1003: 'unsupported',
  1007: 'invalid_data',
  1009: 'too_big',
  4001: 'slow_consumer',
  4002: 'idle_timeout',
  4003: 'new_epoch',
  4004: 'flooding',
};
const FINAL = new Set([1000, 1002, 1003, 1007, 1009, 4004]);
