// Check 20: the budgets and the rules of the build hold, each rule is seen to fail when it is broken, and the binary serves
// exactly what was built.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { installation } from './support/installation.mjs';

const root = join(import.meta.dirname, '..');
const check = (folder) => spawnSync(process.execPath, [join(root, 'scripts/budgets.mjs'), folder], { encoding: 'utf8' });

test('the build is within its budgets', () => {
  const ran = check(root);
  assert.equal(ran.status, 0, ran.stderr);
});

const BREAKS = {
  'HTML of text': (f) => appendFileSync(join(f, 'src/pages/Home.svelte'), '\n{@html "<b>x</b>"}\n'),
  'an inline style': (f) => appendFileSync(join(f, 'src/pages/Home.svelte'), '\n<p style="color: red">x</p>\n'),
  innerHTML: (f) => appendFileSync(join(f, 'src/main.ts'), '\ndocument.body.innerHTML = "x";\n'),
  'an inline script': (f) => appendFileSync(join(f, 'dist/index.html'), '<script>1</script>'),
  'a script from elsewhere': (f) => appendFileSync(join(f, 'dist/index.html'), '<script src="https://cdn.example/x.js"></script>'),
  'a heavy first load': (f) => {
    const entry = readdirSync(join(f, 'dist/assets')).find((n) => n.startsWith('index-') && n.endsWith('.js'));
    appendFileSync(join(f, 'dist/assets', entry), Array.from({ length: 30_000 }, (_, i) => `//${(i * 2654435761) % 4294967296}`).join('\n'));
  },
  'a heavy whole': (f) => writeFileSync(join(f, 'dist/big.bin'), 'x'.repeat(900 * 1024)),
};
for (const [name, breaks] of Object.entries(BREAKS)) {
  test(`${name} fails the build`, (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'cui-budget'));
    t.after(() => rmSync(folder, { recursive: true }));
    for (const part of ['src', 'dist']) cpSync(join(root, part), join(folder, part), { recursive: true });
    breaks(folder);
    assert.equal(check(folder).status, 1);
  });
}

test('the binary serves what was built, the page fresh and its parts for ever', async (t) => {
  const it = await installation();
  t.after(() => it.end());
  const page = await fetch(it.url);
  assert.equal(page.headers.get('cache-control'), 'no-cache');
  assert.equal(await page.text(), readFileSync(join(root, 'dist/index.html'), 'utf8'));
  for (const name of readdirSync(join(root, 'dist/assets'))) {
    const part = await fetch(`${it.url}/assets/${name}`);
    assert.match(part.headers.get('cache-control'), /immutable/, name);
    assert.equal(await part.text(), readFileSync(join(root, 'dist/assets', name), 'utf8'), name);
  }
});
