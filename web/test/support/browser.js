// Debian's Chromium, driven by playwright-core, and what a page must not do.

import assert from 'node:assert/strict';

import { PATIENCE_MS, chromiumPath, require } from './tools.js';

const { chromium } = require('playwright-core');

/** Starts a headless browser. */
export function openBrowser() {
  return chromium.launch({
    executablePath: chromiumPath,
    // Tests may run as root, where Chromium's sandbox does not start; /dev/shm is small in containers.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

/**
 * Opens `url` and records what a page must not do; `page.assertClean()` fails on any of it: errors on the
 * console, uncaught errors, violations of the Content-Security-Policy, requests to other origins.
 * `options` are those of Playwright's `browser.newContext`, and `expectedErrors`, patterns of console errors to accept.
 */
export async function openPage(browser, url, { expectedErrors = [], ...options } = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const faults = [];
  const { host } = new URL(url);
  page.on('console', (message) => {
    const isExpected = expectedErrors.some((pattern) => pattern.test(message.text()));
    if (message.type() === 'error' && !isExpected) faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.stack}`));
  page.on('request', (request) => {
    const target = new URL(request.url());
    if (/^(http|ws)s?:$/.test(target.protocol) && target.host !== host) faults.push(`external: ${target}`);
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
      console.error(`CSP violation: ${violatedDirective} ${blockedURI}`);
    });
  });
  await page.goto(url);
  return Object.assign(page, {
    assertClean: () => assert.deepEqual(faults, []),
  });
}
