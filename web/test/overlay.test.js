// The overlay in Chromium: the comments and nothing else.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { overlayOptions } from '../page/overlay-options.js';
import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { until } from './support/tools.js';

let browser;
let server;
before(async () => {
  server = await startServer();
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  await server.stop();
});

/** The stage's pixels: whether any is painted. */
const isPainted = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector('#stage canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some((_, index) => index % 4 === 3 && data[index] > 0);
  });

async function openOverlay(room, query = '') {
  const page = await openPage(browser, `${server.url}/overlay/${room}${query}`);
  page.warnings = [];
  page.on('console', (message) => message.type() === 'warning' && page.warnings.push(message.text()));
  await until(async () => {
    const response = await fetch(`${server.url}/v1/rooms/${room}`);
    return response.ok && (await response.json()).viewers > 0;
  }, 'the overlay to join');
  return page;
}

test('the overlay shows comments on a transparent page', async () => {
  const page = await openOverlay('studio');
  const picture = await page.screenshot({ omitBackground: true });
  const isTransparent = await page.evaluate(async (data) => {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data)]));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height).data.every((value) => value === 0);
  }, [...picture]);
  assert.ok(isTransparent);
  await server.post('studio', { text: 'over the picture', mode: 'top' });
  await until(() => isPainted(page), 'the comment');
  page.assertClean();
});

test('an option that makes no sense is ignored with a warning', async () => {
  const page = await openPage(browser, 'about:blank');
  const warnings = [];
  page.on('console', (message) => message.type() === 'warning' && warnings.push(message.text()));
  await page.goto(`${server.url}/overlay/warned?speed=fast&colour=red&area=0.5`);
  await until(() => warnings.length === 2, 'two warnings');
  assert.match(warnings[0], /"fast" is not a valid speed; using 1/);
  assert.match(warnings[1], /unknown option "colour"/);
});

test('options are read from the query', () => {
  const query = 'area=0.5&density=2&font_scale=1.5&opacity=0&speed=0.25&modes=top,bottom&history=500&blocked_words=a,%20b,&encoding=gzip&transports=sse';
  assert.deepEqual(overlayOptions(new URLSearchParams(query)), {
    options: {
      area: 0.5,
      density: 2,
      fontScale: 1.5,
      opacity: 0,
      speed: 0.25,
      modes: ['top', 'bottom'],
      history: 500,
      blockedWords: ['a', 'b'],
      blockedUsers: [],
      encoding: 'gzip',
      transports: ['sse'],
    },
    warnings: [],
  });
  const bad = 'area=2&opacity=&speed=NaN&modes=sideways&modes=&history=1.5&encoding=zip&transports=sse,smoke&constructor=1';
  const { options, warnings } = overlayOptions(new URLSearchParams(bad));
  assert.equal(warnings.length, 9);
  assert.deepEqual(options, overlayOptions(new URLSearchParams()).options);
});
