// The built-in page in Chromium: what a viewer sees and does.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startProxy } from './support/proxy.js';
import { startServer } from './support/server.js';
import { require, until } from './support/tools.js';

/**
 * What Chromium itself writes to the console while a server is away. One that is back already answers 426 when the SDK asks why
 * the WebSocket failed.
 */
const AWAY = [/ERR_CONNECTION|ERR_EMPTY_RESPONSE|WebSocket connection to|426/];

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

/** Opens a room's page and waits until it has joined. */
async function openRoom(room, options, origin = server.url) {
  const page = await openPage(browser, `${origin}/?room=${room}`, options);
  await page.locator('#state.joined').waitFor();
  return page;
}

const chat = (page) => page.getByRole('log', { name: 'Chat' }).getByRole('listitem');

/** Whether anything is painted on the stage. */
const isPainted = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector('#stage canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some((_, index) => index % 4 === 3 && data[index] > 0);
  });

async function say(page, text) {
  await page.getByLabel('Your comment').fill(text);
  await page.getByRole('button', { name: 'Send' }).click();
}

test('a comment posted over HTTP is in the chat and flies over the player', async () => {
  const page = await openRoom('http');
  await server.post('http', { text: 'hello from curl', name: 'mira', color: 0xff0000 });
  await chat(page).getByText('hello from curl').waitFor();
  await until(() => isPainted(page), 'the comment on the stage');
  assert.equal(await page.locator('#viewers').textContent(), '1 watching');
  page.assertClean();
});

test('an empty room invites the first comment and shows how to post it', async () => {
  const page = await openRoom('empty');
  await page.getByText(`curl -d '{"text":"hello"}' ${server.url}/v1/rooms/empty/comments`).waitFor();
  await page.getByRole('button', { name: 'Post the first comment' }).click();
  await page.keyboard.type('first!');
  await page.keyboard.press('Enter');
  await chat(page).getByText('first!').waitFor();
  await page.getByText('It is quiet in here').waitFor({ state: 'hidden' });
  page.assertClean();
});

test('the keyboard alone is enough to post in a colour and a position', async () => {
  const page = await openRoom('keys');
  await page.keyboard.press('c');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'text');
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').getByLabel('Your name').fill('ada');
  await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Escape');
  await page.keyboard.press('Tab');
  await page.keyboard.type('typed only');
  await page.keyboard.press('Enter');
  await chat(page).getByText('typed only').waitFor();
  const { comments } = await (await fetch(`${server.url}/v1/rooms/keys/comments`)).json();
  const { text, name, color, mode } = comments[0];
  assert.deepEqual({ text, name, color, mode }, { text: 'typed only', name: 'ada', color: 0xff6b6b, mode: 'top' });
  page.assertClean();
});

test('likes are counted and float up for everyone', async () => {
  const [one, other] = [await openRoom('likes'), await openRoom('likes')];
  await one.getByRole('button', { name: 'Like (L)' }).click();
  await other.locator('#hearts i').first().waitFor({ state: 'attached' });
  await until(async () => (await other.locator('#like').textContent()).trim() === '1', 'the count');
  one.assertClean();
  other.assertClean();
});

test('the page survives a restart of the server, and posts again', async () => {
  const own = await startServer();
  const page = await openRoom('restart', { expectedErrors: AWAY }, own.url);
  await say(page, 'before');
  await chat(page).getByText('before').waitFor();
  await own.kill();
  await page.getByText(/Trying again in \d+ s/).waitFor();
  await own.restart();
  await page.locator('#state.joined').waitFor();
  await say(page, 'after');
  await chat(page).getByText('after', { exact: true }).waitFor();
  assert.equal(await chat(page).count(), 1, 'the new epoch cleared the list');
  page.assertClean();
  await own.stop();
});

test('a broken connection resumes without a gap', async () => {
  const proxy = await startProxy(server.port);
  const page = await openRoom('resume', { expectedErrors: AWAY }, proxy.url);
  await server.post('resume', 'one');
  await chat(page).getByText('one').waitFor();
  proxy.block();
  await page.locator('#state.reconnecting').waitFor();
  await server.post('resume', 'two');
  proxy.unblock();
  await chat(page).getByText('two').waitFor();
  await server.post('resume', 'three');
  await chat(page).getByText('three').waitFor();
  assert.deepEqual(await chat(page).locator('span').allTextContents(), ['one', 'two', 'three']);
  page.assertClean();
  proxy.stop();
});

test('a retracted comment leaves the chat', async () => {
  const page = await openRoom('retract');
  const { id } = await server.post('retract', 'regretted');
  await server.post('retract', 'kept');
  await chat(page).getByText('kept').waitFor();
  await fetch(`${server.url}/v1/rooms/retract/comments/${id}`, { method: 'DELETE' });
  await chat(page).getByText('regretted').waitFor({ state: 'detached' });
  page.assertClean();
});

test('a refusal says why, counts down, and keeps the text', async () => {
  const strict = await startServer(['--posts-per-second-per-connection', '1', '--posts-per-second-per-connection-burst', '1']);
  const page = await openRoom('strict', {}, strict.url);
  // It lasts a second: too short to look at from here.
  await page.evaluate(() => {
    const [send, refusal] = ['send', 'refusal'].map((id) => document.getElementById(id));
    window.seen = [];
    new MutationObserver(() => window.seen.push(`${send.textContent}|${refusal.textContent}`)).observe(document.getElementById('composer'), {
      childList: true,
      subtree: true,
    });
  });
  await page.evaluate(() => {
    const text = document.getElementById('text');
    for (const value of ['one', 'two']) {
      text.value = value;
      text.form.requestSubmit();
    }
  });
  await until(() => page.evaluate(() => window.seen.some((said) => /^\d\|You are posting too fast. Try again in \d s$/.test(said))), 'the reason');
  const send = page.locator('#send');
  await until(async () => (await send.textContent()) === 'Send', 'the end of the countdown');
  assert.equal(await page.getByLabel('Your comment').inputValue(), 'two');
  await send.click();
  await chat(page).getByText('two').waitFor();
  // Until the limit of one post a second lets the next one through.
  await page.waitForTimeout(1500);
  await say(page, 'x'.repeat(201));
  await page.getByRole('alert').getByText('At most 200 characters').waitFor();
  page.assertClean();
  await strict.stop();
});

test('a comment that fails after something else was typed is kept until it is sent or discarded', async () => {
  const page = await openRoom('kept');
  await page.getByLabel('Your comment').fill('x'.repeat(201));
  await page.evaluate(() => {
    const text = document.getElementById('text');
    text.form.requestSubmit();
    text.value = 'typed since';
  });
  const kept = page.locator('#outbox li');
  await kept.getByText('At most 200 characters').waitFor();
  assert.equal(await page.getByLabel('Your comment').inputValue(), 'typed since');
  await kept.getByRole('button', { name: 'Retry' }).click();
  await kept.getByText('At most 200 characters').waitFor();
  await kept.getByRole('button', { name: 'Discard' }).click();
  assert.equal(await kept.count(), 0);
  page.assertClean();
});

test('a video that cannot play is reported until another one is chosen', async () => {
  const page = await openRoom('media', { expectedErrors: [/404|Not Found|ERR_/] });
  await page.keyboard.press('s');
  const url = page.getByLabel('Video URL');
  const choose = (value) =>
    url.evaluate((input, chosen) => {
      input.value = chosen;
      input.dispatchEvent(new Event('change'));
    }, value);
  await url.waitFor();
  await choose('nonsense');
  await page.getByText('The video URL must start with').waitFor();
  await choose(`${server.url}/missing.mp4`);
  await page.getByText("Can't play this video").waitFor();
  await choose('');
  await page.locator('#problem').waitFor({ state: 'hidden' });
  page.assertClean();
});

test('panels open while the server is away', async () => {
  const own = await startServer();
  const page = await openRoom('away', { expectedErrors: AWAY }, own.url);
  await until(() => page.evaluate(() => [...document.styleSheets].some(({ href }) => href?.endsWith('panels.css'))), 'the panels');
  await own.kill();
  await page.locator('#state.reconnecting').waitFor();
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByRole('dialog').waitFor();
  page.assertClean();
});

test('a room with an invalid name says so, and takes no comments', async () => {
  const page = await openPage(browser, `${server.url}/?room=bad%20room`, { expectedErrors: [/400|WebSocket connection to/] });
  await page.locator('#notice').getByText('This is not a valid room name').waitFor();
  assert.equal(await page.getByLabel('Your comment').isDisabled(), true);
  assert.equal(await page.getByText('Live').isVisible(), false);
  page.assertClean();
});

test('the chat stops following only when the viewer scrolls', async () => {
  const page = await openRoom('scroll');
  for (let n = 0; n < 60; n += 1) await server.post('scroll', `comment ${n}`);
  await chat(page).getByText('comment 59').waitFor();
  const log = page.locator('#log');
  const isAtEnd = () => log.evaluate((view) => view.scrollHeight - view.scrollTop - view.clientHeight < 40);
  await until(isAtEnd, 'the end');
  await log.hover();
  await page.mouse.wheel(0, -600);
  await until(async () => !(await isAtEnd()), 'the wheel');
  await server.post('scroll', 'unseen');
  await page.getByRole('button', { name: '1 new' }).click();
  await until(isAtEnd, 'the end again');
  page.assertClean();
});

for (const viewport of [{ width: 667, height: 375 }, { width: 844, height: 390 }]) {
  test(`a phone held sideways shows player and chat side by side, ${viewport.width} px wide`, async () => {
    const page = await openRoom('sideways', { viewport });
    const [player, log, composer] = await Promise.all(['#player', '#chat', '#composer'].map((part) => page.locator(part).boundingBox()));
    assert.ok(player.width > viewport.width * 0.55, `player: ${player.width} px`);
    assert.ok(Math.abs(player.x + player.width - log.x) < 2 && log.x + log.width > viewport.width - 2, 'no empty area');
    assert.ok(Math.abs(composer.y + composer.height - viewport.height) < 2, 'the composer is at the bottom');
    page.assertClean();
  });
}

test('any text is shown as text and breaks no layout', async () => {
  const page = await openRoom('text', { viewport: { width: 360, height: 640 } });
  const texts = [
    '<img src=x onerror=alert(1)><b>bold</b>',
    'مرحبا بالعالم \u202Eabc\u202C שלום',
    '👩‍👩‍👧‍👦🇵🇹👍🏽',
    `Z${'\u0301'.repeat(150)}`,
    '﷽'.repeat(200),
    'W'.repeat(200),
    '𠜎'.repeat(200),
  ];
  for (const text of texts) await server.post('text', { text, name: '<i>ـ</i>'.repeat(3) });
  for (const text of texts) {
    await until(async () => (await chat(page).locator('span').allTextContents()).includes(text), text.slice(0, 20));
  }
  const [width, chatWidth, elements] = await page.evaluate(() => {
    const list = document.querySelector('ol');
    return [document.scrollingElement.scrollWidth, list.scrollWidth - list.clientWidth, list.querySelectorAll('img, ol i').length];
  });
  assert.deepEqual([width, chatWidth, elements], [360, 0, 0]);
  page.assertClean();
});

test('language and theme are switched, and remembered', async () => {
  const page = await openRoom('choices', { colorScheme: 'dark' });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.getByRole('button', { name: 'Dark or light' }).click();
  assert.notEqual(await background(), dark);
  await page.getByRole('button', { name: '中文' }).click();
  await page.getByRole('button', { name: '发送' }).waitFor();
  await page.reload();
  await page.getByRole('button', { name: '发送' }).waitFor();
  assert.notEqual(await background(), dark);
  page.assertClean();
});

test('blocked words and users are neither on the stage nor in the chat', async () => {
  const page = await openRoom('blocked');
  await page.keyboard.press('s');
  await page.getByLabel('Words, separated by commas').fill('spoiler, ＥＮＤＩＮＧ');
  await page.getByLabel('Users, separated by commas').fill('troll');
  await page.getByRole('button', { name: 'Done' }).click();
  await server.post('blocked', [{ text: 'a SPOILER' }, { text: 'the ending' }, { text: 'hi', user: 'troll' }]);
  assert.equal(await isPainted(page), false);
  await server.post('blocked', { text: 'welcome', user: 'guest' });
  await chat(page).getByText('welcome').waitFor();
  assert.deepEqual(await chat(page).locator('span').allTextContents(), ['welcome']);
  page.assertClean();
});

test('the rooms are listed with their viewers', async () => {
  await server.post('busy', 'hello');
  const page = await openRoom('lobby');
  await page.getByRole('button', { name: 'Choose a room' }).click();
  await page.getByRole('link', { name: /busy/ }).waitFor();
  await page.getByRole('link', { name: /lobby ?1 watching/ }).waitFor();
  await page.getByLabel('Room name').fill('busy');
  await page.keyboard.press('Enter');
  await chat(page).getByText('hello').waitFor();
  page.assertClean();
});

for (const colorScheme of ['dark', 'light']) {
  for (const viewport of [{ width: 1440, height: 900 }, { width: 360, height: 740 }]) {
    test(`axe finds nothing serious, ${colorScheme}, ${viewport.width} px wide`, async () => {
      const room = `axe-${colorScheme}-${viewport.width}`;
      const page = await openRoom(room, { colorScheme, viewport, reducedMotion: 'reduce' });
      for (let hue = 0; hue < 24; hue += 1) await server.post(room, { text: 'hello', name: `viewer ${hue}` });
      await say(page, 'my own');
      await chat(page).getByText('my own').waitFor();
      await assertAccessible(page);
      await page.getByRole('button', { name: 'Under the hood' }).click();
      await page.getByText('bytes per comment').waitFor();
      await assertAccessible(page);
      for (const name of ['Choose a room', 'Name, colour', 'Settings']) {
        await page.getByRole('button', { name }).click();
        await page.getByRole('dialog').waitFor();
        await assertAccessible(page);
        await page.keyboard.press('Escape');
      }
      page.assertClean();
    });
  }
}

async function assertAccessible(page) {
  await page.evaluate(require('axe-core').source);
  const { violations } = await page.evaluate(() => window.axe.run());
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  const said = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
  assert.deepEqual(said, []);
}
