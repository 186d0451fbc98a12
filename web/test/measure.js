// Prints how long after its arrival a batch's first comment is on the stage and in the chat: `node web/test/measure.js`,
// with the environment that `cargo xtask web` sets.

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';

const ROUNDS = 20;

const server = await startServer();
const browser = await openBrowser();
const page = await openPage(browser, 'about:blank');
await page.addInitScript(() => {
  window.delays = { stage: [], chat: [] };
  let arrivedAt = 0;
  const { addEventListener } = WebSocket.prototype;
  const note = ({ data }) => {
    if (typeof data !== 'string' || data.includes('"batch"')) arrivedAt = performance.now();
  };
  window.WebSocket = class extends WebSocket {
    constructor(...settings) {
      super(...settings);
      addEventListener.call(this, 'message', note);
    }
  };
  const { drawImage } = CanvasRenderingContext2D.prototype;
  const drawn = new WeakSet();
  CanvasRenderingContext2D.prototype.drawImage = function (...parameters) {
    // Each comment has a bitmap of its own.
    if (this.canvas.closest?.('#stage') && !drawn.has(parameters[0])) {
      drawn.add(parameters[0]);
      window.delays.stage.push(performance.now() - arrivedAt);
    }
    return drawImage.apply(this, parameters);
  };
  document.addEventListener('DOMContentLoaded', () => {
    new MutationObserver(() => window.delays.chat.push(performance.now() - arrivedAt)).observe(document.querySelector('#log ol'), { childList: true });
  });
});
await page.goto(`${server.url}/?room=measure`);
await page.locator('#state.joined').waitFor();
for (let round = 0; round < ROUNDS; round += 1) {
  await server.post('measure', `round ${round}`);
  await page.waitForFunction((rounds) => window.delays.stage.length === rounds, round + 1);
  // Longer than the server merges comments: each of them is the first of a batch.
  await page.waitForTimeout(1500);
}
const delays = await page.evaluate(() => window.delays);
for (const [where, values] of Object.entries(delays)) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))].toFixed(1);
  console.log(`${where}: median ${at(0.5)} ms, 95th percentile ${at(0.95)} ms, longest ${at(1)} ms, ${sorted.length} comments`);
}
await browser.close();
await server.stop();
