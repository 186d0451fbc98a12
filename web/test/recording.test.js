// A recorded room in a player of somebody else: the exported XML, loaded by the real npm package.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { startSite } from './support/site.js';
import { silence } from './support/wav.js';

let browser;
let server;
let site;
before(async () => {
  server = await startServer();
  site = await startSite({ '/silence.wav': () => silence(60) });
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  await site.stop();
  await server.stop();
});

test("artplayer's danmaku plugin loads the exported XML", async () => {
  await server.post('r', [
    { text: '弹幕 <img src=x onerror="console.error(1)"> &lt; ]]>', color: 0xff8000, user: 'u1' },
    { text: 'top', mode: 'top', size: 36 },
    { text: 'bottom 🎉', mode: 'bottom', color: 0x0000ff },
  ]);
  const posted = (await (await fetch(`${server.url}/v1/rooms/r/comments`)).json()).comments;
  const start = posted[0].ts - 12_345;
  const begun = await fetch(`${server.url}/v1/rooms/r/streams`, { method: 'POST', body: JSON.stringify({ start }) });
  assert.equal(begun.status, 201);

  const page = await openPage(browser, `${site.url}/`, { viewport: { width: 1280, height: 720 } });
  for (const script of ['artplayer/dist/artplayer.js', 'artplayer-plugin-danmuku/dist/artplayer-plugin-danmuku.js']) {
    await page.addScriptTag({ url: `/npm/${script}` });
  }
  const loaded = await page.evaluate(
    (danmuku) =>
      new Promise((loaded, failed) => {
        const plugin = window.artplayerPluginDanmuku({ danmuku, emitter: false });
        const container = document.getElementById('stage');
        const player = new window.Artplayer({ container, url: '/silence.wav', muted: true, plugins: [plugin] });
        const pick = ({ text, time, mode, fontSize, color }) => ({ text, time, mode, fontSize, color });
        player.on('artplayerPluginDanmuku:loaded', (queue) => queue.length && loaded(queue.map(pick)));
        player.on('artplayerPluginDanmuku:error', failed);
      }),
    `${server.url}/v1/rooms/r/export?format=xml`,
  );
  const times = posted.map(({ ts }) => (ts - start) / 1000);
  assert.equal(times[0], 12.345);
  // Its modes: 0 scrolls, 1 is at the top, 2 at the bottom.
  assert.deepEqual(loaded, [
    { text: posted[0].text, time: times[0], mode: 0, fontSize: 25, color: '#ff8000' },
    { text: 'top', time: times[1], mode: 1, fontSize: 36, color: '#ffffff' },
    { text: 'bottom 🎉', time: times[2], mode: 2, fontSize: 25, color: '#ff' },
  ]);
});
