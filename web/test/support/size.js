// How the tests count what the page and the packages weigh: bytes, uncompressed, without comments and empty lines.

import { require } from './tools.js';

const ts = require('typescript');

/** The bytes of a source file's text without its comments and empty lines; everything else counts, indentation too. */
export function sizeOf(path, text) {
  return Buffer.byteLength(withoutComments(path, text));
}

/** The text of a script, style sheet or page without its comments and empty lines. */
export function withoutComments(path, text) {
  const rest = path.endsWith('.js') ? withoutScriptComments(text) : text.replace(path.endsWith('.css') ? /\/\*[^]*?\*\//g : /<!--[^]*?-->/g, '');
  return rest.replace(/[ \t]+$/gm, '').replace(/^\n/gm, '');
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
  return rest + text.slice(from);
}
