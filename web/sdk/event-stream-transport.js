// A room as Server-Sent Events, read with fetch: unlike an EventSource it sees error responses and takes headers.

/** @import { Open } from './transport.js' */

import { closeError, networkError } from './errors.js';
import { createTimer } from './timer.js';

/** @type {Open} */
export function open({ http, query, clock }, listener) {
  const abort = new AbortController();
  const silence = createTimer(clock);

  async function read() {
    const { body } = await http.request('events', { signal: abort.signal, query, cache: 'no-store' });
    const reader = /** @type {ReadableStream<Uint8Array>} */ (body).getReader();
    const utf8 = new TextDecoder();
    let rest = '';
    let bytes = 0;
    for (;;) {
      silence.set(SILENCE_MS_MAX, () => abort.abort());
      const { value, done } = await reader.read();
      if (done) throw networkError('the event stream ended');
      bytes += value.length;
      const lines = (rest + utf8.decode(value, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        // Each of our events has one line of data, a heartbeat has none.
        if (!line.startsWith('data:')) continue;
        const message = JSON.parse(line.slice(5));
        if (message.type === 'close') throw closeError(message.code, message.reason, message.reconnect);
        listener.message(message, bytes);
        bytes = 0;
      }
    }
  }

  read().catch(listener.end);
  return {
    close() {
      silence.clear();
      abort.abort();
    },
  };
}

/** Twice the time between the server's heartbeats. */
const SILENCE_MS_MAX = 120_000;
