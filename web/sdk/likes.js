// Likes until they are sent: added up, one message a second.

/** @import { Clock } from './clock.js' */
/** @import { Emit } from './feed.js' */
/** @import { Http } from './http.js' */
/** @import { Link } from './transport.js' */


/**
 * @param {object} options
 * @param {Clock} options.clock
 * @param {Http} options.http
 * @param {() => Link | null} options.link
 * @param {Emit} options.emit
 */
export function createLikes({ clock, http, link, emit }) {
  const timer = clock.timer();
  let waiting = 0;

  function send() {
    const to = link();
    if (!to || waiting < 1 || timer.isSet()) return;
    const count = Math.min(waiting, COUNT_MAX);
    waiting -= count;
    timer.set(EVERY_MS, send);
    if (to.send) to.send({ type: 'like', count });
    else http.request('likes', { body: { count } }, async () => {}).catch(reject);
  }

  /** @param {import('./errors.js').DanmakuError} error */
  function reject(error) {
    // Likes that got lost aren't worth an alarm; the connection notices by itself that the server is gone.
    if (error.code === 'network') return;
    timer.set(error.retryAfterMs ?? EVERY_MS, send);
    emit('error', error);
  }

  return {
    /** @param {number} count */
    add(count) {
      waiting = Math.min(WAITING_MAX, waiting + Math.max(0, Math.trunc(count) || 0));
      send();
    },
    joined: send,
    reject,
    close() {
      timer.clear();
      waiting = 0;
    },
  };
}

const EVERY_MS = 1000;
const COUNT_MAX = 100;
const WAITING_MAX = 1000;
