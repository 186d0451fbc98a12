// Comments that wait until they are due, by any clock: ours, or the time of the frame that a video shows.

/** @import { Comment } from './index.js' */
/** @import { Clock } from './clock.js' */

/**
 * @typedef {object} Limits
 * @property {Clock} clock
 * @property {number} pendingMax
 * @property {number} staleMs
 */

/**
 * @typedef {object} Outlet where comments go
 * @property {(comment: Comment) => void} show
 * @property {(count: number) => void} drop
 */

/** @typedef {{comment: Comment, due: number, isPast: boolean}} Entry `isPast`: it was handed out, or passed over */

/**
 * @param {Limits} limits
 * @param {Outlet} outlet
 * @param {(() => number | null) | null} video the time on screen, which may stand still and be moved; else our clock's
 */
export function createSchedule({ clock, pendingMax, staleMs }, { show, drop }, video) {
  /** By `due`; those that are past stay for a video that is moved back. @type {Entry[]} */
  let entries = [];
  const timer = clock.timer();
  /** The latest time on screen, and when that was. */
  let shownAt = NaN;
  let lookedAt = 0;

  function look() {
    const now = video ? video() : clock.now();
    if (now !== null) handOut(now, video !== null && wasMoved(now));
    entries = entries.filter(({ isPast }) => video || !isPast);
    const next = entries.find(({ isPast }) => !isPast)?.due ?? Infinity;
    if (entries.length > 0) timer.set(Math.min(LOOK_MS, Math.max(1, next - (now ?? 0))), look);
  }

  /**
   * Notices whether the viewer has moved the video.
   *
   * @param {number} time
   */
  function wasMoved(time) {
    const now = clock.now();
    const isBack = time < shownAt - SEEK_MS;
    const isForward = time > shownAt + (now - lookedAt) + SEEK_MS;
    if (isBack) {
      for (const entry of entries) entry.isPast &&= entry.due <= time;
    }
    // A clock that trembles must not hand out the same comment twice.
    if (isBack || !(time <= shownAt)) [shownAt, lookedAt] = [time, now];
    return isBack || isForward;
  }

  /**
   * @param {number} time
   * @param {boolean} isSeek what lies before this moment is passed over, and waits for a seek back
   */
  function handOut(time, isSeek) {
    const due = entries.filter((entry) => !entry.isPast && entry.due <= time);
    const oldest = time - (isSeek ? SEEK_MS : staleMs);
    const fresh = due.filter((entry) => entry.due >= oldest).slice(-pendingMax);
    for (const entry of due) entry.isPast = true;
    if (!isSeek && fresh.length < due.length) drop(due.length - fresh.length);
    for (const { comment } of fresh) show(comment);
  }

  return {
    /**
     * @param {Array<[Comment, number]>} comments each with the time it is due
     * @param {boolean} isHistory then what lies before the frame on screen is only there for a seek back
     */
    add(comments, isHistory) {
      const begin = (isHistory && video?.()) || 0;
      for (const [comment, due] of comments) entries.push({ comment, due, isPast: due < begin });
      entries.sort((a, b) => a.due - b.due || a.comment.id - b.comment.id);
      const surplus = entries.splice(0, Math.max(0, entries.length - (video ? BUFFER_MAX : pendingMax)));
      const dropped = surplus.filter(({ isPast }) => !isPast).length;
      if (dropped > 0) drop(dropped);
      look();
    },
    /** @param {number[]} ids */
    retract(ids) {
      entries = entries.filter(({ comment }) => !ids.includes(comment.id));
    },
    /** Takes everything that waits. */
    clear() {
      timer.clear();
      return entries.splice(0).flatMap(({ comment, isPast }) => (isPast ? [] : [comment]));
    },
  };
}

/** How many comments are kept for a video. */
const BUFFER_MAX = 10_000;
/** How often to look while comments wait: a video may be paused, moved or played faster at any time. */
const LOOK_MS = 50;
/** A video's time that jumps by more than this has been moved. */
const SEEK_MS = 1000;
