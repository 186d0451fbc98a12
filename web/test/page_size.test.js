// What the page weighs when somebody opens it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { sizeOf } from './support/size.js';

/**
 * Bytes, without comments, uncompressed. What a panel needs is loaded when somebody opens it, and the SDK's fallbacks when a
 * WebSocket fails: neither is in these figures.
 */
const BYTES_MAX = { page: 41_500, sdk: 26_000, renderer: 12_000 };

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

test('everything that the page loads is small', async () => {
  const page = await openPage(browser, 'about:blank');
  const responses = [];
  page.on('response', (response) => responses.push(response));
  await page.goto(`${server.url}/`);
  await page.locator('#state.joined').waitFor();
  const parts = {};
  // A copy: the panels follow a few seconds later.
  for (const response of [...responses]) {
    const { pathname, protocol } = new URL(response.url());
    if (!protocol.startsWith('http')) continue;
    const [, part = 'page'] = /^\/web\/(\w+)\//.exec(pathname) ?? [];
    parts[part] = (parts[part] ?? 0) + sizeOf(pathname, await response.text());
  }
  const total = Object.values(parts).reduce((sum, bytes) => sum + bytes);
  console.log('bytes without comments and empty lines:', { ...parts, total });
  assert.deepEqual(Object.keys(parts).sort(), Object.keys(BYTES_MAX).sort());
  for (const [part, max] of Object.entries(BYTES_MAX)) assert.ok(parts[part] < max, `${part}: ${parts[part]} bytes`);
});
