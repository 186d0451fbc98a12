// Decides when a comment is handed out: at once, in the rhythm of the chat, or in step with a video.

/** @import { Comment, SyncSource } from './index.js' */
/** @import { Context } from './feed.js' */
/** @import { Limits, Outlet } from './schedule.js' */

import { createSchedule } from './schedule.js';

/**
 * @param {Limits & {paced: boolean}} limits
 * @param {Outlet} outlet
 */
export function createPlayout(limits, outlet) {
  const { clock, paced, staleMs } = limits;
  /** @type {(() => number | null) | null} */
  let video = null;
  let schedule = createSchedule(limits, outlet, video);
  let lastDue = 0;
  /** How far the server's clock was behind ours when live batches came, on their way included. @type {number[]} */
  const lags = [];
  // The smallest: a page that was frozen gets its batches late, and that is not the clocks' fault.
  const serverNow = () => clock.now() - (lags.length > 0 ? Math.min(...lags) : 0);

  /**
   * @param {Comment[]} comments
   * @param {number} windowMs how long they were collected; 0 hands them out now
   * @param {boolean} [isHistory]
   */
  function wait(comments, windowMs, isHistory = false) {
    const now = clock.now();
    schedule.add(
      comments.map((comment) => {
        if (video) return [comment, comment.ts];
        // A quiet room's batch is sent at once: its first comment doesn't wait for a window that never was.
        const due = now + Math.min(comment.ts - comments[0].ts, windowMs);
        // In order, unless the clock was set back.
        lastDue = Math.max(due, Math.min(lastDue, now + windowMs));
        return [comment, lastDue];
      }),
      isHistory,
    );
  }

  return {
    /**
     * @param {Comment[]} comments
     * @param {Context & {replay: boolean}} context
     */
    add(comments, { windowMs, resumed, sentAt, replay }) {
      if (!replay) lags.push(clock.now() - sentAt);
      if (lags.length > LAGS_MAX) lags.shift();
      // History was asked for, however old it is; what was missed meanwhile was not.
      const isHistory = replay && !resumed;
      if (video) return wait(comments, windowMs, isHistory);
      const oldest = isHistory || lags.length === 0 ? 0 : serverNow() - staleMs;
      const fresh = comments.filter(({ ts }) => ts >= oldest);
      if (fresh.length < comments.length) outlet.drop(comments.length - fresh.length);
      if (paced && !isHistory) wait(fresh, windowMs);
      else fresh.forEach(outlet.show);
    },
    /** @param {number[]} ids */
    retract: (ids) => schedule.retract(ids),
    clear: () => schedule.clear(),
    /** @param {SyncSource} source */
    syncTo(source) {
      const waiting = schedule.clear();
      video = source === null ? null : timeOnScreen(source, serverNow);
      schedule = createSchedule(limits, outlet, video);
      wait(waiting, 0);
    },
  };
}

/**
 * The wall-clock time of what is on screen, or `null` while that isn't known.
 *
 * @param {Exclude<SyncSource, null>} source
 * @param {() => number} serverNow
 * @returns {() => number | null}
 */
function timeOnScreen(source, serverNow) {
  const video = /** @type {HTMLVideoElement & {getStartDate?: () => Date}} */ (source);
  /** @returns {unknown} */
  let time = () => Number(video.getStartDate?.()) + video.currentTime * 1000;
  if (typeof source === 'number') time = () => serverNow() - source;
  else if (typeof source === 'function') time = source;
  else if (!video.getStartDate) throw new TypeError('a video without getStartDate(): pass a function');
  return () => {
    const ms = Number(time() ?? NaN);
    return Number.isFinite(ms) ? ms : null;
  };
}

const LAGS_MAX = 120;
