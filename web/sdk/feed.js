// What the server's messages say about the room: the position, and each comment with its members filled in.

/** @import { Batch, Comment, Position, RoomEvents } from './index.js' */
/** @import { Emitter } from './emitter.js' */

/** @typedef {Emitter<RoomEvents> & {position: Position | null, viewers: number, likes: number}} Room */

/**
 * @typedef {object} Context
 * @property {number} windowMs how long the batch was collected
 * @property {boolean} resumed the viewer was here before
 * @property {number} sentAt by the server's clock
 */

/**
 * Returns what takes the server's messages. It throws on those against the protocol.
 *
 * @param {Room} room
 * @param {(batch: Batch, context: Context) => void} takeBatch
 */
export function createFeed(room, takeBatch) {
  /** What the server said when the connection joined; batches up to its `seq` are a replay. @type {any} */
  let session;

  /** @param {any} message */
  function joined(message) {
    const before = room.position;
    session = message;
    if (!message.resumed) {
      room.position = { epoch: message.epoch, seq: message.after };
      if (before) room.emit('clear', {});
    }
    count(message);
  }

  /**
   * @param {any} message
   * @param {Position} from
   * @param {number} bytes
   */
  function batch({ after, seq, ts, ids, at, comments, sentAt = ts, ...message }, { epoch, seq: from }, bytes) {
    // One without a step forward is live: it brings likes.
    const replay = seq <= session.seq && seq > after;
    let id = after;
    /** @type {Comment[]} */
    const all = comments.map((/** @type {any} */ comment, /** @type {number} */ index) => {
      id += ids?.[index] ?? 1;
      return { ...DEFAULTS, ...comment, id, epoch, ts: ts - 100 * (at?.[index] ?? 0), own: false, replay };
    });
    room.position = { epoch, seq };
    if (after > from) room.emit('gap', { after: from, seq: after });
    const fresh = all.filter((comment) => comment.id > from);
    takeBatch({ after, seq, ts, comments: fresh, bytes, replay }, { windowMs: session.window_ms, resumed: session.resumed, sentAt });
    if (!replay) count(message);
  }

  /** @param {any} message */
  function count({ viewers = room.viewers, likes = 0 }) {
    if (viewers !== room.viewers) room.emit('viewers', (room.viewers = viewers));
    room.likes += likes;
    if (likes > 0) room.emit('likes', { count: likes, total: room.likes });
  }

  /**
   * @param {any} message
   * @param {number} bytes
   */
  return (message, bytes) => {
    const { type, after, seq, events = [] } = message;
    if (type === 'counts') count(message);
    if (!['joined', 'batch', 'gap'].includes(type)) return;
    if (!Number.isSafeInteger(after + seq)) throw new Error('a message without a position');
    if (type === 'joined') return joined(message);
    const from = /** @type {Position} */ (room.position);
    // All of it was in an earlier message; only likes come without a step forward.
    if (seq < from.seq || (seq === from.seq && after < seq)) return;
    if (type === 'batch') {
      batch(message, from, bytes);
    } else {
      room.position = { epoch: from.epoch, seq };
      room.emit('gap', { after: Math.max(after, from.seq), seq });
    }
    for (const { id, type: kind, ids } of events) {
      if (kind === 'retract' && id > from.seq) room.emit('retract', { ids });
    }
  };
}

const DEFAULTS = /** @type {const} */ ({ mode: 'scroll', color: 0xffffff, size: 25, role: 'viewer' });
