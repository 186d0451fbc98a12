// The renderer in Chromium: what it shows, what it refuses, and that its pixels are where its lanes say.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { openBrowser, openPage } from './support/browser.js';
import { startSite } from './support/site.js';
import { sizeOf } from './support/size.js';
import { nodeModules, until, webFolder } from './support/tools.js';
import { silence } from './support/wav.js';

const SIZE = { viewport: { width: 1280, height: 720 } };

let browser;
let site;
before(async () => {
  site = await startSite({ '/silence.wav': () => silence(60) });
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  await site.stop();
});

/** A page with a stage in `window.stage`. */
async function openStage(options = {}, pageOptions = SIZE) {
  const page = await openPage(browser, `${site.url}/`, pageOptions);
  await page.evaluate(async (stageOptions) => {
    const { DanmakuStage } = await import('/web/renderer/index.js');
    window.element = document.getElementById('stage');
    window.stage = new DanmakuStage(window.element, stageOptions);
    window.canvas = window.element.querySelector('canvas');
    /** How many pixels are painted in a part of the canvas. */
    window.painted = (x = 0, y = 0, width = window.canvas.width - x, height = window.canvas.height - y) => {
      const { data } = window.canvas.getContext('2d').getImageData(x, y, width, height);
      let count = 0;
      for (let alpha = 3; alpha < data.length; alpha += 4) if (data[alpha] > 0) count++;
      return count;
    };
    window.frames = (count) =>
      new Promise((done) => {
        const next = () => (count-- > 0 ? requestAnimationFrame(next) : done());
        next();
      });
    /** The comments' left edges, found by asking what is at each point of a lane. */
    window.leftOf = (id) => {
      for (let y = 10; y < window.element.clientHeight; y += 20) {
        for (let x = 0; x < window.element.clientWidth; x++) if (window.stage.at(x, y)?.id === id) return x;
      }
      return null;
    };
  }, options);
  return page;
}

test('comments of every mode are painted, where at() says they are', async () => {
  const page = await openStage();
  const outcomes = await page.evaluate(async () => {
    const shown = ['scroll', 'top', 'bottom'].map((mode, id) => window.stage.show({ id, text: `a ${mode} comment`, mode }));
    await window.frames(30);
    return shown;
  });
  assert.deepEqual(outcomes, ['shown', 'shown', 'shown']);
  const hits = await page.evaluate(() => [window.stage.at(640, 20)?.id, window.stage.at(640, 700)?.id, window.stage.at(5, 400)]);
  assert.deepEqual(hits, [1, 2, null]);
  assert.ok((await page.evaluate(() => window.painted(500, 680, 280, 40))) > 500, 'the bottom one is painted');
  assert.equal(await page.evaluate(() => window.painted(0, 100, 1280, 500)), 0, 'and nothing between them');
  page.assertClean();
});

test('retracted and cleared comments are gone at once, also while paused', async () => {
  const page = await openStage();
  await page.evaluate(async () => {
    for (const id of [1, 2, 3]) window.stage.show({ id, text: `comment ${id}`, mode: 'top' });
    await window.frames(20);
    window.stage.pause();
  });
  const counts = await page.evaluate(() => {
    const seen = [window.painted()];
    window.stage.retract([2, 77]);
    seen.push(window.painted(), window.stage.stats().onStage);
    window.stage.clear();
    return [...seen, window.painted(), window.stage.stats().onStage];
  });
  assert.ok(counts[0] > counts[1] && counts[1] > 0, String(counts));
  assert.deepEqual(counts.slice(2), [2, 0, 0]);
});

test('blocked words and users are the viewer’s, and never hide the viewer’s own', async () => {
  const page = await openStage({ blockedWords: ['Spoiler', ''], blockedUsers: ['troll'] });
  const outcomes = await page.evaluate(() =>
    [
      { text: 'a ＳＰＯＩＬＥＲ!' },
      { text: 'hello', user: 'troll' },
      { text: 'my spoiler', own: true },
      { text: 'hello', user: 'friend' },
    ].map((comment) => window.stage.show(comment)),
  );
  assert.deepEqual(outcomes, ['blocked', 'blocked', 'shown', 'shown']);
});

test('a crowded stage refuses others but shows the viewer’s own, framed', async () => {
  const page = await openStage({ area: 0.1 });
  const { outcomes, own, stats } = await page.evaluate(() => {
    const shown = [];
    for (let id = 0; id < 100; id++) shown.push(window.stage.show({ id, text: `comment ${id}`, mode: 'top' }));
    return { outcomes: shown, own: window.stage.show({ id: 500, text: 'mine', mode: 'top', own: true }), stats: window.stage.stats() };
  });
  assert.equal(outcomes.at(-1), 'crowded');
  assert.equal(own, 'shown');
  assert.equal(stats.shown + stats.blocked + stats.crowded + stats.stopped, stats.offered);
  await until(() => page.evaluate(() => window.stage.at(640, 10)?.id === 500));
});

test('text is text: markup, right-to-left, emoji, combining characters and 200 wide ones keep to their bounds', async () => {
  const page = await openStage();
  const texts = ['<b>bold</b><img src=x onerror="console.error(1)">', 'مرحبا שלום ‮evil', '👨‍👩‍👧‍👦🇯🇵😂', `a${'\u0335\u0347'.repeat(99)}`, '宽'.repeat(200), ' \n\t ', ''];
  const result = await page.evaluate(async (all) => {
    const outcomes = all.flatMap((text) => ['scroll', 'top'].map((mode) => window.stage.show({ text, mode, size: 64 })));
    await window.frames(30);
    return { outcomes, children: window.element.childElementCount, scrolls: document.documentElement.scrollWidth > 1280 };
  }, texts);
  assert.ok(result.outcomes.every((outcome) => ['shown', 'crowded'].includes(outcome)), String(result.outcomes));
  assert.deepEqual([result.children, result.scrolls], [1, false]);
  page.assertClean();
});

test('a stage of a few pixels, or of none, fails nothing', async () => {
  const page = await openStage();
  const outcomes = await page.evaluate(async () => {
    const seen = [];
    for (const pixels of [1, 5, 40, 0]) {
      window.element.style.cssText = `width: ${pixels}px; height: ${pixels}px`;
      await window.frames(3);
      seen.push(window.stage.show({ text: 'top', mode: 'top', own: true }), window.stage.show({ text: 'hi', own: true }));
    }
    return seen;
  });
  assert.deepEqual(outcomes, [...Array(6).fill('shown'), 'stopped', 'stopped']);
  page.assertClean();
});

test('a comment keeps its place when the stage is resized, and moves on', async () => {
  const page = await openStage();
  await page.evaluate(async () => {
    window.stage.show({ id: 1, text: 'a scrolling comment' });
    while ((window.leftOf(1) ?? 999) > 900) await window.frames(1);
    window.stage.pause();
  });
  const before = await page.evaluate(() => window.leftOf(1));
  await page.setViewportSize({ width: 1000, height: 500 });
  await until(() => page.evaluate(() => window.canvas.width === 1000));
  assert.equal(await page.evaluate(() => window.leftOf(1)), before);
  assert.ok((await page.evaluate(() => window.painted())) > 0, 'it is painted before the next frame');
  await page.evaluate(() => window.stage.play());
  await until(() => page.evaluate((left) => window.leftOf(1) < left, before));
});

test('another devicePixelRatio repaints at that scale without a jump', async () => {
  const page = await openStage();
  await page.evaluate(async () => {
    window.stage.show({ id: 1, text: 'top', mode: 'top' });
    await window.frames(20);
  });
  const before = await page.evaluate(() => window.leftOf(1));
  const session = await page.context().newCDPSession(page);
  await session.send('Emulation.setDeviceMetricsOverride', { width: 1280, height: 720, deviceScaleFactor: 2, mobile: false });
  await until(() => page.evaluate(() => window.canvas.width === 2560));
  assert.equal(await page.evaluate(() => window.leftOf(1)), before);
});

test('a paused stage takes nothing, and goes on where it was', async () => {
  const page = await openStage();
  const outcomes = await page.evaluate(() => {
    window.stage.pause();
    const paused = Array.from({ length: 1000 }, () => window.stage.show({ text: 'x', own: true }));
    window.stage.play();
    return [...new Set(paused), window.stage.show({ text: 'x' }), window.stage.stats().onStage];
  });
  assert.deepEqual(outcomes, ['stopped', 'shown', 1]);
});

test('a page in the background takes nothing', async () => {
  const page = await openStage();
  const outcomes = await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
    const hidden = Array.from({ length: 1000 }, () => window.stage.show({ text: 'x' }));
    delete document.hidden;
    document.dispatchEvent(new Event('visibilitychange'));
    return [...new Set(hidden), window.stage.show({ text: 'x' })];
  });
  assert.deepEqual(outcomes, ['stopped', 'shown']);
});

test('it pauses with the video', async () => {
  const page = await openStage();
  await page.evaluate(async () => {
    window.video = Object.assign(document.createElement('video'), { src: '/silence.wav', muted: true });
    window.stage.follow(window.video);
  });
  const show = () => page.evaluate(() => window.stage.show({ id: 1, text: 'a comment' }));
  assert.equal(await show(), 'stopped');
  await page.evaluate(() => window.video.play());
  await until(async () => (await show()) === 'shown');
  await until(() => page.evaluate(() => window.leftOf(1) !== null));
  await page.evaluate(() => window.video.pause());
  assert.equal(await show(), 'stopped');
  const [first, second] = await page.evaluate(async () => {
    const before = window.leftOf(1);
    await window.frames(10);
    return [before, window.leftOf(1)];
  });
  assert.equal(second, first);
  await page.evaluate(() => window.stage.follow(null));
  assert.equal(await show(), 'shown');
});

test('who prefers reduced motion sees comments appear and fade in place', async () => {
  const page = await openStage({}, { ...SIZE, reducedMotion: 'reduce' });
  const [first, second] = await page.evaluate(async () => {
    window.stage.show({ id: 1, text: 'a scrolling comment' });
    await window.frames(20);
    const before = window.leftOf(1);
    await window.frames(20);
    return [before, window.leftOf(1)];
  });
  assert.ok(first > 0);
  assert.equal(second, first);
});

test('options out of their range, or no numbers, are set to what is possible', async () => {
  const page = await openStage({ area: 9, density: Number.NaN, fontScale: 'large', opacity: 0, durationMs: 0 });
  assert.equal(await page.evaluate(() => window.stage.show({ text: 'x' })), 'shown');
  assert.equal(await page.evaluate(() => window.canvas.style.opacity), '0');
  await page.evaluate(() => window.stage.set({ blockedWords: undefined, opacity: undefined }));
  assert.equal(await page.evaluate(() => window.stage.show({ text: 'x' })), 'shown');
  assert.equal(await page.evaluate(() => window.canvas.style.opacity), '0');
});

test('nothing is left of a destroyed stage', async () => {
  const page = await openStage();
  const left = await page.evaluate(() => {
    window.stage.show({ text: 'x' });
    window.stage.destroy();
    return [window.stage.show({ text: 'x' }), window.element.childElementCount, window.stage.stats().onStage];
  });
  assert.deepEqual(left, ['stopped', 0, 0]);
  page.assertClean();
});

test('it stays small', async (context) => {
  let bytes = 0;
  for (const name of await readdir(`${webFolder}renderer`)) {
    if (name.endsWith('.js')) bytes += sizeOf(name, await readFile(`${webFolder}renderer/${name}`, 'utf8'));
  }
  context.diagnostic(`${bytes} bytes without comments and empty lines`);
  assert.ok(bytes < 12_000, `${bytes} bytes`);
});

test('renderer and adapters pass the type check', async () => {
  const adapters = (await readdir(`${webFolder}adapters`)).filter((name) => name.endsWith('.js'));
  const files = ['renderer/index.js', 'renderer/index.d.ts', ...adapters.map((name) => `adapters/${name}`)];
  const options = ['--noEmit', '--allowJs', '--checkJs', '--strict', '--target', 'es2023', '--module', 'nodenext'];
  const more = ['--allowImportingTsExtensions', '--lib', 'es2023,dom,dom.iterable', '--typeRoots', `${nodeModules}/@types`];
  const compiler = `${nodeModules}/typescript/bin/tsc`;
  const run = promisify(execFile)(process.execPath, [compiler, ...options, ...more, ...files], { cwd: webFolder });
  await run.catch(({ stdout }) => assert.fail(stdout));
});
