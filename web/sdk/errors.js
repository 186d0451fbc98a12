// What can go wrong, as one error type: refusals of the server, close codes, broken connections.

/** @import { ErrorDetails } from './index.js' */

export class DanmakuError extends Error {
  name = 'DanmakuError';
  /** @type {string | undefined} */
  field;
  /** @type {number | undefined} */
  retryAfterMs;
  /** @type {number | undefined} */
  status;
  fatal = false;

  /**
   * @param {string} code
   * @param {string} message
   * @param {ErrorDetails} [details]
   */
  constructor(code, message, details) {
    super(message);
    this.code = code;
    Object.assign(this, details);
  }
}

/**
 * A connection that failed without a word from the server.
 *
 * @param {string} message
 */
export const networkError = (message) => new DanmakuError('network', message);

/** @param {unknown} cause why a message cannot be read */
export const corruptedFrame = (cause) => new DanmakuError('corrupted_frame', `${cause}`, { cause });

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
export function closeError(code, reason, reconnect = !FINAL[code]) {
  const name = FINAL[code] ?? PASSING[code] ?? 'network';
  return new DanmakuError(name, `the connection was closed: ${reason || code}`, { fatal: !reconnect });
}

/**
 * The refusal in an `error` message or in the body of an HTTP error.
 *
 * @param {{code: string, message: string, field?: string, retry_after_ms?: number}} error
 * @param {number} [status]
 */
export function refusal({ code, message, field, retry_after_ms: retryAfterMs }, status) {
  return new DanmakuError(code, message, { field, retryAfterMs, status });
}

/** @type {Record<number, string>} */
const FINAL = {
  1000: 'normal',
  1002: 'protocol_error',
  1003: 'unsupported',
  1007: 'invalid_data',
  1009: 'too_big',
  4004: 'flooding',
  4005: 'unauthorized',
  4007: 'forbidden',
  4008: 'replaced',
  4009: 'too_many_connections',
};
/** @type {Record<number, string>} */
const PASSING = {
  1001: 'going_away',
  4001: 'slow_consumer',
  4002: 'idle_timeout',
  4003: 'new_epoch',
  4006: 'token_expired',
};
