// Keeps a room connected: chooses a transport, reconnects, falls back where WebSockets are blocked and returns to them.

/** @import { TransportName } from './index.js' */
/** @import { Clock } from './clock.js' */
/** @import { DanmakuError } from './errors.js' */
/** @import { Http } from './http.js' */
/** @import { Link, Listener } from './transport.js' */

import { backoffMs } from './backoff.js';
import { networkError } from './errors.js';

/** @typedef {{index: number, name: TransportName, link?: Link}} Dialed */

/**
 * @typedef {object} Change
 * @property {'connecting' | 'joined' | 'closed'} state
 * @property {number} attempt
 * @property {number} [retryInMs]
 * @property {DanmakuError} [error]
 */

/**
 * @param {object} options
 * @param {TransportName[]} options.names in the order to try them
 * @param {(name: TransportName, listener: Listener) => Link} options.open
 * @param {Http} options.http
 * @param {Clock} options.clock
 * @param {(message: any, bytes: number) => void} options.take
 * @param {(change: Change) => void} options.changed
 */
export function createConnection({ names, open, http, clock, take, changed }) {
  /** The link of a joined room. @type {Dialed | null} */
  let current = null;
  /** The one being tried: alone, or as a way back to the WebSocket. @type {Dialed | null} */
  let next = null;
  /** Until the next attempt begins, or has to have joined. */
  const timer = clock.timer();
  let attempt = 0;
  let joinedAt = 0;
  let preferred = 0;
  let webSocketWorked = false;
  /** @type {number | undefined} */
  let askedMs;

  /**
   * @param {Change['state']} state
   * @param {Pick<Change, 'retryInMs' | 'error'>} [details]
   */
  const tell = (state, details) => changed({ state, attempt, ...details });

  function start() {
    tell('connecting');
    dial(preferred);
  }

  /** @param {number} index */
  function dial(index) {
    /** @type {Dialed} */
    const one = { index, name: names[index] };
    next = one;
    timer.set(JOIN_MS_MAX, () => ended(one, networkError('no answer in time')));
    one.link = open(one.name, {
      message: (message, bytes) => received(one, message, bytes),
      end: (error) => ended(one, error),
    });
  }

  /**
   * @param {Dialed} one
   * @param {any} message
   * @param {number} bytes
   */
  function received(one, message, bytes) {
    const isJoined = one === next && message.type === 'joined';
    if (isJoined) use(one);
    if (one !== current) return;
    if (message.type === 'closing') askedMs = message.reconnect_after_ms;
    take(message, bytes);
    // Not if a listener has closed the room meanwhile.
    if (isJoined && one === current) tell('joined');
  }

  /** @param {Dialed} one */
  function use(one) {
    current?.link?.close();
    current = one;
    next = null;
    timer.clear();
    joinedAt = clock.now();
    preferred = one.index;
    if (one.name === 'websocket') webSocketWorked = true;
    else tryWebSocketLater();
  }

  function tryWebSocketLater() {
    const index = names.indexOf('websocket');
    if (index >= 0) timer.set(TRIAL_MS * (0.5 + Math.random()), () => dial(index));
  }

  /**
   * @param {Dialed} one
   * @param {DanmakuError} error
   */
  function ended(one, error) {
    one.link?.close();
    if (one === current) {
      hangUp();
      // A room that is lost again and again at once is not a success.
      if (clock.now() - joinedAt > STABLE_MS) attempt = 0;
      settle(error);
    } else if (one === next && current) {
      next = null;
      tryWebSocketLater();
    } else if (one === next) {
      timer.clear();
      if (error.code === 'network' && !error.status) unreachable(one, error);
      else settle(error);
    }
  }

  /**
   * A transport failed without a word from the server: is it blocked, or is the server down?
   *
   * @param {Dialed} one
   * @param {DanmakuError} error
   */
  async function unreachable(one, error) {
    let isBlocked = true;
    if (one.name === 'websocket') {
      // A browser hides the response to an upgrade, so the same URL is requested without one. 426 is the answer of
      // a server that would have taken it.
      const abort = new AbortController();
      one.link = { encoding: null, close: () => abort.abort() };
      const details = { abort, ms: ASK_MS_MAX, cache: /** @type {const} */ ('no-store') };
      const answer = await http.request('ws', details, async () => null).catch((refusal) => refusal);
      if (next !== one) return;
      if (answer?.status && answer.status !== 426) return settle(answer);
      isBlocked = !webSocketWorked || (answer?.status === 426 && attempt >= SURE_AFTER);
    }
    if (isBlocked && one.index + 1 < names.length) return dial(one.index + 1);
    preferred = 0;
    settle(error);
  }

  /** @param {DanmakuError} error */
  function settle(error) {
    const { status = 0 } = error;
    error.fatal ||= status >= 400 && status < 500 && !PASSING.has(status);
    if (error.fatal) return close(error);
    next = null;
    attempt += 1;
    const retryInMs = backoffMs(attempt, error.retryAfterMs ?? askedMs);
    askedMs = undefined;
    timer.set(retryInMs, start);
    tell('connecting', { retryInMs, error });
  }

  function hangUp() {
    timer.clear();
    current?.link?.close();
    next?.link?.close();
    current = next = null;
  }

  /** @param {DanmakuError} [error] */
  function close(error) {
    hangUp();
    tell('closed', error && { error });
  }

  return {
    start,
    close,
    link: () => current?.link ?? null,
    transport: () => (current ?? next)?.name ?? null,
    /**
     * Gives up a link that is broken or seems dead, and reconnects.
     *
     * @param {DanmakuError} error
     */
    lose: (error) => current && ended(current, error),
  };
}

/** 4xx that pass. */
const PASSING = new Set([408, 425, 429]);
const JOIN_MS_MAX = 15_000;
const ASK_MS_MAX = 5000;
const STABLE_MS = 10_000;
/** So many failures in a row until a WebSocket that has worked counts as blocked. */
const SURE_AFTER = 2;
const TRIAL_MS = 300_000;
