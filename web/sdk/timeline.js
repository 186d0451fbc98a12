// Hands out comments in step with a video that runs behind: each when the frame of its time is on screen.

/** @import { Clock, Comment, SyncSource } from './index.js' */
/** @import { Limits, Outlet } from './pacer.js' */

/** @typedef {{comment: Comment, isPast: boolean}} Entry `isPast`: it was handed out, or was not wanted any more */

export class Timeline {
  /** By time; what has been handed out stays for a video that is moved back. @type {Entry[]} */
  #entries = [];
  /** @type {unknown} */
  #timer = null;
  /** The time on screen at the last look, and when that was. @type {number | null} */
  #shownAt = null;
  #lookedAt = 0;
  #clock;
  #limits;
  #outlet;
  #timeOnScreen;

  /**
   * @param {Clock} clock
   * @param {Limits} limits
   * @param {Outlet} outlet
   * @param {() => number | null} timeOnScreen milliseconds since 1970, by the server's clock
   */
  constructor(clock, limits, outlet, timeOnScreen) {
    this.#clock = clock;
    this.#limits = limits;
    this.#outlet = outlet;
    this.#timeOnScreen = timeOnScreen;
  }

  /** @param {Comment[]} comments */
  add(comments) {
    this.#entries.push(...comments.map((comment) => ({ comment, isPast: false })));
    this.#entries.sort((a, b) => a.comment.ts - b.comment.ts || a.comment.id - b.comment.id);
    const dropped = this.#entries.splice(0, Math.max(0, this.#entries.length - ENTRIES_MAX));
    this.#drop(dropped.filter(({ isPast }) => !isPast).length);
    this.#look();
  }

  /** @param {Set<number>} ids */
  retract(ids) {
    this.#entries = this.#entries.filter(({ comment }) => !ids.has(comment.id));
  }

  /** Takes everything that waits. */
  clear() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    return this.#entries.splice(0).flatMap(({ comment, isPast }) => (isPast ? [] : [comment]));
  }

  #look() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    const now = this.#clock.now();
    const time = this.#timeOnScreen();
    let nextMs = LOOK_MS;
    if (time !== null) {
      const { oldest, isSeek } = this.#follow(time, now);
      nextMs = this.#handOut(time, oldest, isSeek);
    }
    if (this.#entries.length > 0 && this.#timer === null) {
      this.#timer = this.#clock.setTimeout(() => this.#look(), nextMs);
    }
  }

  /**
   * Notices a seek: what is older than `oldest` is not wanted now.
   *
   * @param {number} time
   * @param {number} now
   */
  #follow(time, now) {
    const expected = this.#shownAt === null ? time : this.#shownAt + now - this.#lookedAt;
    const isBack = this.#shownAt !== null && time < this.#shownAt - SEEK_MS;
    const isForward = time > expected + SEEK_MS;
    // A clock that trembles must not hand out the same comment twice.
    if (isBack || this.#shownAt === null || time > this.#shownAt) {
      this.#shownAt = time;
      this.#lookedAt = now;
    }
    if (isBack) {
      for (const entry of this.#entries) if (entry.comment.ts > time) entry.isPast = false;
    }
    const isSeek = isBack || isForward;
    return { isSeek, oldest: time - (isSeek ? SEEK_MS : this.#limits.staleMs) };
  }

  /**
   * @param {number} time
   * @param {number} oldest
   * @param {boolean} isSeek
   * @returns {number} when to look again
   */
  #handOut(time, oldest, isSeek) {
    let stale = 0;
    let nextMs = LOOK_MS;
    /** @type {Comment[]} */
    const due = [];
    for (const entry of this.#entries) {
      const { comment, isPast } = entry;
      if (comment.ts > time) {
        nextMs = Math.min(nextMs, Math.max(LOOK_MS_MIN, comment.ts - time));
        break;
      }
      if (isPast) continue;
      entry.isPast = true;
      if (comment.ts >= oldest) due.push(comment);
      else if (!isSeek && !comment.replay) stale += 1;
    }
    const surplus = Math.max(0, due.length - this.#limits.pendingMax);
    this.#drop(stale + surplus);
    due.slice(surplus).forEach(this.#outlet.show);
    return nextMs;
  }

  /** @param {number} count */
  #drop(count) {
    if (count > 0) this.#outlet.drop(count);
  }
}

/**
 * The wall-clock time of what is on screen.
 *
 * @param {Exclude<SyncSource, null>} source
 * @param {() => number} serverNow
 * @returns {() => number | null}
 */
export function timeOnScreen(source, serverNow) {
  if (typeof source === 'number') return () => serverNow() - source;
  if (typeof source === 'function') return () => finite(source());
  const video = /** @type {HTMLVideoElement & {getStartDate?: () => Date}} */ (source);
  if (!video.getStartDate) throw new TypeError('this video has no getStartDate(): pass a function instead');
  return () => finite(Number(video.getStartDate?.()) + video.currentTime * 1000);
}

/** @param {Date | number | null | undefined} time */
function finite(time) {
  const ms = Number(time ?? NaN);
  return Number.isFinite(ms) ? ms : null;
}

const ENTRIES_MAX = 10_000;
/** How often to look at the video: it may be paused, moved or played faster at any time. */
const LOOK_MS = 50;
const LOOK_MS_MIN = 5;
/** The video's time has jumped by more than this: the viewer has moved it. */
const SEEK_MS = 1000;
