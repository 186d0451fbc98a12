// The adapters with the real npm packages. A stand-in for the room hands out 500 comments in a known rhythm, so that the
// only thing that decides what is seen is the package.
//
// How it counts: `drawn` is the number of elements that the package itself put on its stage with a comment's text (a
// MutationObserver sees every one), `refused` the comments for which the package said that it had no free lane. No comment
// may be lost: drawn + refused = offered. Where the package can be told to let comments overlap, `refused` must be 0.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startSite } from './support/site.js';
import { until } from './support/tools.js';
import { silence } from './support/wav.js';

const OFFERED = 500;
const HOSTILE = '<img src=x onerror="console.error(1)">&lt;';

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

/** A page with the package's player on `#stage`, made by `setUp` in the page and attached to `room`. */
async function openPlayer(adapter, scripts, setUp) {
  const page = await openPage(browser, `${site.url}/`, { viewport: { width: 1280, height: 720 } });
  for (const script of scripts) await page.addScriptTag({ url: `/npm/${script}` });
  await page.evaluate(() => {
    const listeners = {};
    window.room = {
      on(name, listener) {
        listeners[name] = listener;
        return () => delete listeners[name];
      },
      hand: (name, value) => listeners[name]?.(value),
      comment: (id, more) =>
        window.room.hand('comment', { id, text: `comment ${id}`, mode: 'scroll', color: 0xffffff, size: 25, ...more }),
      modeOf: (id) => ['scroll', 'scroll', 'scroll', 'top', 'bottom'][id % 5],
    };
    // Every comment that any package puts on its stage, by its text.
    window.drawn = new Set();
    const note = (node) => {
      const found = /comment \d+/.exec(node.textContent);
      if (found) window.drawn.add(found[0]);
    };
    const observer = new MutationObserver((records) => records.forEach(({ addedNodes }) => addedNodes.forEach(note)));
    observer.observe(document.getElementById('stage'), { childList: true, subtree: true });
    window.onStage = () => document.getElementById('stage').innerText;
  });
  await page.evaluate(setUp);
  await page.evaluate(async (name) => {
    const { attach } = await import(`/web/adapters/${name}.js`);
    window.detach = attach(window.room, window.player);
  }, adapter);
  return page;
}

/** Hands out all comments, `perTick` every 50 ms, and resolves when `isDone` says that the package has dealt with them. */
async function offerAll(page, perTick) {
  await page.evaluate(
    ([offered, size]) =>
      new Promise((done) => {
        let id = 0;
        const timer = setInterval(() => {
          for (let n = 0; n < size && id < offered; n++) window.room.comment(++id, { mode: window.room.modeOf(id) });
          if (id >= offered) done(clearInterval(timer));
        }, 50);
      }),
    [OFFERED, perTick],
  );
}

const drawnBy = (page) => page.evaluate(() => window.drawn.size);

test('danmaku draws all, keeps no old ones, and removes what is retracted', async () => {
  const page = await openPlayer('danmaku', ['danmaku/dist/danmaku.min.js'], () => {
    window.player = new window.Danmaku({ container: document.getElementById('stage') });
  });
  await offerAll(page, 5);
  await until(async () => (await drawnBy(page)) === OFFERED);
  assert.ok((await page.evaluate(() => window.player.comments.length)) < 300, 'its array is trimmed');
  await page.evaluate((text) => window.room.comment(1001, { text }), HOSTILE);
  await until(() => page.evaluate((text) => window.onStage().includes(text), HOSTILE));
  await page.evaluate(() => window.room.hand('retract', { ids: [1001] }));
  await until(() => page.evaluate(() => !window.onStage().includes('onerror')));
  await page.evaluate(() => window.room.hand('clear', {}));
  assert.equal(await page.evaluate(() => window.onStage().trim()), '');
  page.assertClean();
});

test('danmaku over a video, on a canvas: the same comments, none while the video is paused', async () => {
  const page = await openPlayer('danmaku', ['danmaku/dist/danmaku.min.js'], async () => {
    const media = Object.assign(document.createElement('video'), { src: '/silence.wav', muted: true });
    await media.play();
    window.player = new window.Danmaku({ container: document.getElementById('stage'), media, engine: 'canvas' });
    window.media = media;
  });
  await page.evaluate(() => window.room.comment(1));
  await until(() => page.evaluate(() => window.player._.runningList.length === 1));
  await page.evaluate(() => window.room.hand('retract', { ids: [1] }));
  await until(() => page.evaluate(() => window.player._.runningList.length === 0));
  await page.evaluate(() => {
    window.media.pause();
    window.room.comment(2);
  });
  assert.equal(await page.evaluate(() => window.player.comments.length), 1);
  page.assertClean();
});

test('artplayer shows all when comments may overlap, and removes what is retracted', async () => {
  const scripts = ['artplayer/dist/artplayer.js', 'artplayer-plugin-danmuku/dist/artplayer-plugin-danmuku.js'];
  const page = await openPlayer('artplayer', scripts, async () => {
    const plugin = window.artplayerPluginDanmuku({ danmuku: [], antiOverlap: false, emitter: false });
    const container = document.getElementById('stage');
    window.player = new window.Artplayer({ container, url: '/silence.wav', muted: true, plugins: [plugin] });
    await new Promise((ready) => window.player.on('ready', ready));
    await window.player.play();
    // It reuses elements and sets their text before it knows where they go, so its own event is what counts.
    window.drawn.clear();
    window.seen = new Set();
    window.player.on('artplayerPluginDanmuku:visible', ({ text }) => window.seen.add(text));
  });
  await until(() => page.evaluate(() => window.player.playing));
  await offerAll(page, 2);
  const seen = () => page.evaluate(() => window.seen.size);
  await until(async () => (await seen()) === OFFERED);
  await page.evaluate((text) => window.room.comment(1001, { text }), HOSTILE);
  await until(() => page.evaluate((text) => window.seen.has(text), HOSTILE));
  const isVisible = (text) =>
    [...document.querySelectorAll('.art-danmuku > *')].some(
      (node) => node.textContent === text && node.style.visibility === 'visible',
    );
  assert.ok(await page.evaluate(isVisible, HOSTILE), 'shown as text');
  await page.evaluate(() => window.room.hand('retract', { ids: [1001] }));
  await until(async () => !(await page.evaluate(isVisible, HOSTILE)));
  await page.evaluate(() => window.room.hand('clear', {}));
  await until(() => page.evaluate(() => document.querySelector('.art-danmuku').textContent === ''));
  page.assertClean();
});

test('dplayer draws all when it is told to, with markup and black as they are', async () => {
  const page = await openPlayer('dplayer', ['dplayer/dist/DPlayer.min.js'], async () => {
    window.player = new window.DPlayer({
      container: document.getElementById('stage'),
      video: { url: '/silence.wav' },
      danmaku: { id: 'room', api: '', unlimited: true },
      apiBackend: { read: ({ success }) => success([]), send: ({ success }) => success() },
    });
    window.player.danmaku.unlimit(true);
    window.player.video.muted = true;
    await window.player.video.play();
  });
  await offerAll(page, 5);
  assert.equal(await drawnBy(page), OFFERED);
  await page.evaluate((text) => window.room.comment(1001, { text, color: 0 }), HOSTILE);
  const item = page.locator('[data-room-id="1001"]');
  assert.equal(await item.textContent(), HOSTILE);
  assert.equal(await item.evaluate((node) => node.style.color), 'rgb(0, 0, 1)');
  await page.evaluate(() => window.room.hand('retract', { ids: [1001] }));
  assert.equal(await item.textContent(), '');
  await page.evaluate(() => window.room.hand('clear', {}));
  assert.equal(await page.locator('[data-room-id]').count(), 0);
  page.assertClean();
});

test('dplayer with lanes: what it has no lane for is all that is missing', async () => {
  const page = await openPlayer('dplayer', ['dplayer/dist/DPlayer.min.js'], async () => {
    window.player = new window.DPlayer({
      container: document.getElementById('stage'),
      video: { url: '/silence.wav' },
      danmaku: { id: 'room', api: '' },
      apiBackend: { read: ({ success }) => success([]), send: ({ success }) => success() },
    });
    window.player.danmaku.unlimit(false);
    window.player.video.muted = true;
    await window.player.video.play();
    const { draw } = window.player.danmaku;
    window.refused = 0;
    window.player.danmaku.draw = function (comment) {
      const before = this.container.childElementCount;
      draw.call(this, comment);
      if (this.container.childElementCount === before) window.refused++;
    };
  });
  await offerAll(page, 5);
  const refused = await page.evaluate(() => window.refused);
  assert.equal((await drawnBy(page)) + refused, OFFERED);
  assert.ok(refused < OFFERED);
  page.assertClean();
});

test('danmu.js: what it has no lane for is all that is missing, and a retraction frees its lane', async () => {
  const page = await openPlayer('danmu-js', ['danmu.js/browser/index.js'], async () => {
    const Danmu = window.DanmuJs ?? window.Danmu;
    window.player = new Danmu({ container: document.getElementById('stage'), live: true, comments: [] });
    const lanes = () => window.player.main.channel.channels.length;
    while (!lanes()) await new Promise(requestAnimationFrame);
    const { channel } = window.player.main;
    const { addBullet, checkAvailableTrack } = channel;
    window.refused = 0;
    window.refusedTexts = new Set();
    channel.addBullet = function (bullet) {
      const answer = addBullet.call(this, bullet);
      if (!answer.result) window.refusedTexts.add(bullet.options.txt);
      return answer;
    };
    channel.checkAvailableTrack = function (mode) {
      const isFree = checkAvailableTrack.call(this, mode);
      if (!isFree) window.refused++;
      return isFree;
    };
  });
  await offerAll(page, 1);
  const counts = await page.evaluate(() => {
    // An element that is taken away again in the same task was on the stage for no frame.
    const drawn = [...window.drawn].filter((text) => !window.refusedTexts.has(text)).length;
    return { drawn, refused: window.refused + window.refusedTexts.size, kept: window.player.main.data.length };
  });
  assert.equal(counts.drawn + counts.refused, OFFERED, JSON.stringify(counts));
  assert.ok(counts.drawn > OFFERED / 10, JSON.stringify(counts));
  assert.equal(counts.kept, 0);
  await page.evaluate(() => window.room.hand('clear', {}));
  assert.equal(await page.evaluate(() => window.player.main.queue.length), 0);
  await page.evaluate((text) => window.room.comment(1001, { text }), HOSTILE);
  assert.ok((await page.evaluate(() => window.onStage())).includes(HOSTILE));
  await page.evaluate(() => window.room.hand('retract', { ids: [1001] }));
  assert.ok(!(await page.evaluate(() => window.onStage())).includes(HOSTILE));
  const used = () => window.player.main.channel.channels.filter(({ queue }) => queue.scroll.length > 0).length;
  assert.equal(await page.evaluate(used), 0);
  page.assertClean();
});
