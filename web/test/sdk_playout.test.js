// When the SDK hands comments out: in the rhythm of the chat, and in step with a video. All on a fake clock.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DanmakuRoom } from '../sdk/index.js';
import { batch, stage } from './support/doubles.js';
import { settle } from './support/fake_clock.js';

/** A joined room, and how late after `start` each comment was handed out. */
async function joined(options) {
  const all = stage(DanmakuRoom, options);
  await settle();
  const [socket] = all.sockets;
  await socket.join();
  const start = all.clock.now();
  const shown = [];
  all.room.on('comment', ({ text }) => shown.push([text, all.clock.now() - start]));
  let seq = 0;
  /** A live batch that is sealed now; each comment is `[text, tenths of a second before]`. */
  const say = async (comments, members = {}) => {
    const message = batch(seq, comments.map(([text]) => text), { ts: all.clock.now(), ...members });
    seq = message.seq;
    await socket.say({ ...message, at: comments.map(([, at]) => at) });
  };
  return { ...all, socket, start, shown, say, texts: () => shown.map(([text]) => text).join(' ') };
}

/** Comments `from`, `from + 1` … `to - 1`, one per second of log time, arriving in time. */
async function chatter({ clock, say }, from, to) {
  for (let n = from; n < to; n += 1) {
    await say([[`${n}`, 0]]);
    await clock.advance(1000);
  }
}

test('comments of a batch keep their rhythm, and the first comes at once', async () => {
  const { clock, say, shown } = await joined();
  await say([['a', 9], ['b', 5], ['c', 0]]);
  assert.deepEqual(shown, [['a', 0]]);
  await clock.advance(1000);
  await say([['d', 10], ['e', 9]]);
  await clock.advance(1000);
  assert.deepEqual(shown, [['a', 0], ['b', 400], ['c', 900], ['d', 1000], ['e', 1100]]);
  assert.equal(clock.pending, 0);
});

test('with paced: false they come as they arrive', async () => {
  const { say, shown } = await joined({ paced: false });
  await say([['a', 9], ['b', 0]]);
  assert.deepEqual(shown, [['a', 0], ['b', 0]]);
});

test('history comes at once, however old', async () => {
  const { room, sockets, clock } = stage(DanmakuRoom);
  await settle();
  await sockets[0].join({ after: 0, seq: 2 });
  const shown = [];
  room.on('comment', (comment) => shown.push([comment.text, comment.replay]));
  await sockets[0].say(batch(0, ['a', 'b'], { ts: clock.now() - 3_600_000, at: [300, 0] }));
  assert.deepEqual(shown, [['a', true], ['b', true]]);
});

test('a retracted comment that waits is never handed out', async () => {
  const { clock, socket, say, texts, log } = await joined();
  await say([['a', 9], ['b', 4], ['c', 0]]);
  await socket.say(batch(3, [], { seq: 4, ts: clock.now(), events: [{ id: 4, type: 'retract', ids: [2] }] }));
  await clock.advance(2000);
  assert.equal(texts(), 'a c');
  assert.deepEqual(log.retract, [{ ids: [2] }]);
});

test('a page that was frozen drops what is stale, and keeps the newest', async () => {
  const { clock, say, texts, log, room } = await joined();
  await say([['a', 0]]);
  await say([['b', 9], ['c', 0]]);
  await clock.freeze(60_000);
  assert.equal(texts(), 'a b', 'c was due a minute ago');
  const ts = clock.now();
  for (let late = 59; late >= 0; late -= 1) await say([[`-${late}`, 0]], { ts: ts - late * 1000 });
  await clock.advance(1000);
  assert.equal(texts(), 'a b -10 -9 -8 -7 -6 -5 -4 -3 -2 -1 -0');
  assert.equal(log.stale.reduce((sum, { count }) => sum + count, 0), 50);
  assert.equal(room.stats.stale, 50);
});

test('what was missed while the connection was broken is handed out, unless it is stale', async () => {
  const { clock, say, sockets, socket, texts } = await joined();
  await say([['a', 0]]);
  await clock.advance(1000);
  await socket.drop();
  await clock.advance(30_000);
  const ts = clock.now();
  await sockets.at(-1).join({ after: 1, seq: 3, resumed: true });
  await sockets.at(-1).say(batch(1, ['old', 'new'], { ts, at: [200, 10] }));
  await clock.advance(1000);
  assert.equal(texts(), 'a new');
});

test('not more than pendingMax comments wait, and the oldest go first', async () => {
  const { clock, say, shown, log } = await joined({ pendingMax: 10 });
  await say(Array.from({ length: 100 }, (_, index) => [`${index}`, Math.floor((99 - index) / 10)]));
  await clock.advance(2000);
  assert.deepEqual(shown.map(([text]) => Number(text)), [90, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
  assert.deepEqual(log.stale, [{ count: 90 }]);
});

test('a video 8 s behind has its comments 8 s late, to the tenth of a second', async () => {
  for (const source of ['delay', 'date']) {
    const { room, clock, say, shown, start } = await joined();
    room.syncTo(source === 'delay' ? 8000 : () => new Date(clock.now() - 8000));
    const posted = [];
    for (let second = 1; second <= 20; second += 1) {
      await clock.advance(1000);
      const at = [9, 7, 3, 0];
      await say(at.map((tenths) => [`${second}-${tenths}`, tenths]));
      for (const tenths of at) posted.push(clock.now() - start - tenths * 100);
    }
    await clock.advance(10_000);
    assert.equal(shown.length, posted.length);
    for (const [index, [text, ms]] of shown.entries()) {
      const late = ms - posted[index];
      assert.ok(late >= 8000 && late < 8100, `${source} ${text}: ${late} ms`);
    }
    room.close();
    assert.equal(clock.pending, 0);
  }
});

test('history that is ahead of the video waits for it', async () => {
  const { room, sockets, clock } = stage(DanmakuRoom);
  room.syncTo(() => clock.now() - 8000);
  await settle();
  await sockets[0].join({ after: 0, seq: 3 });
  const start = clock.now();
  const shown = [];
  room.on('comment', ({ text }) => shown.push([text, clock.now() - start]));
  await sockets[0].say(batch(0, ['past', 'soon', 'now'], { ts: start, at: [100, 40, 0] }));
  await clock.advance(9000);
  assert.deepEqual(shown, [['soon', 4000], ['now', 8000]]);
});

test('a seek loses nothing: back repeats, forward passes over', async () => {
  const all = await joined();
  const { room, clock, shown, texts } = all;
  let offset = 8000;
  room.syncTo(() => new Date(clock.now() - offset));
  await chatter(all, 0, 20);
  assert.equal(texts(), '0 1 2 3 4 5 6 7 8 9 10 11 12');
  shown.length = 0;
  offset += 5000; // five seconds back, to 7
  await chatter(all, 20, 24);
  assert.equal(texts(), '8 9 10 11');
  shown.length = 0;
  offset -= 6000; // six seconds forward, to 17
  await clock.advance(100);
  await chatter(all, 24, 28);
  assert.equal(texts(), '17 18 19 20 21', '12 to 16 are passed over');
  shown.length = 0;
  offset += 9000; // back again: what was passed over is there
  await chatter(all, 28, 33);
  assert.equal(texts().split(' ').slice(0, 4).join(' '), '13 14 15 16');
});

test('a paused video hands nothing out, one without a time neither, and a trembling clock nothing twice', async () => {
  const all = await joined();
  const { room, clock, shown, texts } = all;
  let time = null;
  room.syncTo(() => time);
  await chatter(all, 0, 5);
  assert.equal(texts(), '');
  time = all.start;
  await clock.advance(5000);
  assert.equal(texts(), '0');
  for (let i = 0; i < 100; i += 1) {
    time = all.start + i * 30 + (i % 2) * 200;
    await clock.advance(50);
  }
  assert.equal(texts(), '0 1 2 3');
  shown.length = 0;
  time = all.start + 3900;
  await all.clock.advance(100);
  room.syncTo(null);
  assert.equal(texts(), '4', 'what waits is handed out when the video is let go');
});

test('a video with getStartDate() (Safari) is followed; one without is refused', async () => {
  const all = await joined();
  const video = { currentTime: 0, getStartDate: () => new Date(all.start) };
  all.room.syncTo(video);
  await chatter(all, 0, 5);
  assert.equal(all.texts(), '0');
  video.currentTime = 0.5;
  await all.clock.advance(100);
  video.currentTime = 1;
  await all.clock.advance(100);
  assert.equal(all.texts(), '0 1');
  video.getStartDate = () => new Date(NaN);
  await all.clock.advance(5000);
  assert.equal(all.texts(), '0 1');
  assert.throws(() => all.room.syncTo({ currentTime: 0 }), TypeError);
});

test('a retracted comment is not handed out again after a seek, and the buffer is bounded', async () => {
  const all = await joined();
  const { room, clock, socket, texts, shown, log } = all;
  let offset = 1000;
  room.syncTo(() => clock.now() - offset);
  await chatter(all, 0, 5);
  await socket.say(batch(5, [], { seq: 6, ts: clock.now(), events: [{ id: 6, type: 'retract', ids: [3] }] }));
  shown.length = 0;
  offset = 5500;
  await clock.advance(4000);
  assert.equal(texts(), '0 1 3');
  room.syncTo(() => null);
  for (let i = 0; i < 25; i += 1) {
    const at = 6 + i * 500;
    await socket.say(batch(at, Array.from({ length: 500 }, () => 'x'), { ts: clock.now() }));
  }
  assert.equal(log.stale.reduce((sum, { count }) => sum + count, 0), 2500 + 1, 'comment 4 waited too');
});
