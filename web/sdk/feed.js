// What the server's messages say about the room: the position, and each comment with its members filled in.

/** @import { Batch, Comment, Position, RoomEvents } from './index.js' */

import { DanmakuError } from './errors.js';

/**
 * @typedef {object} Context
 * @property {number} windowMs how long the batch was collected
 * @property {boolean} resumed the viewer was here before
 * @property {number} sentAt by the server's clock
 */

/** @typedef {<K extends keyof RoomEvents>(type: K, detail: RoomEvents[K]) => void} Emit */

/**
 * @param {Emit} emit
 * @param {(batch: Batch, context: Context) => void} takeBatch
 */
export function createFeed(emit, takeBatch) {
  /** @type {Position | null} */
  let position = null;
  let viewers = 0;
  let likes = 0;
  let windowMs = 0;
  /** Batches up to here are a replay. */
  let replaySeq = 0;
  let resumed = false;

  /** @param {any} message */
  function joined({ epoch, after, seq, ...message }) {
    check(isPosition(epoch));
    const before = position;
    windowMs = message.window_ms;
    replaySeq = seq;
    resumed = message.resumed && before?.epoch === epoch;
    if (!resumed) {
      position = { epoch, seq: after };
      if (before) emit('clear', {});
    }
    count(message);
  }

  /**
   * @param {any} message
   * @param {Position} from
   * @param {number} bytes
   */
  function batch({ after, seq, ts, ids, at, comments, sentAt = ts, ...message }, { epoch, seq: from }, bytes) {
    check(Array.isArray(comments) && Number.isFinite(ts));
    // One without a step forward is live: it brings likes.
    const replay = seq <= replaySeq && seq > after;
    let id = after;
    /** @type {Comment[]} */
    const all = comments.map((/** @type {any} */ comment, /** @type {number} */ index) => {
      id += ids?.[index] ?? 1;
      check(isPosition(id) && typeof comment?.text === 'string');
      return { ...DEFAULTS, ...comment, id, epoch, ts: ts - 100 * (at?.[index] ?? 0), own: false, replay };
    });
    position = { epoch, seq: Math.max(from, seq) };
    if (after > from) emit('gap', { after: from, seq: after });
    const fresh = all.filter((comment) => comment.id > from);
    takeBatch({ after, seq, ts, comments: fresh, bytes, replay }, { windowMs, resumed, sentAt });
    if (!replay) count(message);
  }

  /** @param {any} message */
  function count({ viewers: watching = viewers, likes: more = 0 }) {
    if (watching !== viewers) emit('viewers', (viewers = watching));
    likes += more;
    if (more > 0) emit('likes', { count: more, total: likes });
  }

  return {
    position: () => position,
    viewers: () => viewers,
    likes: () => likes,

    /**
     * @param {any} message
     * @param {number} bytes
     */
    apply(message, bytes) {
      const { type, after, seq, events = [] } = message;
      if (type === 'counts') count(message);
      if (!['joined', 'batch', 'gap'].includes(type)) return;
      check(isPosition(after) && isPosition(seq));
      if (type === 'joined') return joined(message);
      check(position);
      const from = /** @type {Position} */ (position);
      // All of it was in an earlier message; only likes come without a step forward.
      if (seq < from.seq || (seq === from.seq && after < seq)) return;
      if (type === 'batch') {
        batch(message, from, bytes);
      } else {
        position = { epoch: from.epoch, seq };
        emit('gap', { after: Math.max(after, from.seq), seq });
      }
      for (const { id, type: kind, ids } of events) {
        if (kind === 'retract' && id > from.seq) emit('retract', { ids });
      }
    },
  };
}

/** @param {unknown} value */
const isPosition = (value) => Number.isSafeInteger(value) && Number(value) >= 0;

/** @param {unknown} fact */
function check(fact) {
  if (!fact) throw new DanmakuError('corrupted_frame', 'a message against the protocol');
}

const DEFAULTS = /** @type {const} */ ({ mode: 'scroll', color: 0xffffff, size: 25, role: 'viewer' });
