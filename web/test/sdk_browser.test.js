// The SDK in Chromium, as the server serves it: encodings, and what it does where WebSockets or events are blocked.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startProxy } from './support/proxy.js';
import { startServer } from './support/server.js';
import { startSite } from './support/site.js';
import { PATIENCE_MS, until } from './support/tools.js';

let browser;
let server;
before(async () => {
  server = await startServer(['--segment-ms', '1000']);
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  await server.stop();
});

// The icon that browsers ask for, and what a browser itself logs about blocked connections.
const expectedErrors = [/404|426/, /WebSocket connection to/, /net::ERR_/];

/** A page whose `room` is joined; `seen` has what it was handed. */
async function openRoom(name, { url = server.url, ...options } = {}) {
  const page = await openPage(browser, `${url}/healthz`, { expectedErrors });
  await page.evaluate(
    async ([room, settings]) => {
      const { DanmakuRoom } = await import('/web/sdk/index.js');
      window.seen = [];
      window.errors = [];
      window.room = new DanmakuRoom(location.origin, room, settings);
      window.room.on('comment', ({ text, own }) => window.seen.push([text, own]));
      window.room.on('error', ({ code }) => window.errors.push(code));
    },
    [name, options],
  );
  await page.waitForFunction(() => window.room.state === 'joined', null, { timeout: PATIENCE_MS });
  const seen = () => page.evaluate(() => window.seen);
  const facts = () => page.evaluate(() => [window.room.transport, window.room.encoding]);
  const close = async () => {
    await page.evaluate(() => window.room.close());
    page.assertClean();
    await page.context().close();
  };
  return { page, seen, facts, close };
}

for (const encoding of ['identity', 'gzip', 'deflate', 'auto']) {
  test(`Chromium watches and posts in ${encoding}`, async () => {
    const name = `encoding-${encoding}`;
    const { page, seen, facts, close } = await openRoom(name, { encoding });
    assert.deepEqual(await facts(), ['websocket', encoding === 'auto' ? 'deflate' : encoding]);
    const sent = Array.from({ length: 20 }, (_, index) => `第${index}条 <b>🎉</b> ${'la'.repeat(index)}`);
    for (const text of sent.slice(0, 10)) await server.post(name, text);
    await until(async () => (await seen()).length === 10, 'the first half');
    await server.post(name, sent.slice(10).map((text) => ({ text })));
    await until(async () => (await seen()).length === 20, 'the second half');
    assert.deepEqual((await seen()).map(([text]) => text), sent);
    await page.evaluate(() => window.room.post('mine'));
    await until(async () => (await seen()).length === 21, 'my own');
    assert.deepEqual((await seen()).at(-1), ['mine', true]);
    assert.deepEqual(await page.evaluate(() => window.errors), []);
    await close();
  });
}

for (const [transport, refuse] of [
  ['sse', /upgrade: websocket/i],
  ['pull', /upgrade: websocket|\/events/i],
]) {
  test(`Chromium falls back to ${transport}`, async () => {
    const proxy = await startProxy(server.port, { refuse });
    const { page, seen, facts, close } = await openRoom(transport, { url: proxy.url });
    assert.deepEqual(await facts(), [transport, null]);
    await server.post(transport, 'one');
    await until(async () => (await seen()).length === 1, 'a comment');
    await page.evaluate(() => window.room.post('two'));
    await page.evaluate(() => window.room.like(5));
    await until(async () => (await seen()).length === 2, 'my own');
    assert.deepEqual(await seen(), [['one', false], ['two', true]]);
    await until(() => page.evaluate(() => window.room.likes === 5), 'my likes');
    proxy.cut();
    await server.post(transport, 'three');
    await until(async () => (await seen()).length === 3, 'what was missed');
    assert.deepEqual((await seen()).at(-1), ['three', false]);
    await close();
    proxy.stop();
  });
}

test('a page of another site learns that it may not post', async () => {
  const site = await startSite();
  const page = await openPage(browser, site.url);
  for (const transport of ['websocket', 'sse', 'pull']) {
    const code = await page.evaluate(
      async ([url, name]) => {
        const { DanmakuRoom } = await import(`${url}/web/sdk/index.js`);
        const room = new DanmakuRoom(url, 'foreign', { transports: [name] });
        const code = await room.post('hello').catch((error) => error.code);
        room.close();
        return code;
      },
      [server.url, transport],
    );
    assert.equal(code, 'origin_not_allowed', transport);
  }
  await page.context().close();
  site.stop();
});
