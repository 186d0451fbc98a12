// A viewer on npm's `ws`: reads until a comment says "end".
//
// usage: node viewer.mjs URL ENCODING INFLATER [told]
// INFLATER: `stream` for DecompressionStream, `zlib` for node:zlib. With `told`, each line on standard input makes it stop
// reading, or read on, so that the server has to skip frames.
// Prints one JSON object: the position it joined at, the id and text of every comment, and the gaps it was told.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import zlib from 'node:zlib';

const require = createRequire(`${process.env.DANMAKU_TEST_NODE_MODULES}/`);
const WebSocket = require('ws');
const [url, encoding, inflater, told] = process.argv.slice(2);

/** One batch's bytes in, its JSON out; it must be whole before the next batch's bytes are there. */
function unpacker() {
  if (encoding === 'identity') return async (data) => data.toString();
  if (encoding === 'gzip') return async (data) => zlib.gunzipSync(data).toString();
  let bytes;
  let read;
  if (inflater === 'stream') {
    const stream = new DecompressionStream('deflate-raw');
    const writer = stream.writable.getWriter();
    const reader = stream.readable.getReader();
    bytes = (data) => void writer.write(data);
    read = async () => (await reader.read()).value;
  } else {
    const inflate = zlib.createInflateRaw();
    const waiting = [];
    const chunks = [];
    inflate.on('data', (chunk) => (waiting.length ? waiting.shift()(chunk) : chunks.push(chunk)));
    bytes = (data) => void inflate.write(data);
    read = () => (chunks.length ? Promise.resolve(chunks.shift()) : new Promise((done) => waiting.push(done)));
  }
  return async (data) => {
    const decoder = new TextDecoder();
    bytes(new Uint8Array(data));
    let text = '';
    while (!text.endsWith('\n')) text += decoder.decode(await read(), { stream: true });
    return text;
  };
}

function fail(why) {
  console.error(why);
  process.exit(1);
}

const socket = new WebSocket(`${url}?encoding=${encoding}`, { perMessageDeflate: false });
const unpack = unpacker();
const state = { joined: null, comments: [], gaps: [] };
let position = null;
let last = Promise.resolve();

async function handle(data, isBinary) {
  const text = isBinary ? await unpack(data) : data.toString();
  const message = JSON.parse(text);
  if (message.type === 'joined') {
    state.joined = message.after;
    position = message.after;
  } else if (message.type === 'gap') {
    if (message.after !== position) fail(`gap after ${message.after}, expected ${position}`);
    position = message.seq;
    state.gaps.push([message.after, message.seq]);
  } else if (message.type === 'batch') {
    if (message.after !== position) fail(`batch after ${message.after}, expected ${position}`);
    let id = message.after;
    message.comments.forEach((comment, index) => {
      id += message.ids?.[index] ?? 1;
      state.comments.push([id, comment.text]);
    });
    position = message.seq;
    if (message.comments.some((comment) => comment.text === 'end')) {
      // Exit only when a pipe has taken all of it.
      process.stdout.write(JSON.stringify(state), () => process.exit(0));
    }
  } else {
    fail(`unexpected ${text}`);
  }
}

socket.on('message', (data, isBinary) => {
  last = last.then(() => handle(data, isBinary)).catch((error) => fail(error.stack));
});
socket.on('close', (code) => fail(`closed with ${code}`));
socket.on('error', (error) => fail(error.stack));
setTimeout(() => fail('nothing said "end"'), 180_000);
if (told) {
  let paused = false;
  createInterface({ input: process.stdin }).on('line', () => {
    paused = !paused;
    if (paused) socket.pause();
    else socket.resume();
  });
}
