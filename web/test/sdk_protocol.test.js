// The SDK against scripted sockets and responses, on a fake clock: what is rare with a real server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deflateRawSync, gzipSync } from 'node:zlib';

import { DanmakuError, DanmakuRoom } from '../sdk/index.js';
import { batch, json, refuse, stage, unreachable } from './support/doubles.js';
import { settle } from './support/fake_clock.js';

const open = (options) => stage(DanmakuRoom, options);
const upgradeRequired = () => refuse(426, 'upgrade_required');

/** Opens a room that has joined over a WebSocket. */
async function joined(options) {
  const all = open(options);
  await settle();
  await all.sockets[0].join();
  return { ...all, socket: all.sockets[0] };
}

test('a room goes from connecting to joined, and asks for history and encoding', async () => {
  const { room, sockets, log } = open({ history: 20, token: async () => 'secret' });
  assert.equal(room.state, 'connecting');
  await settle();
  assert.equal(sockets[0].url.href, 'ws://chat.test/v1/rooms/r/ws?history=20&encoding=identity&token=secret');
  await sockets[0].join({ viewers: 5 });
  assert.equal(room.state, 'joined');
  assert.deepEqual([room.transport, room.encoding, room.viewers], ['websocket', 'identity', 5]);
  assert.deepEqual(room.position, { epoch: 7, seq: 0 });
  assert.deepEqual(log.state, [{ state: 'joined', previous: 'connecting', transport: 'websocket', attempt: 0 }]);
});

test('the server may be behind a path prefix', async () => {
  for (const url of ['https://video.test/chat', 'wss://video.test/chat/?x=1#y']) {
    const { room, sockets, requests } = open({ url, history: 0 });
    await settle();
    assert.equal(sockets[0].url.href, 'wss://video.test/chat/v1/rooms/r/ws?history=0&encoding=identity');
    await sockets[0].drop();
    assert.equal(requests[0].url.href, 'https://video.test/chat/v1/rooms/r/ws');
    room.close();
  }
});

test('comments have their ids, times and defaults', async () => {
  const { log, socket, room } = await joined({ paced: false });
  await socket.say(
    batch(41, ['hello', { text: 'goal', mode: 'top', color: 1, user: 'u7', size: 36 }], {
      ...{ seq: 47, ids: [1, 3], at: [9, 4], ts: 10_000, likes: 3, viewers: 17 },
      events: [{ id: 47, type: 'retract', ids: [39, 46] }],
    }),
  );
  const common = { epoch: 7, own: false, replay: false, role: 'viewer' };
  assert.deepEqual(log.comment, [
    { ...common, id: 42, ts: 9100, text: 'hello', mode: 'scroll', color: 0xffffff, size: 25 },
    { ...common, id: 45, ts: 9600, text: 'goal', mode: 'top', color: 1, size: 36, user: 'u7' },
  ]);
  assert.deepEqual(log.comments, [log.comment]);
  assert.deepEqual(log.retract, [{ ids: [39, 46] }]);
  assert.deepEqual(log.likes, [{ count: 3, total: 3 }]);
  assert.deepEqual([room.likes, room.viewers, room.position.seq], [3, 17, 47]);
  assert.ok(log.all.indexOf('comments') < log.all.indexOf('retract'));
  // The first position of this connection was 0, so 1 to 41 are missing.
  assert.deepEqual(log.gap, [{ after: 0, seq: 41 }]);
});

test('resumes after the last position, says what is missing, and drops what it had', async () => {
  const { room, clock, sockets, socket, log } = await joined({ paced: false, history: 5 });
  await socket.say(batch(0, ['one', 'two']));
  await socket.drop();
  assert.equal(room.state, 'reconnecting');
  assert.equal(room.stats.reconnects, 1);
  await clock.advance(1000);
  assert.equal(sockets[1].url.searchParams.get('since'), '7:2');
  assert.equal(sockets[1].url.searchParams.get('history'), '5');
  await sockets[1].join({ after: 2, seq: 4, resumed: true });
  assert.deepEqual(log.clear, []);
  await sockets[1].say(batch(1, ['two', 'three'])); // begins inside what it had
  await sockets[1].say(batch(0, ['one', 'two']));
  await sockets[1].say({ type: 'gap', after: 3, seq: 9, events: [{ id: 5, type: 'retract', ids: [1] }] });
  await sockets[1].say(batch(12, ['later']));
  assert.deepEqual(log.comment.map(({ text, replay }) => [text, replay]), [
    ['one', false],
    ['two', false],
    ['three', true],
    ['later', false],
  ]);
  assert.deepEqual(log.gap, [
    { after: 3, seq: 9 },
    { after: 9, seq: 12 },
  ]);
  assert.deepEqual(log.retract, [{ ids: [1] }]);
});

test('a room that could not be resumed clears the list', async () => {
  const { clock, sockets, socket, log, room } = await joined();
  await socket.say(batch(0, ['one']));
  await socket.drop(4003, 'new epoch');
  await clock.advance(1000);
  await sockets[1].join({ epoch: 8, after: 0, resumed: false });
  assert.equal(log.clear.length, 1);
  assert.deepEqual(room.position, { epoch: 8, seq: 0 });
});

test('a token that expires is renewed on the connection', async () => {
  const tokens = ['first', 'second'];
  const { room, sockets, log } = open({ token: async () => tokens.shift() });
  await settle();
  await sockets[0].join();
  await sockets[0].say({ type: 'expiring', in_ms: 60_000 });
  assert.deepEqual(sockets[0].sent, [{ type: 'auth', token: 'second' }]);
  await sockets[0].say({ type: 'authorized', user: 'u7', role: 'viewer' });
  assert.equal(room.state, 'joined');
  assert.deepEqual(log.error, []);
});

test('a token that cannot be renewed ends nothing by itself', async () => {
  let asked = 0;
  const token = async () => {
    asked += 1;
    if (asked === 2) throw new Error('offline');
    return `token ${asked}`;
  };
  const { room, clock, sockets, log } = open({ token });
  await settle();
  await sockets[0].join();
  await sockets[0].say({ type: 'expiring', in_ms: 60_000 });
  assert.equal(room.state, 'joined');
  await sockets[0].drop(4006, 'the token has expired');
  assert.equal(log.error[0].code, 'token_expired');
  await clock.advance(1000);
  assert.equal(sockets[1].url.searchParams.get('token'), 'token 3');
});

test('close codes say whether to reconnect', async () => {
  const codes = [
    [1000, 'normal', true],
    [1001, 'going_away', false],
    [1002, 'protocol_error', true],
    [1003, 'unsupported', true],
    [1007, 'invalid_data', true],
    [1009, 'too_big', true],
    [4001, 'slow_consumer', false],
    [4002, 'idle_timeout', false],
    [4003, 'new_epoch', false],
    [4004, 'flooding', true],
    [4005, 'unauthorized', true],
    [4006, 'token_expired', false],
    [4007, 'forbidden', true],
    [4008, 'replaced', true],
    [4009, 'too_many_connections', true],
    [4999, 'network', false],
    [1006, 'network', false],
  ];
  for (const [code, name, fatal] of codes) {
    const { room, clock, socket, log } = await joined();
    await socket.drop(code, 'why');
    assert.equal(log.error[0].code, name, String(code));
    assert.equal(log.error[0].fatal, fatal, String(code));
    assert.ok(log.error[0] instanceof DanmakuError);
    assert.equal(room.state, fatal ? 'closed' : 'reconnecting', String(code));
    room.close();
    assert.equal(clock.pending, 0, `timers after ${code}`);
  }
});

test('waits longer after each failure, at random, and starts over after a stable connection', async () => {
  const { room, clock, sockets, log } = open({ transports: ['websocket'] });
  const ceilings = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
  for (const [index, ceiling] of ceilings.entries()) {
    await settle();
    await sockets.at(-1).drop();
    const { attempt, retryInMs, state } = log.state.at(-1);
    assert.deepEqual([state, attempt], ['connecting', index + 1]);
    assert.ok(retryInMs >= 0 && retryInMs <= ceiling, `${retryInMs} <= ${ceiling}`);
    await clock.advance(retryInMs);
  }
  await sockets.at(-1).join();
  await sockets.at(-1).drop();
  assert.equal(log.state.at(-1).attempt, 8, 'a short success does not count');
  await clock.advance(log.state.at(-1).retryInMs);
  await sockets.at(-1).join();
  await clock.advance(20_000);
  await sockets.at(-1).drop();
  assert.equal(log.state.at(-1).attempt, 1);
  room.close();
});

test('connect() makes the next attempt at once, and does not disturb one that is under way', async () => {
  const { room, clock, socket, sockets, log } = await joined();
  room.connect();
  assert.equal(sockets.length, 1, 'joined');
  await socket.say({ type: 'closing', reconnect_after_ms: 20_000 });
  await socket.drop(1001);
  room.connect();
  room.connect();
  await settle();
  assert.equal(sockets.length, 2);
  await sockets[1].join();
  assert.equal(log.state.at(-1).state, 'joined');
  room.close();
  assert.equal(clock.pending, 0);
  room.connect();
  await settle();
  assert.equal(sockets.length, 3);
  room.close();
});

test('reconnects when the server asked for it', async () => {
  const { socket, log } = await joined();
  await socket.say({ type: 'closing', reconnect_after_ms: 20_000 });
  await socket.drop(1001);
  const { retryInMs } = log.state.at(-1);
  assert.ok(retryInMs >= 20_000 && retryInMs <= 21_000, String(retryInMs));
});

test('a server that accepts and says nothing is given up', async () => {
  const { clock, sockets, log } = open({ transports: ['websocket'] });
  await settle();
  sockets[0].readyState = 1;
  await clock.advance(20_000);
  assert.equal(log.error[0].code, 'network');
  assert.ok(sockets[0].isClosed);
  assert.ok(sockets.length > 1);
});

test('damaged messages are a typed error, and the position survives', async () => {
  const good = batch(0, ['one']);
  const line = `${JSON.stringify(batch(1, ['two']))}\n`;
  const flipped = deflateRawSync(Buffer.from(line)).map((byte) => byte ^ 0x5a);
  const cases = {
    identity: ['{"type":"batch","after":1', new ArrayBuffer(4), { type: 'batch', after: 1, seq: 'x' }, { type: 'batch', after: 1, seq: 2, ts: 1 }],
    gzip: [bytes(gzipSync(line).subarray(0, 20)), bytes(Buffer.from('no gzip at all'))],
    deflate: [bytes(flipped), bytes(deflateRawSync(Buffer.from('not JSON\n')))],
  };
  for (const [encoding, damaged] of Object.entries(cases)) {
    for (const data of damaged) {
      const { room, clock, sockets, socket, log } = await joined({ encoding });
      await socket.say(good);
      await socket.say(data);
      await waitFor(() => log.error.length > 0, () => clock.advance(100));
      assert.deepEqual([log.error[0].code, log.error[0].fatal], ['corrupted_frame', false], encoding);
      assert.ok(socket.isClosed);
      await clock.advance(1000);
      assert.equal(sockets[1].url.searchParams.get('since'), '7:1');
      room.close();
      assert.equal(clock.pending, 0);
    }
  }
});

test('messages keep their order while batches are being inflated', async () => {
  const { log, socket } = await joined({ encoding: 'gzip', paced: false });
  socket.onmessage({ data: bytes(gzipSync(JSON.stringify(batch(0, ['one'])))) });
  socket.onmessage({ data: JSON.stringify({ type: 'gap', after: 1, seq: 5 }) });
  socket.onmessage({ data: bytes(gzipSync(JSON.stringify(batch(5, ['two'])))) });
  await waitFor(() => log.comment.length === 2);
  assert.deepEqual(log.gap, [{ after: 1, seq: 5 }]);
});

test('a post is settled by its ack or its error', async () => {
  const { room, socket } = await joined({ user: 'u1', name: 'mira' });
  const good = room.post('hello');
  const bad = assert.rejects(room.post({ text: 'again', color: 1, name: 'other' }), {
    ...{ name: 'DanmakuError', code: 'rate_limited', retryAfterMs: 180, fatal: false },
  });
  const [first, second] = socket.sent;
  assert.deepEqual({ ...first, ref: 0, key: 0 }, { type: 'comment', ref: 0, key: 0, text: 'hello', user: 'u1', name: 'mira' });
  assert.equal(second.name, 'other');
  assert.notEqual(first.key, second.key);
  await socket.say({ type: 'error', ref: second.ref, code: 'rate_limited', message: 'slow down', retry_after_ms: 180 });
  await socket.say({ type: 'ack', ref: first.ref, id: 9 });
  assert.deepEqual(await good, { id: 9, epoch: 7 });
  await bad;
  await assert.rejects(room.post('x'.repeat(5000)), { code: 'body_too_large' });
  assert.equal(socket.sent.length, 2);
});

test('a post that waits for a moderator is settled, and is no comment yet', async () => {
  const { room, socket } = await joined();
  const post = room.post('hello');
  await socket.say({ type: 'ack', ref: socket.sent[0].ref, held: 5 });
  assert.deepEqual(await post, { id: 0, epoch: 7, held: 5 });
});

test('a post is sent again with the same key after a reconnect', async () => {
  const { room, clock, sockets, socket } = await joined();
  const post = room.post('hello');
  await socket.drop();
  await clock.advance(1000);
  await sockets[1].join({ resumed: true });
  assert.equal(sockets[1].sent[0].key, socket.sent[0].key);
  await sockets[1].say({ type: 'ack', ref: sockets[1].sent[0].ref, id: 3 });
  assert.equal((await post).id, 3);
  assert.equal(clock.pending, 0);
});

test('a post without an answer makes the connection suspect, and times out in the end', async () => {
  const { room, clock, sockets, socket, log } = await joined({ transports: ['websocket'] });
  const refused = assert.rejects(room.post('hello'), { code: 'timeout' });
  await clock.advance(5000);
  assert.ok(socket.isClosed);
  assert.equal(log.error[0].code, 'network');
  await clock.advance(10_000);
  await refused;
  room.close();
  assert.ok(sockets.length > 1);
});

test('an outcome that is unknown is asked for again', async () => {
  const { room, clock, socket } = await joined();
  const post = room.post('hello');
  await socket.say({ type: 'error', ref: socket.sent[0].ref, code: 'outcome_unknown', message: '?', retry_after_ms: 500 });
  await clock.advance(500);
  assert.equal(socket.sent[1].key, socket.sent[0].key);
  await socket.say({ type: 'ack', ref: socket.sent[1].ref, id: 4 });
  assert.equal((await post).id, 4);
});

test('waiting posts are bounded, and rejected by close()', async () => {
  const { room, clock, socket } = await joined();
  const posts = Array.from({ length: 21 }, (_, index) => room.post(`${index}`).catch((error) => error.code));
  assert.equal(await posts[20], 'too_many_pending');
  assert.equal(socket.sent.length, 20);
  room.close();
  assert.deepEqual(new Set((await Promise.all(posts)).slice(0, 20)), new Set(['closed']));
  await assert.rejects(room.post('late'), { code: 'closed' });
  assert.equal(clock.pending, 0);
});

test('own comments are marked, whichever of ack and batch comes first', async () => {
  const { room, clock, socket, log } = await joined({ paced: false });
  const send = async (text) => {
    room.post(text).catch(() => {});
    return socket.sent.at(-1).ref;
  };
  const first = await send('666');
  await socket.say({ type: 'ack', ref: first, id: 1 });
  await socket.say(batch(0, ['666', '666']));
  const second = await send('666');
  await socket.say(batch(2, ['666', '666']));
  assert.equal(log.comment.length, 2, 'held until the ack says which it is');
  await socket.say({ type: 'gap', after: 4, seq: 6 });
  await socket.say({ type: 'ack', ref: second, id: 4 });
  assert.deepEqual(log.comment.map(({ id, own }) => [id, own]), [[1, true], [2, false], [3, false], [4, true]]);
  assert.deepEqual(log.gap, [{ after: 4, seq: 6 }]);
  await send('777');
  await socket.say(batch(6, ['777']));
  await clock.advance(500);
  assert.equal(log.comment.length, 5, 'but not for long');
  await socket.say(batch(7, ['777']));
  assert.equal(log.comment.length, 6, 'and once only');
  room.close();
});

test('likes are added up: one message a second, at most 100 at a time', async () => {
  const { room, clock, socket, log } = await joined();
  for (const nonsense of [0, -1, NaN, 0.5]) room.like(nonsense);
  assert.deepEqual(socket.sent, []);
  for (let i = 0; i < 150; i += 1) room.like();
  assert.deepEqual(socket.sent, [{ type: 'like', count: 1 }]);
  await clock.advance(1000);
  assert.deepEqual(socket.sent.slice(1), [{ type: 'like', count: 100 }]);
  await clock.advance(1000);
  assert.deepEqual(socket.sent.slice(2), [{ type: 'like', count: 49 }]);
  await socket.say({ type: 'error', code: 'rate_limited', message: 'too many', retry_after_ms: 3000 });
  assert.equal(log.error[0].code, 'rate_limited');
  room.like(7);
  await clock.advance(2900);
  assert.equal(socket.sent.length, 3);
  await clock.advance(100);
  assert.deepEqual(socket.sent[3], { type: 'like', count: 7 });
  await clock.advance(1000);
  assert.equal(clock.pending, 0);
});

test('a listener that throws does not stop the others', async () => {
  const { room, socket, log } = await joined({ paced: false });
  const uncaught = [];
  const listener = (error) => uncaught.push(error.message);
  process.setUncaughtExceptionCaptureCallback(listener);
  const off = room.on('comments', () => {
    throw new Error('the page has a fault');
  });
  await socket.say(batch(0, ['one']));
  process.setUncaughtExceptionCaptureCallback(null);
  off();
  await socket.say(batch(1, ['two']));
  assert.deepEqual(uncaught, ['the page has a fault']);
  assert.equal(log.comment.length, 2);
});

test('typed refusals stop the room or make it wait', async () => {
  for (const [status, code] of [[400, 'bad_room_id'], [403, 'forbidden'], [404, 'not_found'], [401, 'unauthorized']]) {
    const { room, clock, sockets, log } = open({ script: () => refuse(status, code) });
    await settle();
    await sockets[0].drop();
    assert.deepEqual([room.state, log.error[0].code, log.error[0].status, log.error[0].fatal], ['closed', code, status, true]);
    assert.equal(clock.pending, 0);
  }
  for (const [status, code] of [[429, 'too_many_connections'], [503, 'too_many_connections'], [429, 'rate_limited']]) {
    const { room, sockets, log } = open({ script: () => refuse(status, code, { retry_after_ms: 5000 }) });
    await settle();
    await sockets[0].drop();
    assert.deepEqual([room.state, log.error[0].code, log.error[0].fatal], ['connecting', code, false]);
    assert.ok(log.state.at(-1).retryInMs >= 5000);
    room.close();
  }
  const { room, sockets, log } = open({ script: () => new Response('busy', { status: 503, headers: { 'Retry-After': '7' } }) });
  await settle();
  await sockets[0].drop();
  assert.ok(log.state.at(-1).retryInMs >= 7000);
  assert.deepEqual([log.error[0].code, log.error[0].status], ['network', 503]);
  room.close();
});

test('a server that is down is not taken for a blocked WebSocket', async () => {
  const { room, sockets, socket, clock, requests, log } = await joined({ script: unreachable });
  await socket.drop();
  for (let i = 0; i < 3; i += 1) {
    await clock.advance(30_000);
    await sockets.at(-1).drop();
  }
  assert.ok(requests.length >= 3);
  assert.ok(requests.every(({ url }) => url.pathname.endsWith('/ws')), 'only asks why');
  assert.equal(room.state, 'reconnecting');
  assert.equal(log.error.at(-1).code, 'network');
  room.close();
});

test('events where WebSockets are blocked, and back to a WebSocket later', async () => {
  const stream = eventStream();
  const script = ({ url, signal }) => (url.pathname.endsWith('/ws') ? upgradeRequired() : stream.response(signal));
  const { room, sockets, clock, log } = open({ script, paced: false });
  await settle();
  await sockets[0].drop();
  stream.say({ type: 'joined', epoch: 7, after: 0, seq: 0, window_ms: 1000, viewers: 1, resumed: false });
  stream.say(batch(0, ['one']));
  await settle();
  assert.deepEqual([room.state, room.transport, log.comment.length], ['joined', 'sse', 1]);
  await keepAlive(clock, stream, () => sockets.length === 2);
  assert.equal(sockets[1].url.searchParams.get('since'), '7:1');
  assert.equal(room.transport, 'sse');
  await sockets[1].drop();
  assert.equal(room.transport, 'sse');
  await keepAlive(clock, stream, () => sockets.length === 3);
  const ts = clock.now();
  stream.say(batch(1, ['two'], { ts }));
  await sockets[2].join({ after: 1, seq: 2, resumed: true });
  await sockets[2].say(batch(1, ['two', 'three'], { ts }));
  assert.equal(room.transport, 'websocket');
  assert.ok(stream.isAborted);
  assert.deepEqual(log.comment.map(({ text }) => text), ['one', 'two', 'three']);
  assert.deepEqual(log.error, []);
  room.close();
  assert.equal(clock.pending, 0);
});

test('an event stream ends by its close message, by silence, and by damage', async () => {
  for (const [say, code, state] of [
    [(stream) => stream.say({ type: 'close', code: 4001, reason: 'reading too slowly', reconnect: true }), 'slow_consumer', 'reconnecting'],
    [(stream) => stream.say({ type: 'close', code: 4098, reason: 'never again', reconnect: false }), 'network', 'closed'],
    [(stream) => stream.write('data: {"type":\n\n'), 'corrupted_frame', 'reconnecting'],
    [(stream) => stream.end(), 'network', 'reconnecting'],
    [(stream, clock) => clock.advance(120_000), 'network', 'reconnecting'],
  ]) {
    const stream = eventStream();
    const { room, clock, log } = open({ transports: ['sse'], script: ({ signal }) => stream.response(signal) });
    await settle();
    stream.write(': heartbeat\n\nid: 7:0\ndata: {"type":"joined","epoch":7,"after":0,"seq":0,');
    stream.write('"window_ms":1000,"viewers":1,"resumed":false}\n\n');
    await settle();
    assert.equal(room.state, 'joined');
    await say(stream, clock);
    await settle();
    assert.deepEqual([log.error[0].code, room.state], [code, state]);
    room.close();
    assert.equal(clock.pending, 0);
  }
});

test('posts and likes go over HTTP where there is no WebSocket', async () => {
  const stream = eventStream();
  const answers = [unreachable, () => refuse(503, 'outcome_unknown', { retry_after_ms: 100 }), () => json({ epoch: 7, id: 5 }, { status: 201 })];
  const script = ({ url, signal }) => {
    if (url.pathname.endsWith('/comments')) return answers.shift()();
    if (url.pathname.endsWith('/likes')) return refuse(429, 'rate_limited', { retry_after_ms: 2000 });
    return stream.response(signal);
  };
  const { room, clock, requests, log } = open({ transports: ['sse'], token: 'secret', script });
  await settle();
  stream.say({ type: 'joined', epoch: 7, after: 0, seq: 0, window_ms: 1000, viewers: 1, resumed: false });
  await settle();
  const post = room.post('hello');
  room.like(3);
  await clock.advance(2000);
  assert.deepEqual(await post, { id: 5, epoch: 7 });
  const posts = requests.filter(({ url }) => url.pathname.endsWith('/comments'));
  assert.equal(new Set(posts.map(({ headers }) => headers['Idempotency-Key'])).size, 1);
  assert.deepEqual(JSON.parse(posts[0].body), { text: 'hello' });
  assert.deepEqual([posts[0].headers.Authorization, posts[0].headers['Content-Type']], ['Bearer secret', 'application/json']);
  assert.equal(log.error[0].code, 'rate_limited');
  answers.push(() => refuse(403, 'origin_not_allowed'));
  await assert.rejects(room.post('again'), { code: 'origin_not_allowed', status: 403, fatal: false });
  assert.equal(room.state, 'joined');
  room.close();
  assert.equal(clock.pending, 0);
});

function bytes(buffer) {
  return Uint8Array.from(buffer).buffer;
}

/** For what happens in threads: decompression takes real time. */
async function waitFor(check, step = () => {}) {
  for (let i = 0; i < 2000 && !check(); i += 1) {
    await step();
    await new Promise((done) => setTimeout(done, 1));
  }
  assert.ok(check(), String(check));
}

/** The body of an event stream that the test writes. */
function eventStream() {
  let controller;
  return {
    isAborted: false,
    response(signal) {
      const body = new ReadableStream({ start: (one) => (controller = one) });
      signal.addEventListener('abort', () => {
        this.isAborted = true;
        controller.error(new DOMException('aborted', 'AbortError'));
      });
      return new Response(body);
    },
    write: (text) => controller.enqueue(new TextEncoder().encode(text)),
    say(message) {
      this.write(`data: ${JSON.stringify(message)}\n\n`);
    },
    end: () => controller.close(),
  };
}

/** Lets time pass until `check` holds, which must be within 7.5 minutes. */
async function keepAlive(clock, stream, check) {
  for (let passed = 0; passed < 450_000 && !check(); passed += 5000) {
    await clock.advance(5000);
    stream.write(':\n\n');
  }
  assert.ok(check(), String(check));
}
