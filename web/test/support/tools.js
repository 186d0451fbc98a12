// What the tests run with; `cargo xtask test` and `cargo xtask web` set these variables.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** The value of an environment variable that the tests can't do without. */
function variable(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this with \`cargo xtask web\``);
  return value;
}

/** The folder that the npm packages of `web/package.json` are in. */
export const nodeModules = variable('DANMAKU_TEST_NODE_MODULES');

/** Loads an installed npm package. */
export const require = createRequire(`${nodeModules}/`);

export const chromiumPath = variable('DANMAKU_TEST_CHROMIUM');
export const serverBinary = variable('DANMAKU_TEST_SERVER');

/** Whether this is a campaign of `cargo xtask test --long`. */
export const isLong = process.env.DANMAKU_LONG === '1';

/** The folder `web/`. */
export const webFolder = fileURLToPath(new URL('../../', import.meta.url));

/** How long a test waits for something that is bound to happen. Only a hang takes this long. */
export const PATIENCE_MS = 60_000;

/** Resolves with the first truthy result of `check`, which is called every few milliseconds. */
export async function until(check, what = String(check)) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > deadline) throw new Error(`still waiting for: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}
