// The SDK where it can only pull: segments from a script, on a fake clock.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DanmakuRoom } from '../sdk/index.js';
import { json, refuse, stage } from './support/doubles.js';
import { settle } from './support/fake_clock.js';

const LENGTH_MS = 2000;

/** A server of segments: `post(text)` adds a comment now. */
function segments(clock, skewMs = 0) {
  const start = clock.now() + skewMs;
  const entries = [];
  const now = () => clock.now() + skewMs;
  const server = {
    epoch: 7,
    likes: 0,
    isDown: false,
    goneBefore: 0,
    requested: [],
    n: () => Math.floor((now() - 1000) / LENGTH_MS) - 1,
    post: (text) => entries.push({ text, id: entries.length + 1, ts: now() }),
    retract: (id) => entries.push({ retracted: id, id: entries.length + 1, ts: now() }),
    script({ url }) {
      if (server.isDown || !url.pathname.includes('/segments/')) throw new TypeError('fetch failed');
      const name = url.pathname.split('/segments/')[1];
      server.requested.push(name);
      if (name === 'head') return server.head();
      return server.segment(Number(name.split('/')[1]));
    },
    head() {
      const n = server.n();
      const seq = entries.filter(({ ts }) => ts < (n + 1) * LENGTH_MS).at(-1)?.id ?? 0;
      return json({ room: 'r', epoch: server.epoch, length_ms: LENGTH_MS, n, seq, now: now(), viewers: 17, likes: server.likes });
    },
    segment(n) {
      if (n < server.goneBefore) return refuse(410, 'segment_gone');
      if (n > server.n()) return refuse(404, 'segment_not_ready', { retry_after_ms: 300 });
      const [begin, end] = [n * LENGTH_MS, (n + 1) * LENGTH_MS];
      const after = entries.filter(({ ts }) => ts < begin).at(-1)?.id ?? 0;
      const held = entries.filter(({ ts }) => ts >= begin && ts < end);
      const comments = held.filter(({ text }) => text);
      const ids = comments.map(({ id }, index) => id - (comments[index - 1]?.id ?? after));
      const at = comments.map(({ ts }) => Math.floor((end - ts) / 100));
      const events = held.filter(({ retracted }) => retracted).map(({ id, retracted }) => ({ id, type: 'retract', ids: [retracted] }));
      const seq = held.at(-1)?.id ?? after;
      return json({ room: 'r', epoch: server.epoch, length_ms: LENGTH_MS, n, after, seq, ts: end, ids, at, comments: comments.map(({ text }) => ({ text })), events });
    },
    start,
  };
  return server;
}

async function joined({ skewMs, before = () => {}, ...options } = {}) {
  let server;
  const all = stage(DanmakuRoom, { transports: ['pull'], autoConnect: false, script: (request) => server.script(request), ...options });
  server = segments(all.clock, skewMs);
  await before({ ...all, server });
  all.room.connect();
  await settle();
  return { ...all, server, texts: () => all.log.comment.map(({ text }) => text).join(' ') };
}

for (const skewMs of [0, 3_600_000, -77_777]) {
  test(`reads each segment once, soon after it is complete; clocks differ by ${skewMs} ms`, async () => {
    const { room, clock, server, log, texts } = await joined({ skewMs, history: 0 });
    assert.deepEqual([room.state, room.transport, room.viewers], ['joined', 'pull', 17]);
    const delays = [];
    room.on('comment', ({ ts }) => delays.push(clock.now() + skewMs - ts));
    for (let i = 0; i < 60; i += 1) {
      server.post(`${i}`);
      await clock.advance(500);
    }
    await clock.advance(5000);
    assert.equal(texts(), Array.from({ length: 60 }, (_, index) => `${index}`).join(' '));
    assert.deepEqual([log.gap, log.stale, log.error], [[], [], []]);
    const read = server.requested.filter((name) => name !== 'head');
    assert.equal(new Set(read).size, read.length, 'no segment twice, none too early');
    assert.ok(server.requested.length <= read.length + 1 + Math.ceil(read.length / 5));
    assert.ok(Math.max(...delays) <= 2 * LENGTH_MS + 1000 + 100 && Math.min(...delays) >= 1000, `${delays}`);
    room.close();
    assert.equal(clock.pending, 0);
  });
}

test('history, retractions, viewers and likes', async () => {
  const { server, clock, log, texts, room } = await joined({
    history: 3,
    before: async ({ server: early, clock: time }) => {
      for (let i = 0; i < 8; i += 1) {
        early.post(`${i}`);
        await time.advance(1000);
      }
      await time.advance(2000);
    },
  });
  assert.equal(texts(), '4 5 6 7');
  assert.ok(log.comment.every(({ replay }) => replay));
  server.post('live');
  server.retract(9);
  server.likes = 5;
  await clock.advance(12_000);
  assert.deepEqual(log.retract, [{ ids: [9] }]);
  assert.deepEqual(log.likes, [{ count: 5, total: 5 }]);
  room.close();
});

test('resumes where it was, without a gap', async () => {
  const { server, clock, log, texts, room } = await joined({ history: 0, staleMs: 60_000 });
  server.post('one');
  await clock.advance(8000);
  server.isDown = true;
  await clock.advance(4000);
  assert.equal(room.state, 'reconnecting');
  server.post('two');
  await clock.advance(9000);
  server.post('three');
  server.isDown = false;
  await clock.advance(40_000);
  assert.equal(room.state, 'joined');
  assert.equal(texts(), 'one two three');
  assert.deepEqual([log.gap, log.clear], [[], []]);
  room.close();
});

test('says what the server no longer has', async () => {
  const { server, clock, log, room } = await joined({ history: 0 });
  server.post('one');
  await clock.advance(8000);
  server.isDown = true;
  await clock.advance(3000);
  server.post('two');
  await clock.advance(60_000);
  server.post('three');
  await clock.advance(4000);
  server.isDown = false;
  server.goneBefore = server.n() - 1;
  await clock.advance(40_000);
  assert.deepEqual(log.gap, [{ after: 1, seq: 2 }]);
  assert.equal(log.clear.length, 1);
  room.close();
});

test('a new epoch starts over', async () => {
  const { server, clock, log, room } = await joined({ history: 0 });
  await clock.advance(4000);
  server.epoch = 8;
  await clock.advance(6000);
  assert.equal(log.error[0].code, 'new_epoch');
  assert.deepEqual([room.state, room.position.epoch, log.clear.length], ['joined', 8, 1]);
  room.close();
});

test('a page that was frozen joins again', async () => {
  const { server, clock, texts, room } = await joined({ history: 0 });
  for (let i = 0; i < 100; i += 1) {
    server.post(`${i}`);
    await clock.freeze(1000);
    if (i === 50) await clock.freeze(300_000);
  }
  const before = server.requested.length;
  await clock.advance(6000);
  assert.ok(server.requested.length - before < 40, 'bounded');
  assert.ok(texts().endsWith('98 99'), texts());
  room.close();
});

test('pulls where WebSockets and events are blocked', async () => {
  let server;
  const { room, sockets, clock } = stage(DanmakuRoom, {
    script(request) {
      if (request.url.pathname.endsWith('/ws')) return refuse(426, 'upgrade_required');
      return server.script(request);
    },
  });
  server = segments(clock);
  await settle();
  await sockets[0].drop();
  assert.deepEqual([room.state, room.transport], ['joined', 'pull']);
  room.close();
  assert.equal(clock.pending, 0);
});
