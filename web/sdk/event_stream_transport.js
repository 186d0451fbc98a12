// A room as Server-Sent Events, read with fetch: unlike an EventSource it sees error responses and takes headers.

/** @import { Encoding } from './index.js' */
/** @import { Open } from './transport.js' */

import { DanmakuError, closeError, networkError } from './errors.js';
import { since } from './http.js';

/** @type {Open} */
export function openEventStream({ http, position, history, clock }, listener) {
  const abort = new AbortController();
  const silence = clock.timer();
  /** @type {Encoding | null} */
  let encoding = null;

  /** @param {Response} response */
  async function read({ headers, body }) {
    // Pages of other origins can't see this header.
    if (headers.get('content-encoding') === 'gzip') encoding = 'gzip';
    const reader = /** @type {ReadableStream<Uint8Array>} */ (body).getReader();
    const utf8 = new TextDecoder();
    let rest = '';
    let bytes = 0;
    for (;;) {
      silence.set(SILENCE_MS_MAX, () => abort.abort());
      const { value, done } = await reader.read();
      if (done) throw networkError('the event stream ended');
      bytes += value.length;
      const events = (rest + utf8.decode(value, { stream: true })).split('\n\n');
      rest = events.pop() ?? '';
      if (rest.length > EVENT_CHARS_MAX) throw new DanmakuError('corrupted_frame', 'an event without an end');
      for (const event of events) {
        const message = parse(event);
        if (!message) continue;
        listener.message(message, bytes);
        bytes = 0;
      }
    }
  }

  const query = { since: since(position), history };
  http.request('events', { abort, query, ms: 0, cache: 'no-store' }, read).catch(listener.end);
  return {
    get encoding() {
      return encoding;
    },
    close() {
      silence.clear();
      abort.abort();
    },
  };
}

/** @param {string} event each of ours has one line of data, a heartbeat has none */
function parse(event) {
  const [, data] = /^data: ?(.*)$/m.exec(event) ?? [];
  if (!data) return null;
  let message;
  try {
    message = JSON.parse(data);
  } catch (cause) {
    throw new DanmakuError('corrupted_frame', 'an event is not JSON', { cause });
  }
  if (message.type === 'close') throw closeError(message.code, message.reason, message.reconnect);
  return message;
}

/** Twice the time between the server's heartbeats. */
const SILENCE_MS_MAX = 120_000;
const EVENT_CHARS_MAX = 16 << 20;
