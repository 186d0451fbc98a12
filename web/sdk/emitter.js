// Listeners by type of event.

/** @template {object} Events */
export class Emitter {
  /** @type {{[K in keyof Events]?: Set<(detail: any) => void>}} */
  #listeners = {};

  /**
   * @template {keyof Events} K
   * @param {K} type
   * @param {(detail: Events[K]) => void} listener
   */
  on(type, listener) {
    (this.#listeners[type] ??= new Set()).add(listener);
    return () => this.off(type, listener);
  }

  /**
   * @template {keyof Events} K
   * @param {K} type
   * @param {(detail: Events[K]) => void} listener
   */
  once(type, listener) {
    const off = this.on(type, (detail) => {
      off();
      listener(detail);
    });
    return off;
  }

  /**
   * @template {keyof Events} K
   * @param {K} type
   * @param {(detail: Events[K]) => void} listener
   */
  off(type, listener) {
    this.#listeners[type]?.delete(listener);
  }

  /**
   * @template {keyof Events} K
   * @param {K} type
   * @param {Events[K]} detail
   */
  emit(type, detail) {
    for (const listener of [...(this.#listeners[type] ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        // A page's fault must not stop the stream; it still shows up as an uncaught error.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
