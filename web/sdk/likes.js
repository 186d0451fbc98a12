// Likes until they are sent: added up, one message a second.

/** @import { Clock } from './index.js' */

export class Likes {
  #waiting = 0;
  #sentAt = -Infinity;
  /** @type {unknown} */
  #timer = null;
  #clock;
  #send;

  /**
   * @param {Clock} clock
   * @param {(count: number) => boolean} send false if there is no way to the server now
   */
  constructor(clock, send) {
    this.#clock = clock;
    this.#send = send;
  }

  /** @param {number} count */
  add(count) {
    this.#waiting = Math.min(WAITING_MAX, this.#waiting + count);
    this.flush();
  }

  flush() {
    if (this.#timer !== null || this.#waiting < 1) return;
    const waitMs = this.#sentAt + EVERY_MS - this.#clock.now();
    if (waitMs <= 0) {
      const count = Math.min(this.#waiting, MESSAGE_COUNT_MAX);
      if (!this.#send(count)) return;
      this.#waiting -= count;
      this.#sentAt = this.#clock.now();
    }
    if (this.#waiting > 0) this.pause(Math.max(waitMs, 0) || EVERY_MS);
  }

  /** @param {number} ms from now on, in which nothing is sent */
  pause(ms) {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = this.#clock.setTimeout(() => {
      this.#timer = null;
      this.flush();
    }, ms);
  }

  close() {
    this.#clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#waiting = 0;
  }
}

const EVERY_MS = 1000;
const MESSAGE_COUNT_MAX = 100;
const WAITING_MAX = 1000;
