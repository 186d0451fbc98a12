// Posted comments until the server has answered, and which of the room's comments are our own.

/** @import { Accepted, Comment, Post } from './index.js' */
/** @import { Clock } from './clock.js' */
/** @import { Http } from './http.js' */
/** @import { Link } from './transport.js' */

import { DanmakuError, networkError, refusal } from './errors.js';

/**
 * @typedef {object} Pending
 * @property {string} key the same for each delivery, so that the server posts it once
 * @property {Post} comment
 * @property {(accepted: Accepted) => void} resolve
 * @property {(error: DanmakuError) => void} reject
 * @property {AbortController} abort
 * @property {ReturnType<Clock['timer']>} deadline
 * @property {ReturnType<Clock['timer']>} retry when to do something about a missing answer
 * @property {boolean} isSent
 * @property {number} [holdUntil]
 */

/**
 * @param {object} options
 * @param {Clock} options.clock
 * @param {Http} options.http
 * @param {() => Link | null} options.link
 * @param {(error: DanmakuError) => void} options.lose for a connection that seems dead
 */
export function createPosts({ clock, http, link, lose }) {
  /** By key. @type {Map<string, Pending>} */
  const pending = new Map();
  /** `EPOCH:ID` of our own comments, the oldest first. @type {string[]} */
  const own = [];

  /** @param {Pending} post */
  function deliver(post) {
    const to = link();
    if (!to || post.isSent) return;
    post.isSent = true;
    const { key, comment, abort } = post;
    if (to.send) {
      to.send({ type: 'comment', ref: key, key, ...comment });
      post.retry.set(ANSWER_MS_MAX, () => lose(networkError('a post was not answered')));
    } else {
      const details = { abort, body: comment, headers: { 'Idempotency-Key': key } };
      http.request('comments', details, (response) => response.json()).then(
        (accepted) => acknowledged(post, accepted),
        (error) => refused(post, error),
      );
    }
  }

  /**
   * @param {Pending} post
   * @param {Accepted} accepted
   */
  function acknowledged(post, { id, epoch }) {
    if (!end(post)) return;
    own.push(`${epoch}:${id}`);
    if (own.length > OWN_MAX) own.shift();
    post.resolve({ id, epoch });
  }

  /**
   * @param {Pending} post
   * @param {DanmakuError} error
   */
  function refused(post, error) {
    if (!AGAIN.has(error.code)) {
      fail(post, error);
    } else if (pending.has(post.key)) {
      post.retry.set(error.retryAfterMs ?? AGAIN_MS, () => {
        post.isSent = false;
        deliver(post);
      });
    }
  }

  /** @param {Pending} post */
  function end({ key, deadline, retry, abort }) {
    deadline.clear();
    retry.clear();
    abort.abort();
    return pending.delete(key);
  }

  /**
   * @param {Pending} post
   * @param {DanmakuError} error
   */
  const fail = (post, error) => end(post) && post.reject(error);

  return {
    /**
     * @param {Post} comment
     * @returns {Promise<Accepted>}
     */
    post(comment) {
      return new Promise((resolve, reject) => {
        if (pending.size >= PENDING_MAX) throw new DanmakuError('overloaded', 'too many unanswered posts');
        if (new Blob([JSON.stringify(comment)]).size > COMMENT_BYTES_MAX) {
          throw new DanmakuError('body_too_large', 'the comment is too large');
        }
        // Not randomUUID: pages without TLS don't have it.
        const key = crypto.getRandomValues(new Uint32Array(4)).join('-');
        /** @type {Pending} */
        const post = {
          ...{ key, comment, resolve, reject, isSent: false },
          ...{ abort: new AbortController(), deadline: clock.timer(), retry: clock.timer() },
        };
        pending.set(key, post);
        post.deadline.set(POST_MS_MAX, () => {
          fail(post, new DanmakuError('timeout', 'no answer; the comment may have been posted'));
        });
        deliver(post);
      });
    },

    /** The room is joined: delivers what waits. */
    joined() {
      pending.forEach(deliver);
    },

    /** The link is lost, and with it the answers to what was sent. */
    lost() {
      for (const post of pending.values()) {
        post.isSent = false;
        post.retry.clear();
      }
    },

    /**
     * @param {any} message an `ack`, or an `error` with a `ref`
     * @param {number} epoch
     */
    answer(message, epoch) {
      const post = pending.get(message.ref);
      if (!post) return;
      if (message.type === 'ack') acknowledged(post, { id: message.id, epoch });
      else refused(post, refusal(message));
    },

    /**
     * How long a batch should wait, because the acknowledgement of one of its comments may be under way.
     *
     * @param {any[]} comments
     */
    holdMs(comments) {
      let until = 0;
      for (const post of pending.values()) {
        const { text, user, name } = post.comment;
        if (!comments.some((one) => one.text === text && one.user === user && one.name === name)) continue;
        post.holdUntil ??= clock.now() + HOLD_MS_MAX;
        until = Math.max(until, post.holdUntil);
      }
      return until - clock.now();
    },

    /** @param {Comment} comment */
    isOwn: ({ epoch, id }) => own.includes(`${epoch}:${id}`),

    close() {
      for (const post of pending.values()) fail(post, new DanmakuError('closed', 'the room is closed'));
    },
  };
}

/** After these, the same post with the same key should be sent again. */
const AGAIN = new Set(['network', 'outcome_unknown', 'idempotency_in_progress']);
const AGAIN_MS = 1000;
const PENDING_MAX = 20;
const OWN_MAX = 200;
const POST_MS_MAX = 15_000;
const ANSWER_MS_MAX = 5000;
const HOLD_MS_MAX = 500;
/** The server takes 4096 with `type`, `ref` and `key`, and closes the connection beyond. */
const COMMENT_BYTES_MAX = 3900;
