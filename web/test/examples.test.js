// Every page of web/examples shows a comment that was posted to a real server.

import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { startSite } from './support/site.js';
import { until, webFolder } from './support/tools.js';
import { silence } from './support/wav.js';

/** What tells that the page shows `text`. The renderer paints it, the others make an element of it. */
const painted = () => {
  const canvas = document.querySelector('canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value) => value > 0);
};
const SHOWN = {
  'renderer.html': painted,
  'video-sync.html': (text) => [...document.querySelectorAll('li')].some((line) => line.textContent.endsWith(text)),
};
const shownAsElement = (text) =>
  [...document.querySelectorAll('#player *')].some((node) => node.children.length === 0 && node.textContent === text);

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

const pages = (await readdir(`${webFolder}examples`)).filter((name) => name.endsWith('.html'));
for (const name of pages) {
  test(`${name} shows a posted comment`, async () => {
    const room = name.replace('.html', '');
    const query = new URLSearchParams({ server: server.url, room, video: '/silence.wav' });
    const page = await openPage(browser, `${site.url}/web/examples/${name}?${query}`);
    const text = `a comment for ${name}`;
    const shown = SHOWN[name] ?? shownAsElement;
    // A player that isn't playing yet shows nothing, so one comment may be too early.
    await until(async () => {
      await server.post(room, text);
      await page.waitForTimeout(300);
      return page.evaluate(shown, text);
    });
    page.assertClean();
  });
}

test('the comments of video-sync.html follow its video', async () => {
  const page = await openPage(browser, `${site.url}/web/examples/video-sync.html?${new URLSearchParams({ server: server.url, room: 'seek' })}`);
  const lines = () => page.evaluate(() => document.querySelector('ol').textContent);
  await page.waitForTimeout(500);
  await server.post('seek', 'the goal');
  await page.waitForTimeout(2000);
  assert.equal(await lines(), '', 'the video is 8 s behind');
  await until(async () => (await lines()).endsWith('the goal'));
  await page.getByRole('button', { name: '5 s back' }).click();
  await until(async () => (await lines()).split('the goal').length === 3, 'the goal again');
  page.assertClean();
});

test('there is a page for each adapter', async () => {
  const adapters = (await readdir(`${webFolder}adapters`)).map((name) => name.replace('.js', '.html'));
  assert.deepEqual([...adapters, ...Object.keys(SHOWN)].sort(), pages.sort());
});
