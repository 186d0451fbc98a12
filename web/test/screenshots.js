// Pictures of the page for the README, with the server's own demo comments: `cargo xtask screenshots`.

import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { until, webFolder } from './support/tools.js';

const FOLDER = join(webFolder, '../docs/images');
const BYTES_MAX = 300_000;
/** Long enough for comments to fill the stage, and for the charts to have a shape. */
const FILL_MS = 18_000;
const DESKTOP = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };

const server = await startServer(['--demo']);
const browser = await openBrowser();
await mkdir(FOLDER, { recursive: true });

await picture('page-dark', '/', { colorScheme: 'dark', viewport: DESKTOP }, async (page) => {
  await page.getByRole('button', { name: 'Under the hood' }).click(); // the pointer stays: the controls show
});
await picture('page-light', '/', { colorScheme: 'light', viewport: DESKTOP, locale: 'zh-CN' });
await picture('page-phone', '/', { colorScheme: 'dark', viewport: PHONE });
await picture('overlay', '/overlay/demo', { viewport: { width: 1280, height: 720 } }, putPictureBehind);

await browser.close();
await server.stop();

async function picture(name, path, options, prepare = () => {}) {
  const page = await openPage(browser, `${server.url}${path}`, options);
  await prepare(page);
  await until(() => page.evaluate(() => document.querySelector('#stage canvas')), 'the stage');
  await new Promise((done) => setTimeout(done, FILL_MS));
  const file = join(FOLDER, `${name}.jpg`);
  // The night sky is all gradients: as a PNG it is twice as big.
  await page.screenshot({ path: file, type: 'jpeg', quality: 86 });
  page.assertClean();
  await page.context().close();
  const { size } = await stat(file);
  if (size > BYTES_MAX) throw new Error(`${file} has ${size} bytes, more than ${BYTES_MAX}`);
  console.log(`${file} ${size}`);
}

/** What studio software does: it lays the page over a picture, here over the page's own scene. */
async function putPictureBehind(page) {
  await page.evaluate(async () => {
    const { Scene } = await import('/web/page/scene.js');
    const canvas = document.createElement('canvas');
    Object.assign(canvas.style, { position: 'fixed', inset: 0, width: '100%', height: '100%', zIndex: -1 });
    document.body.append(canvas);
    new Scene(canvas, false).running = true;
  });
}
