// How long to wait before the next attempt: exponential, with full jitter, so that the viewers of a server that
// comes back don't all arrive at once.

const FIRST_MS = 1000;
const LONGEST_MS = 30_000;
/** A server that asks for more patience than this is asked again anyway. */
const ASKED_LONGEST_MS = 600_000;

/**
 * @param {number} attempt failed attempts in a row, from 1
 * @param {number} [askedMs] the time that the server asked for; the jitter comes on top
 */
export function backoffMs(attempt, askedMs = 0) {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** (attempt - 1));
  return Math.round(Math.min(askedMs, ASKED_LONGEST_MS) + Math.random() * ceiling);
}
