// Posted comments until the server has answered, and which of the room's comments are our own.

/** @import { Accepted, Clock, Comment, Post } from './index.js' */

import { DanmakuError, networkError, refusal, responseError } from './errors.js';

/**
 * @typedef {object} Pending
 * @property {number} ref
 * @property {string} key the same for each delivery, so that the server posts it once
 * @property {Post} comment
 * @property {(accepted: Accepted) => void} resolve
 * @property {(error: DanmakuError) => void} reject
 * @property {Set<unknown>} timers
 * @property {AbortController} abort
 * @property {boolean} isSent
 * @property {number} sentAt
 * @property {number} [holdUntil]
 */

/**
 * @typedef {object} Route
 * @property {Clock} clock
 * @property {() => 'websocket' | 'http' | null} kind
 * @property {(message: object) => void} send over the WebSocket
 * @property {(path: string, body: object, headers: Record<string, string>, signal: AbortSignal) => Promise<Response>} request
 * @property {() => void} silent a post has been sent, and nothing came back for a long time
 * @property {() => number} epoch
 */

export class Posts {
  /** From the last post to its acknowledgement. @type {number | null} */
  ackMs = null;
  /** @type {Map<number, Pending>} */
  #pending = new Map();
  #refs = 0;
  /** `EPOCH:ID` of our own comments, the oldest first. @type {Set<string>} */
  #own = new Set();
  #refusedUntil = 0;
  #route;

  /** @param {Route} route */
  constructor(route) {
    this.#route = route;
  }

  /**
   * @param {Post} comment
   * @returns {Promise<Accepted>}
   */
  post(comment) {
    const { clock } = this.#route;
    return new Promise((resolve, reject) => {
      const waitMs = this.#refusedUntil - clock.now();
      if (waitMs > 0) throw new DanmakuError('rate_limited', 'still too many posts', { retryAfterMs: waitMs });
      if (this.#pending.size >= PENDING_MAX) throw new DanmakuError('overloaded', 'too many posts are unanswered');
      if (utf8.encode(JSON.stringify(comment)).length > MESSAGE_BYTES_MAX) {
        throw new DanmakuError('body_too_large', 'the comment is too large for one message');
      }
      this.#refs += 1;
      /** @type {Pending} */
      const post = {
        ref: this.#refs,
        key: newKey(),
        comment,
        resolve,
        reject,
        timers: new Set(),
        abort: new AbortController(),
        isSent: false,
        sentAt: 0,
      };
      this.#pending.set(post.ref, post);
      this.#after(post, POST_MS_MAX, () => {
        this.#take(post.ref)?.reject(new DanmakuError('timeout', 'no answer; the comment may have been posted'));
      });
      this.#deliver(post);
    });
  }

  /** Delivers what waits; call it when the room is joined. */
  flush() {
    for (const post of this.#pending.values()) this.#deliver(post);
  }

  /** The WebSocket is gone, and with it the answers to what was sent. */
  unsent() {
    for (const post of this.#pending.values()) post.isSent = false;
  }

  /** @param {any} message an `ack`, or an `error` with a `ref` */
  answer(message) {
    const post = this.#pending.get(message.ref);
    if (!post) return;
    if (message.type === 'ack') this.#accepted(post, { id: message.id, epoch: this.#route.epoch() });
    else this.#refused(post, refusal(message));
  }

  /**
   * Until when a batch should wait, because one of its comments may be one whose acknowledgement is under way; 0 if
   * it needn't.
   *
   * @param {any[]} comments
   */
  holdUntil(comments) {
    const now = this.#route.clock.now();
    let until = 0;
    for (const post of this.#pending.values()) {
      const { text, user, name } = post.comment;
      if (!comments.some((one) => one.text === text && one.user === user && one.name === name)) continue;
      post.holdUntil ??= now + HOLD_MS_MAX;
      until = Math.max(until, post.holdUntil);
    }
    return until > now ? until : 0;
  }

  /** @param {Comment} comment */
  isOwn({ epoch, id }) {
    return this.#own.has(`${epoch}:${id}`);
  }

  close() {
    for (const ref of [...this.#pending.keys()]) {
      this.#take(ref)?.reject(new DanmakuError('closed', 'the room is closed'));
    }
  }

  /** @param {Pending} post */
  #deliver(post) {
    const kind = this.#route.kind();
    if (!kind || post.isSent) return;
    post.isSent = true;
    post.sentAt = this.#route.clock.now();
    if (kind === 'http') {
      this.#request(post);
    } else {
      const { ref, key, comment } = post;
      this.#route.send({ type: 'comment', ref, key, ...comment });
      this.#after(post, ANSWER_MS_MAX, () => post.isSent && this.#route.silent());
    }
  }

  /** @param {Pending} post */
  async #request(post) {
    const headers = { 'Idempotency-Key': post.key };
    try {
      const response = await this.#route.request('comments', post.comment, headers, post.abort.signal);
      if (response.ok) this.#accepted(post, await response.json());
      else this.#refused(post, await responseError(response));
    } catch (error) {
      this.#refused(post, networkError('the post did not get through', error));
    }
  }

  /**
   * @param {Pending} post
   * @param {Accepted} accepted
   */
  #accepted(post, { id, epoch }) {
    if (!this.#take(post.ref)) return;
    this.ackMs = this.#route.clock.now() - post.sentAt;
    this.#own.add(`${epoch}:${id}`);
    if (this.#own.size > OWN_MAX) this.#own.delete([...this.#own][0]);
    post.resolve({ id, epoch });
  }

  /**
   * @param {Pending} post
   * @param {DanmakuError} error
   */
  #refused(post, error) {
    if (!this.#pending.has(post.ref)) return;
    if (REPEAT.has(error.code)) {
      this.#after(post, error.retryAfterMs ?? REPEAT_MS, () => {
        post.isSent = false;
        this.#deliver(post);
      });
      return;
    }
    if (error.code === 'rate_limited') {
      this.#refusedUntil = this.#route.clock.now() + (error.retryAfterMs ?? 0);
    }
    this.#take(post.ref)?.reject(error);
  }

  /**
   * Ends a post; nothing of it stays behind.
   *
   * @param {number} ref
   */
  #take(ref) {
    const post = this.#pending.get(ref);
    if (!post) return null;
    this.#pending.delete(ref);
    post.timers.forEach((timer) => this.#route.clock.clearTimeout(timer));
    post.abort.abort();
    return post;
  }

  /**
   * @param {Pending} post
   * @param {number} ms
   * @param {() => void} callback
   */
  #after(post, ms, callback) {
    post.timers.add(this.#route.clock.setTimeout(callback, ms));
  }
}

function newKey() {
  // Not randomUUID: pages without TLS don't have it.
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}

const utf8 = new TextEncoder();
/** The answer to these says that the same post with the same key should be sent again. */
const REPEAT = new Set(['network', 'outcome_unknown', 'idempotency_in_progress']);
const REPEAT_MS = 1000;
const PENDING_MAX = 20;
const OWN_MAX = 200;
const POST_MS_MAX = 15_000;
const ANSWER_MS_MAX = 5000;
const HOLD_MS_MAX = 250;
/** The server takes 4096 with `type`, `ref` and `key`, and closes the connection beyond. */
const MESSAGE_BYTES_MAX = 3900;
