// What the page weighs when somebody opens it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { openBrowser, openPage } from './support/browser.js';
import { startServer } from './support/server.js';
import { require } from './support/tools.js';

const ts = require('typescript');

/** Bytes, without comments, uncompressed. What a panel needs is loaded when somebody opens it, and not in this figure. */
const PAGE_BYTES_MAX = 37_000;

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

test('everything that the page loads is small', async () => {
  const page = await openPage(browser, 'about:blank');
  const responses = [];
  page.on('response', (response) => responses.push(response));
  await page.goto(`${server.url}/`);
  await page.locator('#state.joined').waitFor();
  const parts = {};
  for (const response of responses) {
    const { pathname, protocol } = new URL(response.url());
    if (!protocol.startsWith('http')) continue;
    const [, part = 'page'] = /^\/web\/(\w+)\//.exec(pathname) ?? [];
    parts[part] = (parts[part] ?? 0) + Buffer.byteLength(withoutComments(pathname, await response.text()));
  }
  const total = Object.values(parts).reduce((sum, bytes) => sum + bytes);
  console.log('bytes without comments:', { ...parts, total });
  assert.ok(parts.page < PAGE_BYTES_MAX, `${parts.page} bytes`);
});

function withoutComments(path, text) {
  if (path.endsWith('.js')) return withoutScriptComments(text);
  const pattern = path.endsWith('.css') ? /\/\*[\s\S]*?\*\//g : /<!--[\s\S]*?-->/g;
  return withoutEmptyLines(text.replace(pattern, ''));
}

/** TypeScript's own parser says where comments are: a pattern would take a URL for one. */
function withoutScriptComments(text) {
  const file = ts.createSourceFile('module.js', text, ts.ScriptTarget.Latest, true);
  const comments = new Map();
  const visit = (node) => {
    for (const ranges of [ts.getLeadingCommentRanges(text, node.getFullStart()), ts.getTrailingCommentRanges(text, node.getEnd())]) {
      for (const { pos, end } of ranges ?? []) comments.set(pos, end);
    }
    for (const child of node.getChildren(file)) if (!ts.isJSDoc(child)) visit(child);
  };
  visit(file);
  let rest = '';
  let from = 0;
  for (const [pos, end] of [...comments].sort(([a], [b]) => a - b)) {
    if (pos < from) continue;
    rest += text.slice(from, pos);
    from = end;
  }
  return withoutEmptyLines(rest + text.slice(from));
}

function withoutEmptyLines(text) {
  return text.replace(/^\s*\n/gm, '').replace(/[ \t]+$/gm, '');
}
