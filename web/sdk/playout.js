// Decides when a comment is handed out: at once, in the rhythm of the chat, or in step with a video.

/** @import { Batch, Clock, Comment, SyncSource } from './index.js' */
/** @import { Context } from './feed.js' */

import { createTimer } from './timer.js';

/** @typedef {{comment: Comment, due: number, isPast: boolean}} Entry `isPast`: it was handed out, or passed over */

/**
 * @param {{clock: Clock, paced: boolean, pendingMax: number, staleMs: number}} settings
 * @param {object} outlet where comments go
 * @param {(comment: Comment) => void} outlet.show
 * @param {(count: number) => void} outlet.drop how many were dropped, or 0
 */
export function createPlayout({ clock, paced, pendingMax, staleMs }, { show, drop }) {
  const timer = createTimer(clock);
  /** What waits, by `due`; what is past stays for a video that is moved back. @type {Entry[]} */
  let entries = [];
  let lastDue = 0;
  /** The time on screen, which may stand still and be moved; without one, our clock counts. @type {(() => number) | null} */
  let video = null;
  /** The latest time on screen, and when that was. */
  let shownAt = NaN;
  let lookedAt = 0;
  /** How far the server's clock was behind ours when live batches came, on their way included. @type {number[]} */
  const lags = [];
  // The smallest: a page that was frozen gets its batches late, and that is not the clocks' fault.
  const serverNow = () => clock.now() - (lags.length > 0 ? Math.min(...lags) : 0);

  function look() {
    const now = video ? video() : clock.now();
    if (Number.isFinite(now)) handOut(now, video !== null && wasMoved(now));
    entries = entries.filter(({ isPast }) => video || !isPast);
    if (entries.length > 0) timer.set(LOOK_MS, look);
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
    const fresh = due.filter((entry) => entry.due >= oldest);
    for (const entry of due) entry.isPast = true;
    if (!isSeek) drop(due.length - fresh.length);
    for (const { comment } of fresh) show(comment);
  }

  /**
   * @param {Comment[]} comments
   * @param {number} windowMs how long they were collected; 0 hands them out now
   * @param {boolean} [isHistory] then what lies before the frame on screen is only there for a seek back
   */
  function wait(comments, windowMs, isHistory = false) {
    const now = clock.now();
    const begin = (isHistory && video?.()) || 0;
    for (const comment of comments) {
      // A quiet room's batch is sent at once: its first comment doesn't wait for a window that never was.
      const inRhythm = now + Math.min(comment.ts - comments[0].ts, windowMs);
      // In order, unless the clock was set back.
      lastDue = Math.max(inRhythm, Math.min(lastDue, now + windowMs));
      const due = video ? comment.ts : lastDue;
      entries.push({ comment, due, isPast: due < begin });
    }
    entries.sort((a, b) => a.due - b.due || a.comment.id - b.comment.id);
    const surplus = entries.splice(0, entries.length - (video ? BUFFER_MAX : pendingMax));
    drop(surplus.filter(({ isPast }) => !isPast).length);
    look();
  }

  /** Takes everything that waits. */
  function clear() {
    timer.clear();
    return entries.splice(0).flatMap(({ comment, isPast }) => (isPast ? [] : [comment]));
  }

  return {
    clear,
    /**
     * @param {Batch} batch
     * @param {Context} context
     */
    add({ comments, replay }, { windowMs, resumed, sentAt }) {
      if (!replay) lags.push(clock.now() - sentAt);
      if (lags.length > LAGS_MAX) lags.shift();
      // History was asked for, however old it is; what was missed meanwhile was not.
      const isHistory = replay && !resumed;
      if (video) return wait(comments, windowMs, isHistory);
      const oldest = isHistory || lags.length === 0 ? 0 : serverNow() - staleMs;
      const fresh = comments.filter(({ ts }) => ts >= oldest);
      drop(comments.length - fresh.length);
      if (paced && !isHistory) wait(fresh, windowMs);
      else fresh.forEach(show);
    },
    /** @param {number[]} ids */
    retract(ids) {
      entries = entries.filter(({ comment }) => !ids.includes(comment.id));
    },
    /** @param {SyncSource} source */
    syncTo(source) {
      video = source === null ? null : timeOnScreen(source, serverNow);
      shownAt = NaN;
      wait(clear(), 0);
    },
  };
}

/**
 * The wall-clock time of what is on screen, or `NaN` while that isn't known.
 *
 * @param {Exclude<SyncSource, null>} source
 * @param {() => number} serverNow
 * @returns {() => number}
 */
function timeOnScreen(source, serverNow) {
  if (typeof source === 'number') return () => serverNow() - source;
  if (typeof source === 'function') return () => Number(source() ?? NaN);
  const video = /** @type {HTMLVideoElement & {getStartDate?: () => Date}} */ (source);
  if (!video.getStartDate) throw new TypeError('a video without getStartDate(): pass a function');
  return () => Number(video.getStartDate?.()) + video.currentTime * 1000;
}

const LAGS_MAX = 120;
/** How many comments are kept for a video. */
const BUFFER_MAX = 10_000;
/** How often to look while comments wait: a video may be paused, moved or played faster at any time. */
const LOOK_MS = 50;
/** A video's time that jumps by more than this has been moved. */
const SEEK_MS = 1000;
