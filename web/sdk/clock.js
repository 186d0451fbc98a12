// Time, and timers that can be set again and cleared.

/** @import { Clock as Source } from './index.js' */

/** @typedef {ReturnType<typeof createClock>} Clock */

/** @param {Source} source */
export function createClock(source) {
  return {
    now: () => source.now(),
    timer() {
      /** @type {unknown} */
      let id = null;
      const clear = () => {
        source.clearTimeout(id);
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
          id = source.setTimeout(() => {
            id = null;
            callback();
          }, ms);
        },
      };
    },
  };
}
