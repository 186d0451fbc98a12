// A static server for pages that don't need the real one: the tree's files and the installed npm packages.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';

import { nodeModules, webFolder } from './tools.js';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.wav': 'audio/wav' };

/**
 * Serves `/web/…` from the tree, `/npm/…` from the installed packages, and `/` as an empty page. `pages` maps more paths to
 * functions that return their text.
 */
export async function startSite(pages = {}) {
  const files = createServer(async ({ url }, response) => {
    const { pathname } = new URL(url, 'http://site');
    try {
      response.setHeader('Content-Type', `${TYPES[extname(pathname)] ?? 'text/html'};charset=utf-8`);
      response.end(await content(normalize(pathname), pages));
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => files.listen(0, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${files.address().port}`,
    stop: () => files.close() && files.closeAllConnections(),
  };
}

function content(path, pages) {
  if (Object.hasOwn(pages, path)) return pages[path]();
  if (path === '/') return EMPTY;
  // Where the examples find what `npm install` put beside them.
  const [, root, ...rest] = path.replace('/web/examples/node_modules/', '/npm/').split('/');
  const folder = { web: webFolder, npm: nodeModules }[root];
  return readFile(join(folder, ...rest));
}

const EMPTY = `<!doctype html><html lang="en"><title>Test</title><link rel="icon" href="data:,">
<style>body { margin: 0; background: #35506b } #stage { height: 100vh; overflow: hidden }</style><div id="stage"></div>`;
