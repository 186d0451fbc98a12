// Keeps a room connected: chooses a transport, reconnects, falls back where WebSockets are blocked and returns to them.

/** @import { Clock, Encoding, TransportName } from './index.js' */
/** @import { Link, Open, Request } from './transport.js' */

import { backoffMs } from './backoff.js';
import { DanmakuError, networkError, responseError } from './errors.js';

/**
 * @typedef {object} Settings
 * @property {Map<TransportName, Open>} transports in the order to try them
 * @property {() => Omit<Request, 'token'>} request
 * @property {undefined | string | (() => string | Promise<string>)} token
 * @property {Clock} clock
 */

/**
 * @typedef {object} Owner
 * @property {(message: any, bytes: number) => void} message
 * @property {(change: {state: 'connecting' | 'joined' | 'closed', attempt: number, retryInMs?: number, error?: DanmakuError}) => void} state
 */

/** @typedef {{link: Link | null, name: TransportName, index: number}} Try a link and what it is, while it lasts */

export class Connection {
  #settings;
  #clock;
  #owner;
  /** What is being tried or in use. @type {Try | null} */
  #current = null;
  #joined = false;
  #joinedAt = 0;
  #attempt = 0;
  /** The transport that worked last: the first to try again. */
  #preferred = 0;
  #webSocketWorked = false;
  /** The time the server asked for before it closed. @type {number | undefined} */
  #askedMs;
  /** For the next attempt, or for joining. @type {unknown} */
  #timer = null;
  /** A WebSocket tried while a fallback is in use. @type {Try | null} */
  #trial = null;
  /** @type {unknown} */
  #trialTimer = null;

  /**
   * @param {Settings} settings
   * @param {Owner} owner
   */
  constructor(settings, owner) {
    this.#settings = settings;
    this.#clock = settings.clock;
    this.#owner = owner;
  }

  /** The link of a joined room. */
  get link() {
    return this.#joined ? (this.#current?.link ?? null) : null;
  }

  get transport() {
    return this.#current?.name ?? null;
  }

  start() {
    this.#owner.state({ state: 'connecting', attempt: this.#attempt });
    this.#dial(this.#preferred);
  }

  /** @param {DanmakuError} [error] */
  close(error) {
    this.#stop();
    this.#owner.state({ state: 'closed', attempt: this.#attempt, error });
  }

  /**
   * Gives up a link that seems dead, and reconnects.
   *
   * @param {DanmakuError} error
   */
  lose(error) {
    if (this.#current) this.#ended(this.#current, error);
  }

  #stop() {
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#trialTimer);
    this.#current?.link?.close();
    this.#trial?.link?.close();
    this.#current = this.#trial = null;
    this.#joined = false;
  }

  /** @param {number} index of the transport */
  async #dial(index) {
    const attempt = this.#newTry(index);
    this.#current = attempt;
    this.#timer = this.#clock.setTimeout(
      () => this.#ended(attempt, networkError('the server did not answer in time')),
      JOIN_MS_MAX,
    );
    await this.#open(attempt);
  }

  /** @param {number} index @returns {Try} */
  #newTry(index) {
    return { link: null, index, name: [...this.#settings.transports.keys()][index] };
  }

  /** @param {Try} attempt */
  async #open(attempt) {
    try {
      const { token, transports } = this.#settings;
      const word = typeof token === 'function' ? await token() : token;
      if (attempt !== this.#current && attempt !== this.#trial) return;
      const open = /** @type {Open} */ (transports.get(attempt.name));
      attempt.link = open(
        { ...this.#settings.request(), token: word },
        {
          message: (message, bytes) => this.#message(attempt, message, bytes),
          end: (error) => this.#ended(attempt, error),
        },
      );
    } catch (error) {
      // The token function failed, or the page's own policy forbids the connection.
      this.#ended(attempt, networkError(String(error), error));
    }
  }

  /**
   * @param {Try} attempt
   * @param {any} message
   * @param {number} bytes
   */
  #message(attempt, message, bytes) {
    if (message.type === 'joined') {
      if (attempt === this.#trial) this.#switchTo(attempt);
      if (attempt === this.#current) this.#hasJoined(attempt);
    }
    if (attempt !== this.#current) return;
    if (message.type === 'closing') this.#askedMs = message.reconnect_after_ms;
    this.#owner.message(message, bytes);
  }

  /** @param {Try} attempt */
  #hasJoined({ index, name }) {
    this.#clock.clearTimeout(this.#timer);
    this.#joined = true;
    this.#joinedAt = this.#clock.now();
    this.#askedMs = undefined;
    this.#preferred = index;
    if (name === 'websocket') this.#webSocketWorked = true;
    else this.#tryWebSocketLater();
    this.#owner.state({ state: 'joined', attempt: this.#attempt });
  }

  /**
   * @param {Try} attempt
   * @param {DanmakuError} error
   */
  #ended(attempt, error) {
    attempt.link?.close();
    if (attempt === this.#trial) {
      this.#trial = null;
      this.#tryWebSocketLater();
    }
    if (attempt !== this.#current) return;
    const wasJoined = this.#joined;
    this.#stop();
    if (wasJoined || error.code !== 'network' || error.status) {
      // A room that is lost again and again at once is not a success.
      if (wasJoined && this.#clock.now() - this.#joinedAt > STABLE_MS) this.#attempt = 0;
      this.#settle(error);
    } else {
      this.#unreachable(attempt, error);
    }
  }

  /**
   * A transport failed before it joined, without a word from the server: is it blocked, or is the server down?
   *
   * @param {Try} attempt
   * @param {DanmakuError} error
   */
  async #unreachable(attempt, error) {
    const { name, index } = attempt;
    let isBlocked = true;
    if (name === 'websocket') {
      this.#current = attempt;
      const answer = await this.#askWhy();
      if (this.#current !== attempt) return;
      this.#current = null;
      if (answer?.status && answer.status !== 426) return this.#settle(answer);
      isBlocked = !this.#webSocketWorked || (answer?.status === 426 && this.#attempt >= SURE_AFTER);
    }
    if (isBlocked && index + 1 < this.#settings.transports.size) return this.#dial(index + 1);
    this.#preferred = 0;
    this.#settle(error);
  }

  /**
   * A browser hides the response to a WebSocket's upgrade, so the same URL is requested without one: 426 is the answer
   * of a server that would have taken it.
   */
  async #askWhy() {
    const { address, fetch, clock } = this.#settings.request();
    const abort = new AbortController();
    const timer = clock.setTimeout(() => abort.abort(), ASK_MS_MAX);
    try {
      const response = await fetch(address.http('ws'), { signal: abort.signal, cache: 'no-store' });
      return await responseError(response);
    } catch {
      return null;
    } finally {
      clock.clearTimeout(timer);
    }
  }

  /** @param {DanmakuError} error */
  #settle(error) {
    if (isFinal(error, typeof this.#settings.token === 'function' && this.#attempt === 0)) {
      const { code, message, status, cause } = error;
      return this.close(new DanmakuError(code, message, { status, cause, fatal: true }));
    }
    this.#attempt += 1;
    const retryInMs = backoffMs(this.#attempt, error.retryAfterMs ?? this.#askedMs);
    this.#askedMs = undefined;
    this.#timer = this.#clock.setTimeout(() => this.start(), retryInMs);
    this.#owner.state({ state: 'connecting', attempt: this.#attempt, retryInMs, error });
  }

  #tryWebSocketLater() {
    const index = [...this.#settings.transports.keys()].indexOf('websocket');
    if (index < 0) return;
    this.#clock.clearTimeout(this.#trialTimer);
    this.#trialTimer = this.#clock.setTimeout(
      () => {
        this.#trial = this.#newTry(index);
        const trial = this.#trial;
        this.#trialTimer = this.#clock.setTimeout(
          () => this.#ended(trial, networkError('the server did not answer in time')),
          JOIN_MS_MAX,
        );
        this.#open(trial);
      },
      TRIAL_MS * (0.5 + Math.random()),
    );
  }

  /** @param {Try} trial a WebSocket that works after all */
  #switchTo(trial) {
    this.#clock.clearTimeout(this.#trialTimer);
    this.#current?.link?.close();
    this.#current = trial;
    this.#trial = null;
  }
}

/**
 * @param {DanmakuError} error
 * @param {boolean} hasNewToken another attempt would come with another token
 */
function isFinal({ code, fatal, status = 0 }, hasNewToken) {
  if (code === 'unauthorized') return !hasNewToken;
  return fatal || (status >= 400 && status < 500 && !PASSING.has(status));
}

const PASSING = new Set([408, 425, 429]);
const JOIN_MS_MAX = 15_000;
const ASK_MS_MAX = 5000;
const STABLE_MS = 10_000;
/** So many failures in a row until a WebSocket that has worked counts as blocked. */
const SURE_AFTER = 2;
const TRIAL_MS = 300_000;
