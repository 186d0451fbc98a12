// A room as segments: plain, cacheable responses, each a fixed stretch of time, made into the messages of a connection.

/** @import { Open } from './transport.js' */

import { asDanmakuError, closeError, networkError } from './errors.js';
import { createTimer } from './timer.js';

/** @type {Open} */
export function open({ http, position, history, clock }, listener) {
  const abort = new AbortController();
  const timer = createTimer(clock);
  /** Each viewer has its own part of a segment's time to ask in, or all would ask at once. */
  const offset = Math.random();
  /** What to add to our clock to get the server's. */
  let skewMs = 0;
  /** @type {any} */
  let head;

  /** @param {number} ms @returns {Promise<void>} */
  const sleep = (ms) => new Promise((done) => timer.set(ms, done));

  /** @param {string} name */
  async function get(name) {
    timer.set(RESPONSE_MS_MAX, () => abort.abort());
    const response = await http.request(`segments/${name}`, { signal: abort.signal });
    const body = await response.blob();
    const message = { ...JSON.parse(await body.text()), bytes: body.size };
    if (head && message.epoch !== head.epoch) throw closeError(4003, 'new epoch');
    return message;
  }

  async function getHead() {
    head = await get('head');
    skewMs = head.now - clock.now();
  }

  /**
   * A segment, or `null` if the server doesn't have it.
   *
   * @param {number} n
   */
  async function read(n) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await get(`${head.length_ms}/${n}`);
      } catch (error) {
        const { code, retryAfterMs = 1000 } = asDanmakuError(error);
        if (!MISSING.has(code)) throw error;
        if (code !== 'segment_not_ready' || tries === TRIES_MAX) return null;
        await sleep(Math.min(retryAfterMs, head.length_ms));
      }
    }
  }

  async function run() {
    await getHead();
    const { epoch, n, seq, length_ms } = head;
    const known = position && position.epoch === epoch ? position.seq : -1;
    const countMax = known < 0 ? HISTORY_MAX : MISSED_MAX;
    const segments = [];
    let begin = seq;
    let missing = known < 0 ? history : Infinity;
    // Backwards, until the history is long enough or nothing is missing.
    while (segments.length < countMax && missing > 0 && begin > known) {
      const segment = await read(n - segments.length);
      if (!segment) break;
      segments.unshift(segment);
      begin = segment.after;
      missing -= segment.comments.length;
    }
    const after = known < 0 ? begin : known;
    tell({ type: 'joined', after, window_ms: length_ms, resumed: begin <= known, likes: 0 });
    segments.forEach(hand);
    for (let next = n + 1; ; next += 1) {
      if (next % HEAD_EVERY === 0) {
        const { likes } = head;
        await getHead();
        tell({ type: 'counts', likes: head.likes - likes });
      }
      const waitMs = (next + 1 + offset) * length_ms + COMPLETE_MS - skewMs - clock.now();
      // A page that was frozen joins again instead of reading what nobody wants to see.
      if (waitMs < -BEHIND_MS_MAX) throw networkError('fell behind');
      await sleep(waitMs);
      const segment = await read(next);
      if (!segment) throw networkError('a segment is missing');
      hand(segment);
    }
  }

  /** @param {object} members beside those of the head */
  const tell = (members) => listener.message({ ...head, ...members }, 0);

  /** @param {any} segment */
  const hand = (segment) => listener.message({ ...segment, type: 'batch', sentAt: clock.now() + skewMs }, segment.bytes);

  run().catch(listener.end);
  return {
    close() {
      timer.clear();
      abort.abort();
    },
  };
}

/** A segment is served once this time has passed since its end. */
const COMPLETE_MS = 1000;
const MISSING = new Set(['segment_gone', 'segment_not_ready', 'room_not_found']);
const RESPONSE_MS_MAX = 10_000;
const TRIES_MAX = 5;
const BEHIND_MS_MAX = 60_000;
/** In segments. */
const HISTORY_MAX = 5;
const MISSED_MAX = 30;
/** Counts are asked for once in so many segments. */
const HEAD_EVERY = 5;
