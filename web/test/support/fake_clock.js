// Time that passes only when a test says so.

/** A clock for the SDK's `clock` option. */
export class FakeClock {
  #now;
  #timers = new Map();
  #ids = 0;

  constructor(now = 1_764_000_000_000) {
    this.#now = now;
  }

  now = () => this.#now;

  setTimeout = (callback, ms) => {
    this.#ids += 1;
    this.#timers.set(this.#ids, { callback, at: this.#now + Math.max(0, ms) });
    return this.#ids;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  /** How many timers are set. */
  get pending() {
    return this.#timers.size;
  }

  /** Lets `ms` pass, and everything happen that is due meanwhile. */
  async advance(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settle();
      const [id, next] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!next || next.at > end) break;
      this.#now = Math.max(this.#now, next.at);
      this.#timers.delete(id);
      next.callback();
    }
    this.#now = end;
    await settle();
  }

  /** Lets `ms` pass as for a page in the background: no timer runs before the end of it. */
  async freeze(ms) {
    this.#now += ms;
    await this.advance(0);
  }
}

/** Lets promises and streams come to rest. */
export async function settle() {
  for (let i = 0; i < 5; i += 1) await new Promise((done) => setImmediate(done));
}
