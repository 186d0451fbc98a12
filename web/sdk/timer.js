// A timer that can be set again and cleared.

/** @import { Clock } from './index.js' */

/** @typedef {ReturnType<typeof createTimer>} Timer */

/** @param {Clock} clock */
export function createTimer({ setTimeout, clearTimeout }) {
  /** @type {unknown} */
  let id = null;
  const clear = () => {
    clearTimeout(id);
    id = null;
  };
  return {
    clear,
    isSet: () => id !== null,
    /**
     * @param {number} ms
     * @param {() => void} callback
     */
    set(ms, callback) {
      clear();
      id = setTimeout(() => {
        id = null;
        callback();
      }, ms);
    },
  };
}
