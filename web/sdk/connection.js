// Keeps a room connected: chooses a transport, reconnects, falls back where WebSockets are blocked and returns to them.

/** @import { Clock, TransportName } from './index.js' */
/** @import { DanmakuError } from './errors.js' */
/** @import { Http } from './http.js' */
/** @import { Link, Listener } from './transport.js' */

import { asDanmakuError, networkError } from './errors.js';
import { createTimer } from './timer.js';

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
 * @param {TransportName[]} options.transports in the order to try them
 * @param {(name: TransportName) => Promise<(listener: Listener) => Link>} options.load
 * @param {Http} options.http
 * @param {Clock} options.clock
 * @param {(message: any, bytes: number) => void} options.take
 * @param {(change: Change) => void} options.changed
 */
export function createConnection({ transports: names, load, http, clock, take, changed }) {
  /** The link of a joined room. @type {Dialed | null} */
  let current = null;
  /** The one being tried: alone, or as a way back to the WebSocket. @type {Dialed | null} */
  let next = null;
  /** Until the next attempt begins, or has to have joined. */
  const timer = createTimer(clock);
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
    /** @param {unknown} cause */
    const end = (cause) => ended(one, asDanmakuError(cause));
    load(one.name)
      .then((open) => {
        if (next === one) one.link = open({ message: (message, bytes) => received(one, message, bytes), end });
      })
      .catch(end);
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
  async function unreachable({ index, name }, error) {
    let isBlocked = true;
    if (name === 'websocket') {
      // A browser hides the response to an upgrade, so the same URL is requested without one. 426 is the answer of
      // a server that would have taken it.
      const abort = new AbortController();
      const asking = (next = { index, name, link: { close: () => abort.abort() } });
      timer.set(ASK_MS_MAX, asking.link.close);
      const answer = await http.request('ws', { signal: abort.signal, cache: 'no-store' }).then(() => error, asDanmakuError);
      if (next !== asking) return;
      if (answer.status && answer.status !== 426) return settle(answer);
      isBlocked = !webSocketWorked || (answer.status === 426 && attempt >= SURE_AFTER);
    }
    if (isBlocked && index + 1 < names.length) return dial(index + 1);
    preferred = 0;
    settle(error);
  }

  /** @param {DanmakuError} error */
  function settle(error) {
    const { status = 0 } = error;
    // Timeouts and limits pass.
    error.fatal ||= status >= 400 && status < 500 && ![408, 429].includes(status);
    if (error.fatal) return close(error);
    next = null;
    attempt += 1;
    // With full jitter, so that the viewers of a server that comes back don't all arrive at once.
    const jitterMs = Math.random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** (attempt - 1));
    const retryInMs = Math.min(error.retryAfterMs ?? askedMs ?? 0, ASKED_MS_MAX) + jitterMs;
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
    tell('closed', { error });
  }

  return {
    /** Begins an attempt, unless one is under way or has joined. */
    start: () => current || next || start(),
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

const JOIN_MS_MAX = 15_000;
const ASK_MS_MAX = 5000;
const FIRST_MS = 1000;
const LONGEST_MS = 30_000;
/** A server that asks for more patience than this is asked again anyway. */
const ASKED_MS_MAX = 600_000;
const STABLE_MS = 10_000;
/** So many failures in a row until a WebSocket that has worked counts as blocked. */
const SURE_AFTER = 2;
const TRIAL_MS = 300_000;
