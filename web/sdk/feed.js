// What the server's messages say about the room: the position, and each comment with its members filled in.

/** @import { Batch, Comment, Position } from './index.js' */

import { DanmakuError } from './errors.js';

/**
 * @typedef {object} Reader
 * @property {(batch: Batch, windowMs: number, resumed: boolean) => void} batch
 * @property {(ids: number[]) => void} retract
 * @property {() => void} clear
 * @property {(gap: {after: number, seq: number}) => void} gap
 * @property {(viewers: number) => void} viewers
 * @property {(count: number) => void} likes
 */

export class Feed {
  /** @type {Position | null} */
  position = null;
  #reader;
  #windowMs = 0;
  /** Batches up to here are a replay. */
  #replaySeq = 0;
  #resumed = false;

  /** @param {Reader} reader */
  constructor(reader) {
    this.#reader = reader;
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  apply(message, bytes) {
    if (message.type === 'joined') this.#joined(message);
    else if (message.type === 'batch') this.#batch(message, bytes);
    else if (message.type === 'gap') this.#gap(message);
  }

  /** @param {any} message */
  #joined({ epoch, after, seq, window_ms: windowMs, viewers, resumed }) {
    check(isPosition(epoch) && isPosition(after) && isPosition(seq));
    const before = this.position;
    this.#windowMs = Number(windowMs) || 0;
    this.#replaySeq = seq;
    this.#resumed = Boolean(resumed && before?.epoch === epoch);
    if (!this.#resumed) {
      this.position = { epoch, seq: after };
      if (before) this.#reader.clear();
    }
    this.#reader.viewers(viewers);
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  #batch(message, bytes) {
    const { after, seq, ts, ids, at, comments, events } = message;
    const from = this.#from(message);
    check(Array.isArray(comments) && Number.isFinite(ts));
    const { epoch } = this.#known();
    const replay = seq <= this.#replaySeq;
    /** @type {Comment[]} */
    const fresh = [];
    let id = after;
    for (const [index, comment] of comments.entries()) {
      id += ids?.[index] ?? 1;
      check(isPosition(id) && typeof comment?.text === 'string');
      if (id > from) {
        const own = false;
        fresh.push({ ...DEFAULTS, ...comment, id, epoch, ts: ts - 100 * (at?.[index] ?? 0), own, replay });
      }
    }
    if (after > from) this.#reader.gap({ after: from, seq: after });
    this.position = { epoch, seq: Math.max(from, seq) };
    // A batch that ends where we are already brings nothing but likes, unless we had those too.
    if (after >= from || seq > from) {
      this.#reader.batch({ after, seq, ts, comments: fresh, bytes, replay }, this.#windowMs, this.#resumed);
      if (message.likes > 0) this.#reader.likes(message.likes);
    }
    this.#events(events, from);
    if (!replay) this.#reader.viewers(message.viewers);
  }

  /** @param {any} message */
  #gap(message) {
    const { after, seq, events } = message;
    const from = this.#from(message);
    this.position = { ...this.#known(), seq: Math.max(from, seq) };
    if (seq > from) this.#reader.gap({ after: Math.max(after, from), seq });
    this.#events(events, from);
  }

  /**
   * @param {any} events
   * @param {number} from
   */
  #events(events, from) {
    for (const { id, type, ids } of events ?? []) {
      if (type === 'retract' && id > from) this.#reader.retract(ids);
    }
  }

  /**
   * The position before a message that covers everything above `after` up to `seq`.
   *
   * @param {{after: unknown, seq: unknown}} message
   */
  #from({ after, seq }) {
    check(isPosition(after) && isPosition(seq));
    return this.#known().seq;
  }

  #known() {
    check(this.position);
    return /** @type {Position} */ (this.position);
  }
}

/** @param {unknown} value */
function isPosition(value) {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/** @param {unknown} fact */
function check(fact) {
  if (!fact) throw new DanmakuError('corrupted_frame', 'a message is not as the protocol says');
}

const DEFAULTS = /** @type {const} */ ({ mode: 'scroll', color: 0xffffff, size: 25, role: 'viewer' });
