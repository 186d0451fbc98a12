// The renderer under load: 200 comments a second for 20 s, and its memory. With DANMAKU_LONG=1 the memory is watched for
// 10 minutes at 50 comments a second, otherwise for a few seconds.
//
// Frames a second depend on the machine, so they are printed, not asserted:
//   cargo xtask web renderer_load

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startSite } from './support/site.js';
import { isLong } from './support/tools.js';

let browser;
let site;
before(async () => {
  site = await startSite();
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  await site.stop();
});

async function openStage(options) {
  const page = await openPage(browser, `${site.url}/`, { viewport: { width: 1280, height: 720 } });
  await page.evaluate(async (stageOptions) => {
    const { DanmakuStage } = await import('/web/renderer/index.js');
    window.stage = new DanmakuStage(document.getElementById('stage'), stageOptions);
    const texts = ['666666', 'goal!!!', '主播好厉害啊啊啊啊', '😂😂😂 lol', '前方高能预警！！！', 'hello from a phone in the rain'];
    const modes = ['scroll', 'scroll', 'scroll', 'scroll', 'scroll', 'scroll', 'scroll', 'scroll', 'top', 'bottom'];
    /** Offers `rate` comments a second for `ms`, and resolves with the times between frames. */
    window.load = (rate, ms) =>
      new Promise((done) => {
        const start = performance.now();
        const gaps = [];
        let previous = start;
        let id = 0;
        const frame = (now) => {
          gaps.push(now - previous);
          previous = now;
          if (now - start < ms) requestAnimationFrame(frame);
          else done({ gaps, offered: id, stats: window.stage.stats() });
        };
        requestAnimationFrame(frame);
        const timer = setInterval(() => {
          const elapsed = performance.now() - start;
          if (elapsed >= ms) clearInterval(timer);
          for (; id < (Math.min(elapsed, ms) * rate) / 1000; id++) {
            const color = id % 4 ? 0xffffff : (id * 0x9e3779) & 0xffffff;
            window.stage.show({ id, text: `${texts[id % texts.length]} ${id}`, mode: modes[id % modes.length], color });
          }
        }, 10);
      });
  }, options);
  return page;
}

const quantile = (values, share) => values.toSorted((a, b) => a - b)[Math.floor(values.length * share)];

for (const [what, options] of [
  ['as it comes', {}],
  ['with four layers of comments', { density: 4 }],
]) {
  test(`200 comments a second for 20 s, ${what}: all are accounted for`, async (context) => {
    const page = await openStage(options);
    const { gaps, stats } = await page.evaluate(() => window.load(200, 20_000));
    const median = 1000 / quantile(gaps, 0.5);
    context.diagnostic(
      `${median.toFixed(1)} frames/s median, 99 % of frames within ${quantile(gaps, 0.99).toFixed(1)} ms, ` +
        `longest ${Math.max(...gaps).toFixed(1)} ms; ${JSON.stringify(stats)}`,
    );
    assert.equal(stats.offered, stats.shown + stats.blocked + stats.crowded + stats.stopped);
    assert.equal(stats.stopped, 0);
    page.assertClean();
  });
}

test('comments leave nothing behind in memory', async (context) => {
  const page = await openStage({});
  const session = await page.context().newCDPSession(page);
  await session.send('HeapProfiler.enable');
  const heap = async () => {
    await page.evaluate(() => window.stage.clear());
    await session.send('HeapProfiler.collectGarbage');
    return (await session.send('Runtime.getHeapUsage')).usedSize;
  };
  await page.evaluate(() => window.load(50, 5000).then(() => 0));
  const before = await heap();
  const seconds = isLong ? 600 : 5;
  // A minute at a time, so that the times between frames are not what grows.
  for (let left = seconds; left > 0; left -= 60) {
    await page.evaluate((ms) => window.load(50, ms).then(() => 0), Math.min(60, left) * 1000);
    context.diagnostic(`after ${seconds - left + Math.min(60, left)} s: ${(await heap()) - before} bytes more`);
  }
  const grown = (await heap()) - before;
  assert.ok(grown < 500_000, `the heap grew by ${grown} bytes in ${seconds} s`);
});
