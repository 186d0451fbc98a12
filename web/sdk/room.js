// The room as a page sees it: options, events, and what connects the parts.

/** @import { Batch, Comment, Post, RoomEvents, RoomOptions, RoomState, RoomStats, SyncSource, TransportName } from './index.js' */
/** @import { Open } from './transport.js' */

import { Address } from './address.js';
import { Connection } from './connection.js';
import { encodings } from './decoder.js';
import { Emitter } from './emitter.js';
import { DanmakuError, networkError, refusal } from './errors.js';
import { Feed } from './feed.js';
import { Lag } from './lag.js';
import { Likes } from './likes.js';
import { Pacer } from './pacer.js';
import { Posts } from './posts.js';
import { Timeline, timeOnScreen } from './timeline.js';
import { openWebSocket } from './websocket_transport.js';

export class DanmakuRoom {
  /** @type {string} */
  room;
  viewers = 0;
  likes = 0;
  /** @type {RoomState} */
  #state = 'closed';
  #wasJoined = false;
  #options;
  #clock;
  #address;
  /** @type {Emitter<RoomEvents>} */
  #emitter = new Emitter();
  #connection;
  #feed;
  #posts;
  #likes;
  #pacer;
  /** @type {Timeline | null} */
  #timeline = null;
  #lag = new Lag();
  #heardAt = 0;
  #stats = { bytes: 0, frames: 0, comments: 0, reconnects: 0, stale: 0 };
  /** @type {number | null} */
  #latencyMs = null;
  /** Messages behind a batch that waits for an acknowledgement. @type {Array<[any, number]> | null} */
  #held = null;
  /** @type {unknown} */
  #holdTimer = null;

  /**
   * @param {string | URL} url
   * @param {string} room
   * @param {RoomOptions} [options]
   */
  constructor(url, room, options = {}) {
    this.#options = withDefaults(options);
    const { clock } = this.#options;
    this.#clock = clock;
    this.room = room;
    this.#address = new Address(url, room);
    this.#feed = new Feed({
      batch: (batch, windowMs, resumed) => this.#batch(batch, windowMs, resumed),
      retract: (ids) => this.#retract(ids),
      clear: () => this.#clear(),
      gap: (gap) => this.#emitter.emit('gap', gap),
      viewers: (count) => this.#setViewers(count),
      likes: (count) => this.#addLikes(count),
    });
    this.#posts = new Posts({
      clock,
      kind: () => this.#route(),
      send: (message) => this.#connection.link?.send?.(message),
      request: (path, body, headers, signal) => this.#request(path, body, headers, signal),
      silent: () => this.#connection.lose(networkError('a post was not answered')),
      epoch: () => this.#feed.position?.epoch ?? 0,
    });
    this.#likes = new Likes(clock, (count) => this.#sendLikes(count));
    this.#pacer = new Pacer(clock, this.#options, this.#outlet);
    this.#connection = new Connection(this.#settings(), {
      message: (message, bytes) => this.#receive(message, bytes),
      state: (change) => this.#changed(change),
    });
    if (this.#options.autoConnect) this.connect();
  }

  get state() {
    return this.#state;
  }

  get transport() {
    return this.#connection.transport;
  }

  get encoding() {
    return this.#connection.link?.encoding ?? null;
  }

  get position() {
    return this.#feed.position;
  }

  /** @returns {RoomStats} */
  get stats() {
    return { ...this.#stats, latencyMs: this.#latencyMs, ackMs: this.#posts.ackMs };
  }

  /**
   * @template {keyof RoomEvents} K
   * @param {K} type
   * @param {(detail: RoomEvents[K]) => void} listener
   */
  on(type, listener) {
    return this.#emitter.on(type, listener);
  }

  /**
   * @template {keyof RoomEvents} K
   * @param {K} type
   * @param {(detail: RoomEvents[K]) => void} listener
   */
  once(type, listener) {
    const off = this.on(type, (detail) => {
      off();
      listener(detail);
    });
    return off;
  }

  /**
   * @template {keyof RoomEvents} K
   * @param {K} type
   * @param {(detail: RoomEvents[K]) => void} listener
   */
  off(type, listener) {
    this.#emitter.off(type, listener);
  }

  connect() {
    if (this.#state === 'closed') this.#connection.start();
  }

  /** @param {string | Post} comment */
  post(comment) {
    if (this.#state === 'closed') return Promise.reject(new DanmakuError('closed', 'the room is closed'));
    const { user, name } = this.#options;
    return this.#posts.post({ user, name, ...(typeof comment === 'string' ? { text: comment } : comment) });
  }

  like(count = 1) {
    if (this.#state !== 'closed') this.#likes.add(count);
  }

  /** @param {SyncSource} source */
  syncTo(source) {
    const serverNow = () => this.#clock.now() - (this.#lag.ms ?? 0);
    const time = source === null ? null : timeOnScreen(source, serverNow);
    const waiting = [...this.#pacer.clear(), ...(this.#timeline?.clear() ?? [])];
    this.#timeline = time && new Timeline(this.#clock, this.#options, this.#outlet, time);
    if (this.#timeline) this.#timeline.add(waiting);
    else this.#pacer.add(waiting, 0);
  }

  close() {
    if (this.#state !== 'closed') this.#connection.close();
  }

  /** @type {import('./pacer.js').Outlet} */
  #outlet = {
    show: (comment) => this.#emitter.emit('comment', comment),
    drop: (count) => {
      this.#stats.stale += count;
      this.#emitter.emit('stale', { count });
    },
  };

  /** @returns {import('./connection.js').Settings} */
  #settings() {
    const { transports, token, clock, encoding, history, WebSocket, fetch } = this.#options;
    /** @type {Map<TransportName, Open>} */
    const usable = new Map();
    for (const name of transports) {
      const open = OPEN[name];
      if (open && (name !== 'websocket' || WebSocket)) usable.set(name, open);
    }
    if (usable.size === 0) throw new TypeError('no transport that this runtime has');
    return {
      transports: usable,
      token,
      clock,
      request: () => ({
        address: this.#address,
        position: this.#feed.position,
        heardAt: this.#heardAt,
        history,
        encoding,
        clock,
        WebSocket,
        fetch,
      }),
    };
  }

  /** @param {Parameters<import('./connection.js').Owner['state']>[0]} change */
  #changed({ state, ...details }) {
    const previous = this.#state;
    this.#state = state === 'connecting' && this.#wasJoined ? 'reconnecting' : state;
    if (state !== 'joined') this.#posts.unsent();
    if (previous === 'joined' && state === 'connecting') this.#stats.reconnects += 1;
    if (state === 'joined') this.#wasJoined = true;
    if (state === 'closed') this.#end();
    this.#emitter.emit('state', { state: this.#state, previous, transport: this.transport, ...details });
    if (details.error) this.#emitter.emit('error', details.error);
    if (this.#state === 'joined') {
      this.#posts.flush();
      this.#likes.flush();
    }
  }

  #end() {
    this.#clock.clearTimeout(this.#holdTimer);
    this.#held = null;
    this.#wasJoined = false;
    this.#posts.close();
    this.#likes.close();
    this.#pacer.clear();
    this.#timeline?.clear();
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  #receive(message, bytes) {
    this.#heardAt = this.#clock.now();
    this.#stats.frames += 1;
    this.#stats.bytes += bytes;
    if (message.type === 'ack' || message.type === 'error') this.#answer(message);
    else this.#takeTurn(message, bytes);
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  #takeTurn(message, bytes) {
    if (this.#held) this.#held.push([message, bytes]);
    else this.#applyOrHold(message, bytes);
  }

  /** @param {any} message */
  #answer(message) {
    if (message.ref !== undefined) {
      this.#posts.answer(message);
      if (this.#held) this.#release();
    } else {
      // Likes have no `ref`.
      const error = refusal(message);
      if (error.retryAfterMs) this.#likes.pause(error.retryAfterMs);
      this.#emitter.emit('error', error);
    }
  }

  /**
   * A batch may arrive just before the acknowledgement that says which of its comments is ours.
   *
   * @param {any} message
   * @param {number} bytes
   */
  #applyOrHold(message, bytes) {
    const until = message.type === 'batch' ? this.#posts.holdUntil(message.comments ?? []) : 0;
    if (until === 0) return this.#apply(message, bytes);
    this.#held = [[message, bytes]];
    this.#holdTimer = this.#clock.setTimeout(() => this.#release(), until - this.#clock.now());
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  #apply(message, bytes) {
    try {
      this.#feed.apply(message, bytes);
    } catch (cause) {
      this.#connection.lose(new DanmakuError('corrupted_frame', String(cause), { cause }));
    }
  }

  #release() {
    this.#clock.clearTimeout(this.#holdTimer);
    const held = this.#held;
    this.#held = null;
    for (const [message, bytes] of held ?? []) this.#takeTurn(message, bytes);
  }

  /**
   * @param {Batch} batch
   * @param {number} windowMs
   * @param {boolean} resumed
   */
  #batch(batch, windowMs, resumed) {
    const { comments, replay, ts } = batch;
    const now = this.#clock.now();
    for (const comment of comments) comment.own = this.#posts.isOwn(comment);
    if (!replay) {
      this.#latencyMs = now - ts;
      this.#lag.add(now - ts);
    }
    this.#stats.comments += comments.length;
    this.#emitter.emit('batch', batch);
    if (comments.length === 0) return;
    this.#emitter.emit('comments', comments);
    if (this.#timeline) this.#timeline.add(comments);
    // History was asked for, however old it is; what was missed meanwhile is not.
    else if (replay && !resumed) comments.forEach(this.#outlet.show);
    else this.#handOut(comments, windowMs, now);
  }

  /**
   * @param {Comment[]} comments
   * @param {number} windowMs
   * @param {number} now
   */
  #handOut(comments, windowMs, now) {
    const { staleMs, paced } = this.#options;
    const oldest = now - (this.#lag.ms ?? Infinity) - staleMs;
    const fresh = comments.filter(({ ts }) => ts >= oldest);
    if (fresh.length < comments.length) this.#outlet.drop(comments.length - fresh.length);
    if (paced) this.#pacer.add(fresh, windowMs);
    else fresh.forEach(this.#outlet.show);
  }

  /** @param {number[]} ids */
  #retract(ids) {
    const set = new Set(ids);
    this.#pacer.retract(set);
    this.#timeline?.retract(set);
    this.#emitter.emit('retract', { ids });
  }

  #clear() {
    this.#pacer.clear();
    this.#timeline?.clear();
    this.#emitter.emit('clear', {});
  }

  /** @param {number} count */
  #setViewers(count) {
    if (!(count >= 0) || count === this.viewers) return;
    this.viewers = count;
    this.#emitter.emit('viewers', count);
  }

  /** @param {number} count */
  #addLikes(count) {
    this.likes += count;
    this.#emitter.emit('likes', { count, total: this.likes });
  }

  #route() {
    const { link } = this.#connection;
    if (!link) return null;
    return link.send ? 'websocket' : 'http';
  }

  /** @param {number} count */
  #sendLikes(count) {
    const route = this.#route();
    if (route === 'websocket') this.#connection.link?.send?.({ type: 'like', count });
    return route !== null;
  }

  /**
   * @param {string} path
   * @param {object} body
   * @param {Record<string, string>} headers
   * @param {AbortSignal} signal
   */
  async #request(path, body, headers, signal) {
    const { token, fetch } = this.#options;
    const word = typeof token === 'function' ? await token() : token;
    /** @type {Record<string, string>} */
    const all = { 'Content-Type': 'application/json', ...headers };
    if (word) all.Authorization = `Bearer ${word}`;
    return fetch(this.#address.http(path), { method: 'POST', body: JSON.stringify(body), headers: all, signal });
  }
}

/** @param {RoomOptions} options */
function withDefaults({ encoding = 'auto', ...options }) {
  return {
    history: 50,
    transports: /** @type {TransportName[]} */ (['websocket', 'sse', 'pull']),
    paced: true,
    pendingMax: 500,
    staleMs: 10_000,
    autoConnect: true,
    WebSocket: globalThis.WebSocket,
    // Browsers insist on `this` being the window.
    fetch: /** @type {typeof fetch} */ ((url, init) => globalThis.fetch(url, init)),
    clock: systemClock,
    ...options,
    encoding: encoding === 'auto' ? encodings()[0] : encoding,
  };
}

const systemClock = {
  now: () => Date.now(),
  setTimeout: (/** @type {() => void} */ callback, /** @type {number} */ ms) => setTimeout(callback, ms),
  clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
};

/** @type {Partial<Record<TransportName, Open>>} */
const OPEN = { websocket: openWebSocket };
