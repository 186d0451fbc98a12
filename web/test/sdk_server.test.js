// The SDK in Node against the real server, with a proxy between them to break connections.

import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';

import { DanmakuRoom } from '../sdk/index.js';
import { record } from './support/doubles.js';
import { startProxy } from './support/proxy.js';
import { startServer } from './support/server.js';
import { require, until } from './support/tools.js';

const { WebSocket } = require('ws');

let server;
let proxy;
before(async () => {
  server = await startServer(['--segment-ms', '1000']);
  proxy = await startProxy(server.port);
});
after(async () => {
  proxy.stop();
  await server.stop();
});

const rooms = [];
afterEach(() => rooms.splice(0).forEach((room) => room.close()));

/** A room that has joined, and what it reports. */
async function join(name, { url = server.url, ...options } = {}) {
  const room = new DanmakuRoom(url, name, { WebSocket, paced: false, ...options });
  rooms.push(room);
  const log = record(room);
  await until(() => room.state === 'joined', `${name} to be joined`);
  return { room, log, texts: () => log.comment.map(({ text }) => text) };
}

/** What a proxy that does not let upgrades through looks like. */
class BlockedWebSocket {
  constructor() {
    setImmediate(() => this.onclose?.({ code: 1006, reason: '' }));
  }
  close() {}
}

for (const encoding of ['identity', 'gzip', 'deflate', 'auto']) {
  test(`watches and posts in ${encoding}`, async () => {
    const name = `encoding-${encoding}`;
    const { room, texts, log } = await join(name, { encoding });
    assert.equal(room.encoding, encoding === 'auto' ? 'deflate' : encoding);
    const sent = [];
    for (let i = 0; i < 40; i += 1) {
      const text = `第${i}条 goal 🎉 ${'ha'.repeat(i)}`;
      sent.push(text);
      await server.post(name, text);
      if (i % 8 === 0) await until(() => texts().length === i + 1, `comment ${i}`);
    }
    await until(() => texts().length === 40, 'all comments');
    assert.deepEqual(texts(), sent);
    const { id } = await room.post({ text: 'mine', mode: 'top', data: { badge: 'gold' } });
    const mine = await until(() => log.comment.find((comment) => comment.id === id), 'my own');
    assert.deepEqual([mine.own, mine.mode, mine.data], [true, 'top', { badge: 'gold' }]);
    assert.equal(log.comment.filter(({ own }) => own).length, 1);
    assert.deepEqual(log.error, []);
    assert.deepEqual(log.gap, []);
    assert.ok(room.stats.bytes > 0 && room.stats.comments === 41);
  });
}

for (const encoding of ['gzip', 'deflate']) {
  test(`resumes in ${encoding} without a gap when only the connection broke`, async () => {
    const name = `resume-${encoding}`;
    const { room, log, texts } = await join(name, { url: proxy.url, encoding });
    await server.post(name, 'one');
    await until(() => texts().length === 1);
    proxy.block();
    await until(() => room.state === 'reconnecting');
    await server.post(name, ['two', 'three'].map((text) => ({ text })));
    proxy.unblock();
    await server.post(name, 'four');
    await until(() => texts().length === 4, 'what was missed');
    assert.deepEqual(texts(), ['one', 'two', 'three', 'four']);
    assert.deepEqual([log.gap, log.clear], [[], []]);
    assert.equal(room.stats.reconnects, 1);
    assert.equal(log.error[0].code, 'network');
  });
}

test('a post that was cut off is posted once', async () => {
  const { room, texts } = await join('cut', { url: proxy.url });
  const post = room.post('hello');
  proxy.cut();
  const { id } = await post;
  await until(() => texts().length >= 1);
  const page = await (await fetch(`${server.url}/v1/rooms/cut/comments`)).json();
  assert.deepEqual(page.comments.map((comment) => comment.id), [id]);
});

test('reconnects after a restart of the server, and starts over', async () => {
  const own = await startServer();
  const { room, log, texts } = await join('restart', { url: own.url });
  await own.post('restart', 'before');
  await until(() => texts().length === 1);
  const { epoch } = room.position;
  await own.stop();
  await until(() => room.state === 'reconnecting');
  assert.equal(log.error[0].code, 'going_away');
  await own.restart();
  await until(() => room.state === 'joined', 'joined again');
  assert.equal(log.clear.length, 1);
  assert.notEqual(room.position.epoch, epoch);
  assert.equal((await room.post('after')).epoch, room.position.epoch);
  await until(() => texts().length === 2);
  await own.stop();
});

test('history, viewers, likes and retractions', async () => {
  await server.post('counts', ['one', 'two', 'three'].map((text) => ({ text })));
  const { room, log } = await join('counts', { history: 2 });
  const other = await join('counts', { history: 0 });
  await until(() => log.comment.length === 2);
  assert.deepEqual(log.comment.map(({ text, replay }) => [text, replay]), [['two', true], ['three', true]]);
  assert.deepEqual(other.texts(), []);
  other.room.like(5);
  await until(() => room.likes === 5, 'likes');
  assert.equal(room.viewers, 2);
  const { id } = await room.post('four');
  await fetch(`${server.url}/v1/rooms/counts/comments/${id}`, { method: 'DELETE' });
  await until(() => log.retract.length === 1, 'the retraction');
  assert.deepEqual(log.retract[0].ids, [id]);
});

for (const { name, status } of [{ name: 'no room', status: 400 }, { name: 'x'.repeat(65), status: 400 }]) {
  for (const blocked of [WebSocket, BlockedWebSocket]) {
    test(`a wrong room stops: ${name.slice(0, 9)}, ${blocked.name}`, async () => {
      const room = new DanmakuRoom(server.url, name, { WebSocket: blocked });
      const log = record(room);
      await until(() => room.state === 'closed', 'closed');
      const { code, fatal, status: got } = log.error.at(-1);
      assert.deepEqual([code, fatal, got], ['bad_room_id', true, status]);
    });
  }
}

test('a full server is a reason to wait', async () => {
  const own = await startServer(['--connections-per-address-max', '2']);
  const first = await join('full', { url: own.url });
  const second = await join('full', { url: own.url });
  const room = new DanmakuRoom(own.url, 'full', { WebSocket });
  rooms.push(room);
  const log = record(room);
  await until(() => log.error.length > 0, 'a refusal');
  assert.deepEqual([log.error[0].code, log.error[0].fatal, room.state], ['too_many_connections', false, 'connecting']);
  assert.ok(log.state.at(-1).retryInMs >= 5000);
  for (const one of [first, second]) one.room.close();
  await until(() => room.state === 'joined', 'a free place');
  await own.stop();
});

test('a refused post says why, and when to try again', async () => {
  const own = await startServer(['--posts-per-second-per-connection', '1', '--posts-per-second-per-connection-burst', '1']);
  const { room } = await join('limit', { url: own.url });
  await room.post('one');
  const error = await room.post('two').catch((refusal) => refusal);
  assert.equal(error.code, 'rate_limited');
  assert.ok(error.retryAfterMs > 0 && error.retryAfterMs <= 1000);
  await assert.rejects(room.post({ text: 'three', mode: 'sideways' }), (refusal) => ['mode_unknown', 'rate_limited'].includes(refusal.code));
  assert.equal(room.state, 'joined');
  await own.stop();
});

test('an origin that may not post can watch', async () => {
  class ForeignWebSocket extends WebSocket {
    constructor(url) {
      super(url, { origin: 'http://elsewhere.example' });
    }
  }
  const { room, texts, log } = await join('origin', { WebSocket: ForeignWebSocket });
  await server.post('origin', 'hello');
  await until(() => texts().length === 1);
  await assert.rejects(room.post('me too'), { code: 'origin_not_allowed', fatal: false });
  room.like();
  await until(() => log.error.length === 1);
  assert.equal(log.error[0].code, 'origin_not_allowed');
});

test('falls back to events where WebSockets are blocked, posts there, and resumes', async () => {
  const { room, log, texts } = await join('sse', { url: proxy.url, WebSocket: BlockedWebSocket });
  assert.equal(room.transport, 'sse');
  await server.post('sse', 'one');
  await until(() => texts().length === 1, 'a comment');
  const { id } = await room.post('two');
  await until(() => texts().length === 2, 'my own');
  assert.deepEqual([log.comment[1].id, log.comment[1].own], [id, true]);
  await assert.rejects(room.post(''), { code: 'text_empty', field: 'text', status: 400 });
  proxy.cut();
  await until(() => room.state === 'reconnecting');
  await server.post('sse', 'three');
  await until(() => texts().length === 3, 'what was missed');
  assert.deepEqual(texts(), ['one', 'two', 'three']);
  assert.equal(room.transport, 'sse');
  assert.deepEqual([log.gap, log.clear], [[], []]);
});

test('pulls where events are blocked too, posts and likes there, and resumes', async () => {
  const blocking = await startProxy(server.port, { refuse: /upgrade: websocket|\/events/i });
  const { room, log, texts } = await join('pull', { url: blocking.url });
  assert.equal(room.transport, 'pull');
  await server.post('pull', 'one');
  await until(() => texts().length === 1, 'a comment');
  const { id } = await room.post('two');
  room.like(4);
  await until(() => texts().length === 2, 'my own');
  assert.deepEqual([log.comment[1].id, log.comment[1].own], [id, true]);
  await until(() => room.likes === 4, 'my likes');
  blocking.block();
  await until(() => room.state === 'reconnecting');
  await server.post('pull', 'three');
  blocking.unblock();
  await until(() => texts().length === 3, 'what was missed');
  assert.deepEqual(texts(), ['one', 'two', 'three']);
  assert.deepEqual([log.gap, log.clear], [[], []]);
  blocking.stop();
});

test('an address in ws', async () => {
  const { room } = await join('ws', { url: `${server.url.replace('http', 'ws')}/` });
  assert.equal(room.transport, 'websocket');
});
