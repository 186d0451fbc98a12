// The built-in page replaying a recorded room: comments at their times, seeking, speed, pause, and the stream that is asked for.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { startSite } from './support/site.js';
import { require, until } from './support/tools.js';
import { silence } from './support/wav.js';

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

const chat = (page) => page.getByRole('log', { name: 'Chat' }).getByRole('listitem');
const texts = (page) => chat(page).locator('span').allTextContents();
const isPainted = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector('#stage canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some((_, index) => index % 4 === 3 && data[index] > 0);
  });
const position = (page) => page.getByRole('slider', { name: 'Position' }).evaluate((slider) => Number(slider.value));
const seek = (page, ms) =>
  page.getByRole('slider', { name: 'Position' }).evaluate((slider, to) => {
    slider.value = to;
    slider.dispatchEvent(new Event('input'));
  }, ms);

/** Tells the room when streams began, relative to the first comment. */
async function begin(room, streams) {
  const { comments } = await (await fetch(`${server.url}/v1/rooms/${room}/comments`)).json();
  const ids = [];
  for (const { start, end, title } of streams) {
    const at = (ms) => comments[0].ts + ms;
    const body = JSON.stringify({ start: at(start), ...(end && { end: at(end) }), title });
    const response = await fetch(`${server.url}/v1/rooms/${room}/streams`, { method: 'POST', body });
    assert.equal(response.status, 201);
    ids.push((await response.json()).id);
  }
  return ids;
}

test('comments come at their time, and again after seeking back', async () => {
  await server.post('past', [{ text: 'opening', name: 'mira' }, { text: '<b>markup</b>', mode: 'top' }]);
  // The comments are 60 s into the video, which ends a minute later.
  await begin('past', [{ start: -60_000, end: 60_000, title: 'the show' }]);
  const page = await openPage(browser, `${server.url}/?room=past&replay`);
  await page.getByText('0:00 / 2:00').or(page.getByText('0:01 / 2:00')).waitFor();
  assert.equal(await page.title(), 'the show – past');
  assert.deepEqual(await texts(page), []);
  await seek(page, 59_500);
  await until(async () => (await texts(page)).length === 2, 'both comments');
  assert.deepEqual(await texts(page), ['opening', '<b>markup</b>']);
  await until(() => isPainted(page), 'the comments on the stage');
  await seek(page, 10_000);
  await until(async () => (await texts(page)).length === 0, 'an empty chat');
  assert.equal(await isPainted(page), false);
  // After the comments, the chat starts with those before, and the stage is empty.
  await seek(page, 90_000);
  await until(async () => (await texts(page)).length === 2, 'what came before');
  assert.equal(await isPainted(page), false);
  // Nobody can post into the past.
  assert.equal(await page.getByLabel('Your comment').isVisible(), false);
  page.assertClean();
});

test('pause stands still, speed goes faster, and arrows move', async () => {
  await server.post('speed', 'x');
  await begin('speed', [{ start: -3_600_000, end: 3_600_000, title: '' }]);
  const page = await openPage(browser, 'about:blank');
  await page.clock.install();
  await page.goto(`${server.url}/?room=speed&replay`);
  await until(async () => (await position(page)) > 0, 'the clock');
  await page.keyboard.press('k');
  await page.locator('#player.paused').waitFor();
  // From here on, time passes only when the test says so.
  await page.clock.pauseAt(Date.now() + 60_000);
  const still = await position(page);
  await page.clock.runFor(1000);
  assert.equal(await position(page), still);
  await page.keyboard.press('ArrowRight');
  assert.equal(await position(page), still + 5000);
  await page.getByRole('button', { name: 'Play' }).click();
  const passed = async (speed) => {
    await page.getByLabel('Speed').selectOption(speed);
    await page.clock.runFor(200);
    const before = await position(page);
    await page.clock.runFor(1000);
    return (await position(page)) - before;
  };
  assert.equal(Math.round(await passed('1')), 1000);
  assert.equal(Math.round(await passed('4')), 4000);
  assert.equal(Math.round(await passed('0.5')), 500);
});

test('a replay has neither what was said before it nor what only a live room has', async () => {
  await server.post('later', 'before the stream');
  await begin('later', [{ start: 1, end: 60_000, title: '' }]);
  const page = await openPage(browser, `${server.url}/?room=later&replay`);
  await page.getByText('/ 0:59').or(page.getByText('/ 1:00')).waitFor();
  await seek(page, 30_000);
  await seek(page, 0);
  await until(async () => (await position(page)) > 200, 'the clock');
  assert.deepEqual(await texts(page), []);
  await page.keyboard.press('e');
  assert.equal(await page.locator('#figures').count(), 0);
  const language = await page.locator('#language').boundingBox();
  assert.ok(language.x > page.viewportSize().width / 2, 'the buttons are on the right');
  const [stage, bar] = [await page.locator('#stage').boundingBox(), await page.locator('#replay').boundingBox()];
  assert.ok(stage.y + stage.height <= bar.y + 1, 'comments end above the controls');
  await page.keyboard.press('s');
  await page.getByText('← → seek').waitFor();
  page.assertClean();
});

test('a stream is chosen by its id, and one that is not there is said to be missing', async () => {
  await server.post('many', [{ text: 'one' }, { text: 'two' }]);
  const [first] = await begin('many', [{ start: -5000, end: 10_000, title: 'first' }, { start: 20_000, title: 'second' }]);
  const page = await openPage(browser, `${server.url}/?room=many&replay=${first}`);
  await page.getByText('/ 0:15').waitFor();
  await until(async () => (await texts(page)).length === 2, 'both comments');
  page.assertClean();
  for (const path of ['/?room=many&replay=999', '/?room=nothing&replay']) {
    const missing = await openPage(browser, `${server.url}${path}`, { expectedErrors: [/404/] });
    await missing.getByText('There is no such recording').waitFor();
    await missing.getByRole('button', { name: 'Pause' }).waitFor({ state: 'hidden' });
    missing.assertClean();
  }
});

test('a room without streams is replayed from its first comment', async () => {
  await server.post('plain', 'the very first');
  const page = await openPage(browser, `${server.url}/?room=plain&replay`, { locale: 'zh-CN' });
  await page.getByText('/ 0:08').waitFor();
  await page.getByText('回放', { exact: true }).waitFor();
  await until(async () => (await page.locator('#log li span').allTextContents()).includes('the very first'), 'the comment');
  page.assertClean();
});

test("a video sets the pace: its comments come at its times, and it stops with the page's button", async () => {
  const site = await startSite({ '/silence.wav': () => silence(60) });
  await server.post('video', 'thirty seconds in');
  await begin('video', [{ start: -30_000, end: 60_000, title: '' }]);
  const page = await openPage(browser, `${server.url}/`);
  await page.evaluate((media) => localStorage.setItem('danmaku', JSON.stringify({ media })), `${site.url}/silence.wav`);
  await page.goto(`${server.url}/?room=video&replay`);
  const time = () => page.locator('#video').evaluate((video) => video.currentTime);
  await until(async () => (await time()) > 0, 'the video');
  assert.deepEqual(await texts(page), []);
  await page.locator('#video').evaluate((video) => (video.currentTime = 29));
  await until(async () => (await texts(page)).length === 1, 'the comment');
  assert.ok((await time()) >= 30, 'not before its time');
  await page.getByLabel('Speed').selectOption('2');
  assert.equal(await page.locator('#video').evaluate((video) => video.playbackRate), 2);
  await seek(page, 10_000);
  await until(async () => (await texts(page)).length === 0, 'an empty chat');
  assert.ok((await time()) < 29, 'the video moved, too');
  await page.getByRole('button', { name: 'Pause' }).click();
  await until(() => page.locator('#video').evaluate((video) => video.paused), 'the pause');
  await site.stop();
});

test('axe finds nothing serious in a replay', async () => {
  await server.post('axe', [{ text: 'hello', name: 'mira' }]);
  await begin('axe', [{ start: -1000, end: 60_000, title: 'the show' }]);
  const page = await openPage(browser, `${server.url}/?room=axe&replay`, { colorScheme: 'dark', reducedMotion: 'reduce' });
  await until(async () => (await texts(page)).length === 1, 'the comment');
  await page.locator('#player').hover();
  await page.evaluate(require('axe-core').source);
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join('; ')}`), []);
  page.assertClean();
});
