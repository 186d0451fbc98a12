// The SDK as a package: types, size, and what it must not contain.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { withoutComments } from './support/size.js';
import { require, webFolder } from './support/tools.js';

const ts = require('typescript');
const folder = join(webFolder, 'sdk');
const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));

/** Bytes. */
const SIZE_MAX = 30_500;

const modules = async () => (await readdir(folder)).filter((name) => name.endsWith('.js'));

function check(files) {
  const options = {
    ...{ allowJs: true, checkJs: true, strict: true, noEmit: true, types: [] },
    ...{ target: ts.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'] },
    ...{ module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler, noUnusedLocals: true },
  };
  const program = ts.createProgram(files, options);
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const { line } = file?.getLineAndCharacterOfPosition(start ?? 0) ?? { line: 0 };
    return `${file?.fileName}:${line + 1}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
  });
}

test('the sources pass strict type checking', async () => {
  const files = (await modules()).map((name) => join(folder, name));
  assert.deepEqual(check([...files, join(folder, 'index.d.ts')]), []);
});

test('index.d.ts says what the modules do', async () => {
  const scratch = await mkdtemp(join(tmpdir(), 'danmaku-types-'));
  const file = join(scratch, 'check.ts');
  await writeFile(
    file,
    `import * as declared from ${JSON.stringify(join(folder, 'index.js'))};
    import { DanmakuRoom } from ${JSON.stringify(join(folder, 'room.js'))};
    import { DanmakuError } from ${JSON.stringify(join(folder, 'errors.js'))};
    export const room: typeof declared.DanmakuRoom = DanmakuRoom;
    export const error: typeof declared.DanmakuError = DanmakuError;
    // Whatever else is public is ours alone.
    type Extra<Made, Declared> = Exclude<keyof Made, keyof Declared>;
    export const extra: Record<Extra<DanmakuRoom, declared.DanmakuRoom>, true> = { emit: true };
    export const extraError: Record<Extra<DanmakuError, declared.DanmakuError>, true> = {};
    export async function use() {
      const room = new declared.DanmakuRoom('http://localhost', 'demo', { token: async () => 'x', encoding: 'gzip' });
      const off: () => void = room.on('comment', ({ text, own }) => [text.length, own]);
      const { id }: { id: number } = await room.post({ text: 'hi', mode: 'top' });
      room.syncTo(() => new Date());
      // @ts-expect-error
      room.on('coment', () => {});
      // @ts-expect-error
      room.post({ mode: 'top' });
      return [off, id];
    }`,
  );
  const diagnostics = check([file]);
  await rm(scratch, { recursive: true });
  assert.deepEqual(diagnostics, []);
});

test('exports what its types declare', async () => {
  const { DanmakuError, DanmakuRoom, ...others } = await import('../sdk/index.js');
  assert.deepEqual(others, {});
  assert.ok(DanmakuError && DanmakuRoom);
  const program = ts.createProgram([join(folder, 'index.d.ts')], {});
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(join(folder, 'index.d.ts'));
  const values = checker
    .getExportsOfModule(checker.getSymbolAtLocation(source))
    .filter(({ flags }) => flags & ts.SymbolFlags.Value)
    .map(({ name }) => name);
  assert.deepEqual(values.sort(), ['DanmakuError', 'DanmakuRoom']);
});

test('the package can be published', async () => {
  const files = await readdir(folder);
  assert.equal(manifest.license, 'Apache-2.0 OR MIT');
  assert.equal(manifest.exports['.'].types, './index.d.ts');
  assert.equal(manifest.dependencies, undefined);
  for (const name of files) {
    const isListed = name === 'package.json' || manifest.files.includes(name) || (name.endsWith('.js') && manifest.files.includes('*.js'));
    assert.ok(isListed, `${name} would not be in the package`);
  }
});

test('small, and without anything that runs text as code or markup', async () => {
  let size = 0;
  for (const name of await modules()) {
    const text = withoutComments(name, await readFile(join(folder, name), 'utf8'));
    size += Buffer.byteLength(text);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function/, name);
    for (const [, from] of text.matchAll(/(?:from |import\()'([^']+)'/g)) assert.match(from, /^\.\/[a-z-]+\.js$/, name);
  }
  console.log(`web/sdk: ${size} bytes without comments and empty lines`);
  assert.ok(size < SIZE_MAX, `${size} bytes`);
});
