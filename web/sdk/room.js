// The room as a page sees it: what connects the parts.

/** @import { Batch, Clock, Comment, Post, RoomEvents, RoomOptions, RoomState, RoomStats, SyncSource, TransportName } from './index.js' */
/** @import { Change } from './connection.js' */
/** @import { Context } from './feed.js' */
/** @import { Open } from './transport.js' */

import { createClock } from './clock.js';
import { createConnection } from './connection.js';
import { bestEncoding } from './decoder.js';
import { Emitter } from './emitter.js';
import { DanmakuError, refusal } from './errors.js';
import { openEventStream } from './event-stream-transport.js';
import { createFeed } from './feed.js';
import { createHttp } from './http.js';
import { createLikes } from './likes.js';
import { createPlayout } from './playout.js';
import { createPosts } from './posts.js';
import { openPull } from './pull-transport.js';
import { openWebSocket } from './websocket-transport.js';

/** @extends {Emitter<RoomEvents>} */
export class DanmakuRoom extends Emitter {
  /** @type {RoomState} */
  state = 'closed';
  /** @type {RoomStats} */
  stats = { bytes: 0, frames: 0, comments: 0, reconnects: 0, stale: 0, latencyMs: null };
  #wasJoined = false;
  #author;
  #clock;
  #connection;
  #feed;
  #posts;
  #likes;
  #playout;
  /** Messages behind a batch that waits for an acknowledgement. @type {Array<[any, number]> | null} */
  #held = null;
  #hold;

  /**
   * @param {string | URL} url
   * @param {string} room
   * @param {RoomOptions} [options]
   */
  constructor(url, room, options = {}) {
    super();
    this.room = room;
    const settings = { ...DEFAULTS, WebSocket: globalThis.WebSocket, ...options };
    const { user, name, token, fetch, history, transports, WebSocket } = settings;
    const encoding = settings.encoding === 'auto' ? bestEncoding() : settings.encoding;
    const clock = (this.#clock = createClock(settings.clock));
    const http = createHttp({ url, room, token, clock, fetch });
    this.#author = { user, name };
    this.#hold = clock.timer();
    this.#playout = createPlayout({ ...settings, clock }, this.#outlet);
    this.#feed = createFeed(
      (type, detail) => {
        if (type === 'clear') this.#playout.clear();
        if (type === 'retract') this.#playout.retract(/** @type {RoomEvents['retract']} */ (detail).ids);
        this.emit(type, detail);
      },
      (batch, context) => this.#batch(batch, context),
    );
    const { position } = this.#feed;
    this.#connection = createConnection({
      names: transports,
      open: (one, listener) => {
        const at = position();
        const query = { since: at ? `${at.epoch}:${at.seq}` : undefined, history };
        return OPEN[one]({ http, position: at, history, query, encoding, clock, WebSocket }, listener);
      },
      http,
      clock,
      take: (message, bytes) => this.#take(message, bytes),
      changed: (change) => this.#changed(change),
    });
    const { link, lose } = this.#connection;
    this.#posts = createPosts({ clock, http, link, lose });
    this.#likes = createLikes({ clock, http, link, emit: this.emit.bind(this) });
    if (settings.autoConnect) this.connect();
  }

  get viewers() {
    return this.#feed.viewers();
  }

  get likes() {
    return this.#feed.likes();
  }

  get position() {
    return this.#feed.position();
  }

  get transport() {
    return this.#connection.transport();
  }

  get encoding() {
    return this.#connection.link()?.encoding ?? null;
  }

  connect() {
    if (this.state === 'closed') this.#connection.start();
  }

  /** @param {string | Post} comment */
  async post(comment) {
    if (this.state === 'closed') throw new DanmakuError('closed', 'the room is closed');
    return this.#posts.post({ ...this.#author, ...(typeof comment === 'string' ? { text: comment } : comment) });
  }

  like(count = 1) {
    if (this.state !== 'closed') this.#likes.add(count);
  }

  /** @param {SyncSource} source */
  syncTo(source) {
    this.#playout.syncTo(source);
  }

  close() {
    if (this.state !== 'closed') this.#connection.close();
  }

  #outlet = {
    show: (/** @type {Comment} */ comment) => this.emit('comment', comment),
    drop: (/** @type {number} */ count) => {
      this.stats.stale += count;
      this.emit('stale', { count });
    },
  };

  /** @param {Change} change */
  #changed({ state, ...details }) {
    const previous = this.state;
    this.state = state === 'connecting' && this.#wasJoined ? 'reconnecting' : state;
    if (state === 'joined') this.#wasJoined = true;
    else this.#posts.lost();
    if (previous === 'joined' && state === 'connecting') this.stats.reconnects += 1;
    if (state === 'closed') {
      this.#wasJoined = false;
      this.#held = null;
      this.#hold.clear();
      this.#posts.close();
      this.#likes.close();
      this.#playout.clear();
    }
    this.emit('state', { ...details, state: this.state, previous, transport: this.transport });
    if (details.error) this.emit('error', details.error);
    if (this.state === 'joined') {
      this.#posts.joined();
      this.#likes.joined();
    }
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  #take(message, bytes) {
    this.stats.frames += 1;
    this.stats.bytes += bytes;
    if (message.type !== 'ack' && message.type !== 'error') return this.#apply(message, bytes);
    // Only refused likes have no `ref`.
    if (message.ref === undefined) this.#likes.reject(refusal(message));
    else this.#posts.answer(message, this.position?.epoch ?? 0);
    this.#release();
  }

  /**
   * A batch may come just before the acknowledgement that says which of its comments is ours: it is held for a moment,
   * and what comes after it too.
   *
   * @param {any} message
   * @param {number} bytes
   */
  #apply(message, bytes) {
    if (this.#held?.push([message, bytes])) return;
    try {
      const holdMs = message.type === 'batch' ? this.#posts.holdMs(message.comments) : 0;
      if (holdMs <= 0) return this.#feed.apply(message, bytes);
      this.#held = [[message, bytes]];
      this.#hold.set(holdMs, () => this.#release());
    } catch (cause) {
      this.#connection.lose(new DanmakuError('corrupted_frame', `${cause}`, { cause }));
    }
  }

  #release() {
    const held = this.#held ?? [];
    this.#hold.clear();
    this.#held = null;
    for (const [message, bytes] of held) this.#apply(message, bytes);
  }

  /**
   * @param {Batch} batch
   * @param {Context} context
   */
  #batch(batch, context) {
    const { comments, replay, ts } = batch;
    for (const comment of comments) comment.own = this.#posts.isOwn(comment);
    this.stats.comments += comments.length;
    if (!replay) this.stats.latencyMs = this.#clock.now() - ts;
    this.emit('batch', batch);
    if (comments.length > 0) this.emit('comments', comments);
    this.#playout.add(comments, { ...context, replay });
  }
}

/** @type {Record<TransportName, Open>} */
const OPEN = { websocket: openWebSocket, sse: openEventStream, pull: openPull };

const DEFAULTS = {
  encoding: /** @type {const} */ ('auto'),
  history: 50,
  transports: /** @type {TransportName[]} */ (Object.keys(OPEN)),
  paced: true,
  pendingMax: 500,
  staleMs: 10_000,
  autoConnect: true,
  // Browsers insist on the right `this`.
  fetch: fetch.bind(globalThis),
  clock: {
    now: Date.now,
    setTimeout: /** @type {Clock['setTimeout']} */ (setTimeout.bind(globalThis)),
    clearTimeout: clearTimeout.bind(globalThis),
  },
};
