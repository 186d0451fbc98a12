// Likes until they are sent: added up, one message a second.

/** @import { Clock, RoomEvents } from './index.js' */
/** @import { Emitter } from './emitter.js' */
/** @import { Http } from './http.js' */
/** @import { Link } from './transport.js' */

import { asDanmakuError } from './errors.js';
import { createTimer } from './timer.js';

/**
 * @param {object} options
 * @param {Clock} options.clock
 * @param {Http} options.http
 * @param {() => Link | null} options.link
 * @param {Emitter<RoomEvents>} options.room
 */
export function createLikes({ clock, http, link, room }) {
  const timer = createTimer(clock);
  let waiting = 0;

  function send() {
    const to = link();
    if (!to || waiting < 1 || timer.isSet()) return;
    const count = Math.min(waiting, COUNT_MAX);
    waiting -= count;
    timer.set(EVERY_MS, send);
    if (to.send) to.send({ type: 'like', count });
    else http.request('likes', { body: { count } }).catch(reject);
  }

  /** @param {unknown} cause */
  function reject(cause) {
    const error = asDanmakuError(cause);
    // Likes that got lost aren't worth an alarm; the connection notices by itself that the server is gone.
    if (error.code === 'network') return;
    timer.set(error.retryAfterMs ?? EVERY_MS, send);
    room.emit('error', error);
  }

  return {
    /** @param {number} count */
    add(count) {
      if (count >= 1) waiting += Math.trunc(count);
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
