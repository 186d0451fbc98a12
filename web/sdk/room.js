// The room as a page sees it: what connects the parts.

/** @import { Batch, Position, Post, RoomEvents, RoomOptions, RoomState, RoomStats, SyncSource, TransportName } from './index.js' */
/** @import { Change } from './connection.js' */
/** @import { Context } from './feed.js' */
/** @import { Open } from './transport.js' */

import { createConnection } from './connection.js';
import { Emitter } from './emitter.js';
import { DanmakuError, corruptedFrame, refusal } from './errors.js';
import { createFeed } from './feed.js';
import { createHttp } from './http.js';
import { createLikes } from './likes.js';
import { createPlayout } from './playout.js';
import { createPosts } from './posts.js';
import { createTimer } from './timer.js';
import { openWebSocket } from './websocket-transport.js';

/** @extends {Emitter<RoomEvents>} */
export class DanmakuRoom extends Emitter {
  /** @type {RoomState} */
  state = 'closed';
  /** @type {RoomStats} */
  stats = { bytes: 0, frames: 0, comments: 0, reconnects: 0, stale: 0, latencyMs: null };
  /** @type {Position | null} */
  position = null;
  viewers = 0;
  likes = 0;
  #settings;
  #connection;
  #feed;
  #posts;
  #likes;
  #playout;
  /** Messages that have not been applied yet, each with its size. @type {Array<[any, number]>} */
  #held = [];
  #hold;
  #renew;

  /**
   * @param {string | URL} url
   * @param {string} room
   * @param {RoomOptions} [options]
   */
  constructor(url, room, options = {}) {
    super();
    this.room = room;
    const settings = (this.#settings = { ...DEFAULTS, WebSocket: globalThis.WebSocket, ...options });
    const { clock, history } = settings;
    const http = createHttp({ ...settings, url, room });
    this.#hold = createTimer(clock);
    this.#playout = createPlayout(settings, {
      show: (comment) => this.emit('comment', comment),
      drop: (count) => {
        if (count === 0) return;
        this.stats.stale += count;
        this.emit('stale', { count });
      },
    });
    this.on('clear', () => this.#playout.clear());
    this.on('retract', ({ ids }) => this.#playout.retract(ids));
    this.#renew = async () => this.#connection.link()?.send?.({ type: 'auth', token: await http.token() });
    this.#feed = createFeed(this, (batch, context) => this.#batch(batch, context));
    this.#connection = createConnection({
      ...settings,
      load: async (one) => {
        const open = await LOAD[one]();
        const { position } = this;
        const query = { since: position ? `${position.epoch}:${position.seq}` : undefined, history };
        return (listener) => open({ ...settings, http, position, query }, listener);
      },
      http,
      take: (message, bytes) => this.#take(message, bytes),
      changed: (change) => this.#changed(change),
    });
    const { link, lose } = this.#connection;
    this.#posts = createPosts({ clock, http, link, lose });
    this.#likes = createLikes({ clock, http, link, room: this });
    if (settings.autoConnect) this.connect();
  }

  get transport() {
    return this.#connection.transport();
  }

  get encoding() {
    return this.#connection.link()?.encoding ?? null;
  }

  connect() {
    this.#connection.start();
  }

  /** @param {string | Post} comment */
  async post(comment) {
    if (this.state === 'closed') throw new DanmakuError('closed', 'the room is closed');
    const { user, name } = this.#settings;
    return this.#posts.post({ user, name, ...(typeof comment === 'string' ? { text: comment } : comment) });
  }

  like(count = 1) {
    this.#likes.add(count);
  }

  /** @param {SyncSource} source */
  syncTo(source) {
    this.#playout.syncTo(source);
  }

  close() {
    if (this.state !== 'closed') this.#connection.close();
  }

  /** @param {Change} change */
  #changed({ state, ...details }) {
    const previous = this.state;
    const isAgain = state === 'connecting' && ['joined', 'reconnecting'].includes(previous);
    this.state = isAgain ? 'reconnecting' : state;
    if (isAgain && previous === 'joined') this.stats.reconnects += 1;
    if (state !== 'joined') {
      // The server repeats them after the position.
      this.#held = [];
      this.#hold.clear();
    }
    if (state === 'closed') {
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
    // Without a new token the connection ends in time, and the next attempt asks again.
    if (message.type === 'expiring') this.#renew().catch(() => {});
    if (message.type !== 'ack' && message.type !== 'error') this.#held.push([message, bytes]);
    // Only refused likes have no `ref`.
    else if (message.ref === undefined) this.#likes.reject(refusal(message));
    else this.#posts.answer({ epoch: this.position?.epoch, ...message });
    this.#apply();
  }

  /**
   * A batch may come just before the acknowledgement that says which of its comments is ours: it is held for a moment,
   * and what comes after it too.
   */
  #apply() {
    try {
      while (this.#held.length > 0) {
        const [[message, bytes]] = this.#held;
        const holdMs = message.type === 'batch' ? this.#posts.holdMs(message.comments) : 0;
        if (holdMs > 0) return this.#hold.set(holdMs, () => this.#apply());
        this.#held.shift();
        this.#feed(message, bytes);
      }
    } catch (cause) {
      this.#connection.lose(corruptedFrame(cause));
    }
  }

  /**
   * @param {Batch} batch
   * @param {Context} context
   */
  #batch(batch, context) {
    const { comments, replay, ts } = batch;
    for (const comment of comments) comment.own = this.#posts.isOwn(comment);
    this.stats.comments += comments.length;
    if (!replay) this.stats.latencyMs = this.#settings.clock.now() - ts;
    this.emit('batch', batch);
    if (comments.length > 0) this.emit('comments', comments);
    this.#playout.add(batch, context);
  }
}

/** The fallbacks are loaded when they are needed. @type {Record<TransportName, () => Promise<Open>>} */
const LOAD = {
  websocket: async () => openWebSocket,
  sse: async () => (await import('./event-stream-transport.js')).open,
  pull: async () => (await import('./pull-transport.js')).open,
};

const DEFAULTS = {
  encoding: /** @type {const} */ ('auto'),
  history: 50,
  transports: /** @type {TransportName[]} */ (Object.keys(LOAD)),
  paced: true,
  pendingMax: 500,
  staleMs: 10_000,
  autoConnect: true,
  fetch,
  clock: { now: Date.now, setTimeout, clearTimeout },
};
