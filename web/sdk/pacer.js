// Hands out live comments in the rhythm they were posted in.

/** @import { Clock, Comment } from './index.js' */

/**
 * @typedef {object} Outlet where a schedule's comments go
 * @property {(comment: Comment) => void} show
 * @property {(count: number) => void} drop
 */

/**
 * @typedef {object} Limits
 * @property {number} pendingMax
 * @property {number} staleMs
 */

/** @typedef {{comment: Comment, due: number}} Waiting */

export class Pacer {
  /** In order of `due`. @type {Waiting[]} */
  #waiting = [];
  /** @type {unknown} */
  #timer = null;
  #clock;
  #limits;
  #outlet;

  /**
   * @param {Clock} clock
   * @param {Limits} limits
   * @param {Outlet} outlet
   */
  constructor(clock, limits, outlet) {
    this.#clock = clock;
    this.#limits = limits;
    this.#outlet = outlet;
  }

  /**
   * @param {Comment[]} comments
   * @param {number} windowMs how long their batch was collected; 0 hands them out now
   */
  add(comments, windowMs) {
    const now = this.#clock.now();
    // A quiet room's batch is sent at once, so the first comment isn't made to wait for a window that never was.
    const first = comments[0]?.ts;
    for (const comment of comments) {
      const due = Math.max(now + Math.min(comment.ts - first, windowMs), this.#waiting.at(-1)?.due ?? 0);
      this.#waiting.push({ comment, due });
    }
    this.#run();
  }

  /** @param {Set<number>} ids */
  retract(ids) {
    this.#waiting = this.#waiting.filter(({ comment }) => !ids.has(comment.id));
  }

  /** Takes everything that waits. */
  clear() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    return this.#waiting.splice(0).map(({ comment }) => comment);
  }

  #run() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    const now = this.#clock.now();
    const { pendingMax, staleMs } = this.#limits;
    // Timers of a page in the background come late or not at all.
    let stale = Math.max(0, this.#waiting.length - pendingMax);
    while (stale < this.#waiting.length && this.#waiting[stale].due < now - staleMs) stale += 1;
    if (stale > 0) {
      this.#waiting.splice(0, stale);
      this.#outlet.drop(stale);
    }
    while (this.#waiting.length > 0 && this.#waiting[0].due <= now) {
      this.#outlet.show(/** @type {Waiting} */ (this.#waiting.shift()).comment);
    }
    // A listener may have added or cleared meanwhile.
    if (this.#waiting.length > 0 && this.#timer === null) {
      this.#timer = this.#clock.setTimeout(() => this.#run(), this.#waiting[0].due - now);
    }
  }
}
