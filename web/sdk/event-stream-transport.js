// A room as Server-Sent Events, read with fetch: unlike an EventSource it sees error responses and takes headers.

/** @import { Open } from './transport.js' */

import { DanmakuError, closeError, networkError } from './errors.js';

/** @type {Open} */
export function openEventStream({ http, query, clock }, listener) {
  const abort = new AbortController();
  const silence = clock.timer();

  /** @param {Response} response */
  async function read({ body }) {
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
        // Each of ours has one line of data, a heartbeat has none.
        const [, data] = /^data: ?(.*)$/m.exec(event) ?? [];
        if (!data) continue;
        const message = JSON.parse(data);
        if (message.type === 'close') throw closeError(message.code, message.reason, message.reconnect);
        listener.message(message, bytes);
        bytes = 0;
      }
    }
  }

  http.request('events', { abort, query, cache: 'no-store' }, read).catch(listener.end);
  return {
    encoding: null,
    close() {
      silence.clear();
      abort.abort();
    },
  };
}

/** Twice the time between the server's heartbeats. */
const SILENCE_MS_MAX = 120_000;
const EVENT_CHARS_MAX = 16 << 20;
