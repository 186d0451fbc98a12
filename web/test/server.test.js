// The server as a browser sees it: what a page of its own origin may do.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';

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

test('a page of the server itself watches and posts with what the browser has', async () => {
  const page = await openPage(browser, `${server.url}/healthz`, {
    expectedErrors: [/404/], // the icon that browsers ask for
  });
  const batch = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://${location.host}/v1/rooms/r/ws`);
        socket.onmessage = ({ data }) => {
          const message = JSON.parse(data);
          if (message.type === 'joined') socket.send('{"type":"comment","ref":1,"text":"from a page"}');
          if (message.type === 'batch') resolve(message);
        };
      }),
  );
  assert.deepEqual(batch.comments, [{ text: 'from a page' }]);
  page.assertClean();
});
