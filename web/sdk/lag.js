// How far the server's clock seems to be behind ours: the difference of the clocks and the time on the way.

export class Lag {
  /** @type {number[]} */
  #recent = [];

  /** @param {number} ms from the sealing of a live batch, by the server's clock, to its arrival, by ours */
  add(ms) {
    this.#recent.push(ms);
    if (this.#recent.length > RECENT_MAX) this.#recent.shift();
  }

  /** The smallest of late: a page that was frozen gets its batches late, and that is not the clocks' fault. */
  get ms() {
    return this.#recent.length > 0 ? Math.min(...this.#recent) : null;
  }
}

const RECENT_MAX = 120;
