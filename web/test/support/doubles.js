// Stand-ins for what connects the SDK to a server, played by the test.

import { FakeClock, settle } from './fake_clock.js';
// The SDK loads these when it needs them, which would take real time.
import '../../sdk/event-stream-transport.js';
import '../../sdk/pull-transport.js';

/** A room of the SDK on a fake clock, with fake sockets and a scripted fetch. */
export function stage(DanmakuRoom, { url = 'http://chat.test', script = () => unreachable(), ...options } = {}) {
  const clock = new FakeClock();
  const sockets = [];
  const requests = [];
  class FakeSocket {
    readyState = 0;
    sent = [];
    constructor(target) {
      this.url = new URL(target);
      sockets.push(this);
    }
    /** The handshake succeeds, and the server says `joined`. */
    async join(members = {}) {
      this.readyState = 1;
      await this.say({ type: 'joined', room: 'r', epoch: 7, after: 0, seq: 0, window_ms: 1000, viewers: 1, resumed: false, ...members });
    }
    async say(message) {
      this.onmessage?.({ data: typeof message === 'object' && !(message instanceof ArrayBuffer) ? JSON.stringify(message) : message });
      await settle();
    }
    async drop(code = 1006, reason = '') {
      this.readyState = 3;
      this.onclose?.({ code, reason });
      await settle();
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close() {
      this.readyState = 3;
      this.isClosed = true;
    }
  }
  const room = new DanmakuRoom(url, 'r', {
    clock,
    WebSocket: FakeSocket,
    fetch: async (target, init) => {
      const request = { url: new URL(target), ...init };
      requests.push(request);
      return script(request);
    },
    encoding: 'identity',
    ...options,
  });
  const log = record(room);
  return { room, clock, sockets, requests, log };
}

/** Everything a room reports, by type of event. */
export function record(room) {
  const log = { all: [] };
  for (const type of ['comment', 'comments', 'retract', 'clear', 'batch', 'viewers', 'likes', 'gap', 'stale', 'state', 'error']) {
    log[type] = [];
    room.on(type, (detail) => {
      log[type].push(detail);
      log.all.push(type);
    });
  }
  return log;
}

/** A batch as the server writes it; `seq` counts its comments unless given. */
export function batch(after, texts, { ts = 1_764_000_000_000, ...members } = {}) {
  const comments = texts.map((comment) => (typeof comment === 'string' ? { text: comment } : comment));
  return { type: 'batch', after, seq: after + comments.length, ts, viewers: 1, comments, ...members };
}

export const json = (body, { status = 200, headers = {} } = {}) => new Response(JSON.stringify(body), { status, headers });

export const refuse = (status, code, members = {}) => json({ error: { code, message: code, ...members } }, { status });

/** What fetch does when nobody listens. */
export function unreachable() {
  throw new TypeError('fetch failed');
}
