// Posted comments until the server has answered, and which of the room's comments are our own.

/** @import { Accepted, Clock, Comment, Post } from './index.js' */
/** @import { Http } from './http.js' */
/** @import { Timer } from './timer.js' */
/** @import { Link } from './transport.js' */

import { DanmakuError, asDanmakuError, networkError, refusal } from './errors.js';
import { createTimer } from './timer.js';

/**
 * @typedef {object} Pending
 * @property {string} key the same for each delivery, so that the server posts it once
 * @property {Post} comment
 * @property {(accepted: Accepted) => void} resolve
 * @property {(error: DanmakuError) => void} reject
 * @property {Timer} deadline
 * @property {Timer} retry when to do something about a missing answer
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
  function deliver({ key, comment, retry }) {
    const to = link();
    retry.clear();
    if (to?.send) {
      to.send({ type: 'comment', ref: key, key, ...comment });
      retry.set(ANSWER_MS_MAX, () => lose(networkError('a post was not answered')));
    } else if (to) {
      const signal = AbortSignal.timeout(ANSWER_MS_MAX);
      http
        .request('comments', { signal, body: comment, headers: { 'Idempotency-Key': key } })
        .then((response) => response.json())
        .then((accepted) => acknowledged(key, accepted))
        .catch((cause) => refused(key, asDanmakuError(cause)));
    }
  }

  /**
   * @param {string} key
   * @param {Accepted} accepted
   */
  function acknowledged(key, { id, epoch, held }) {
    if (held !== undefined) {
      end(key)?.resolve({ id: 0, epoch, held });
      return;
    }
    own.push(`${epoch}:${id}`);
    if (own.length > OWN_MAX) own.shift();
    end(key)?.resolve({ id, epoch });
  }

  /**
   * @param {string} key
   * @param {DanmakuError} error
   */
  function refused(key, error) {
    const post = pending.get(key);
    if (!AGAIN.has(error.code)) end(key)?.reject(error);
    else post?.retry.set(error.retryAfterMs ?? AGAIN_MS, () => deliver(post));
  }

  /** @param {string} key */
  function end(key) {
    const post = pending.get(key);
    post?.deadline.clear();
    post?.retry.clear();
    pending.delete(key);
    return post;
  }

  return {
    /**
     * @param {Post} comment
     * @returns {Promise<Accepted>}
     */
    post(comment) {
      return new Promise((resolve, reject) => {
        if (pending.size >= PENDING_MAX) throw new DanmakuError('too_many_pending', 'too many unanswered posts');
        if (new Blob([JSON.stringify(comment)]).size > COMMENT_BYTES_MAX) {
          throw new DanmakuError('body_too_large', 'the comment is too large');
        }
        // Not randomUUID: pages without TLS don't have it.
        const key = crypto.getRandomValues(new Uint32Array(4)).join('-');
        const deadline = createTimer(clock);
        const post = { key, comment, resolve, reject, deadline, retry: createTimer(clock) };
        pending.set(key, post);
        deadline.set(POST_MS_MAX, () => {
          end(key)?.reject(new DanmakuError('timeout', 'no answer; the comment may have been posted'));
        });
        deliver(post);
      });
    },

    /** The room is joined: delivers what has no answer yet. */
    joined() {
      pending.forEach(deliver);
    },

    /** @param {any} message an `ack`, or an `error` with a `ref` */
    answer(message) {
      if (message.type === 'ack') acknowledged(message.ref, message);
      else refused(message.ref, refusal(message));
    },

    /**
     * How long a batch should wait, because the acknowledgement of one of its comments may be under way.
     *
     * @param {any[]} comments
     */
    holdMs(comments) {
      let until = 0;
      for (const post of pending.values()) {
        // With a token, the server says who the author is.
        if (!comments.some(({ text }) => text === post.comment.text)) continue;
        post.holdUntil ??= clock.now() + HOLD_MS_MAX;
        until = Math.max(until, post.holdUntil);
      }
      return until - clock.now();
    },

    /** @param {Comment} comment */
    isOwn: ({ epoch, id }) => own.includes(`${epoch}:${id}`),

    close() {
      for (const key of pending.keys()) end(key)?.reject(new DanmakuError('closed', 'the room is closed'));
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
