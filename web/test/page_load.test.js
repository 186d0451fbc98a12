// The page under load: how smooth it stays, and whether it grows.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { isLong } from './support/tools.js';

const UNLIMITED = ['address', 'room'].flatMap((whose) => [
  `--posts-per-second-per-${whose}`, '100000',
  `--posts-per-second-per-${whose}-burst`, '100000',
]);
const WORDS = ['前方高能', 'what a night', '好听!', 'that bass line though', '👏👏👏', '摩天轮亮灯了', 'encore!', 'すごい'];

let browser;
let server;
before(async () => {
  server = await startServer(UNLIMITED);
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  await server.stop();
});

/** Posts at an even rate, several at a time; returns how many. */
async function post(room, perSecond, seconds) {
  const started = performance.now();
  let posted = 0;
  while (performance.now() - started < seconds * 1000) {
    const due = Math.min(perSecond * seconds, Math.ceil(((performance.now() - started) / 1000) * perSecond)) - posted;
    const comments = Array.from({ length: Math.min(due, 100) }, (_, index) => ({
      text: `${WORDS[(posted + index) % WORDS.length]} ${posted + index}`,
      name: `viewer ${index}`,
      mode: index % 10 === 0 ? 'top' : 'scroll',
    }));
    if (comments.length) await server.post(room, comments);
    posted += comments.length;
    await new Promise((done) => setTimeout(done, 50));
  }
  return posted;
}

async function openRoom(room) {
  const page = await openPage(browser, `${server.url}/?room=${room}`, { viewport: { width: 1440, height: 900 } });
  await page.locator('#state.joined').waitFor();
  return page;
}

test('200 comments a second for 20 seconds keep the page alive and its lists bounded', async () => {
  const page = await openRoom('burst');
  await page.evaluate(() => {
    window.frameTimes = [];
    const next = (now) => {
      window.frameTimes.push(now);
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  });
  const posted = await post('burst', 200, 20);
  const perSecond = await page.evaluate(() => {
    const counts = [];
    for (const time of window.frameTimes) {
      const second = Math.floor((time - window.frameTimes[0]) / 1000);
      counts[second] = (counts[second] ?? 0) + 1;
    }
    return [...counts.slice(0, -1)].map((frames) => frames ?? 0);
  });
  const median = perSecond.toSorted((a, b) => a - b)[perSecond.length >> 1];
  console.log(`animation frames a second, median: ${median}; lowest: ${Math.min(...perSecond)}; ${posted} comments posted`);
  // How many frames a machine without a graphics card draws is its own affair; that it draws is ours.
  assert.ok(median > 1, `${median} frames a second`);
  await page.locator('#log li').last().getByText(String(posted - 1)).waitFor();
  assert.ok((await page.locator('#log li').count()) <= 200);
  page.assertClean();
});

test('10 minutes at 50 comments a second do not grow the heap', { skip: !isLong && 'DANMAKU_LONG=1 runs it' }, async () => {
  const page = await openRoom('long');
  const session = await page.context().newCDPSession(page);
  const heapBytes = async () => {
    await session.send('HeapProfiler.collectGarbage');
    return (await session.send('Runtime.getHeapUsage')).usedSize;
  };
  await post('long', 50, 60);
  const before = await heapBytes();
  await post('long', 50, 9 * 60);
  const after = await heapBytes();
  console.log(`heap after 1 minute: ${before} bytes; after 10 minutes: ${after} bytes`);
  assert.ok(after < before * 1.2 + 500_000, `${before} -> ${after}`);
  page.assertClean();
});
