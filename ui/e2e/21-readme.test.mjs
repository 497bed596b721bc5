// Check 21: the quick start of the README, run as it stands, on the model of this machine, gives what the README says. The
// README's picture is of a real run too: UPDATE_PICTURE=1 takes it anew, CUSTODY_SHOTS=FOLDER takes one of every page.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation } from './support/installation.mjs';
import { over, send, signIn } from './support/pages.mjs';

const root = join(import.meta.dirname, '../..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const picture = join(root, 'ui/picture.png');

let browser;
before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

/** The commands of the quick start, each with the lines that it shall print. */
function quickStart() {
  const block = /Then four commands[\s\S]*?```\n([\s\S]*?)```/.exec(readme)[1];
  return block.split(/^\$ /m).slice(1).map((part) => {
    const [command, ...lines] = part.split('\n');
    const args = [...command.replace(/\s#.*$/, '').matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2]);
    assert.equal(args[0], 'custody', command);
    return { command, args: args.slice(1), lines: lines.filter((l) => l.trim() !== '') };
  });
}

/** A line as a pattern: ids, times, numbers and digests differ from run to run, words do not. */
function pattern(line) {
  const loose = line
    .trim()
    // Whether the notary was faster than the command is not told by the README.
    .replace(/(signatures good), .*/, '$1…')
    .split(/(\d{2}:\d{2}:\d{2}\.\d{3}|\b[dgsi]-[a-z0-9]{4,}…?|\bu_[a-z]+|\bk-[a-z]+-[0-9a-f]{6,}|[0-9a-f]{8,}…?|U[A-Z0-9]{6,}…|…|\d+|\s+)/)
    .map((part, i) => {
      if (i % 2 === 0) return part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
      if (/^\s+$/.test(part)) return '\\s+';
      if (/^\d+$/.test(part)) return '\\d+';
      return part === '…' ? '.*' : '\\S+';
    });
  return new RegExp(`^\\s*${loose.join('')}\\s*$`);
}

test('the quick start says what the README says', async (t) => {
  const it = await installation({ local: true });
  t.after(() => it.end());
  const steps = quickStart();
  assert.equal(steps.length, 4);
  for (const { command, args, lines } of steps) {
    const ran = it.custody(...args);
    assert.equal(ran.code, 0, `${command}: ${ran.err}`);
    const found = ran.out.split('\n').filter((l) => l.trim() !== '');
    for (const [i, line] of lines.entries()) {
      assert.match(found[i] ?? '', pattern(line), `${command}: line ${i + 1}\n${ran.out}`);
    }
    assert.equal(found.length, lines.length, `${command} prints more than the README shows:\n${ran.out}`);
  }
});

const ASKED = 'Summarise notes.md in summary.md.';
const SCRIPT = {
  [ASKED]: [
    { say: 'I read the notes first.', tool: ['read_file', { path: 'notes.md' }], wait: 340 },
    { tool: ['read_file', { path: 'budget.md' }], wait: 120 },
    { tool: ['write_file', { path: 'summary.md', content: '# Summary\n\nServices grew, products held.' }], wait: 900 },
    { say: 'The summary is in `summary.md`. Three things stand out:\n\n1. Services grew by **11 %**, products by 2 %.\n2. The *north* region is below plan.\n3. There is no `budget.md` in this workspace, so costs are not in it.', wait: 700 },
  ],
};

test('the picture of the README is one of a real run', async (t) => {
  const it = await installation({ script: SCRIPT });
  t.after(() => it.end());
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, deviceScaleFactor: 1, colorScheme: 'light', reducedMotion: 'reduce' });
  const page = await context.newPage();
  await signIn(page, it.url, it.key, '/chat');
  // The notes come into the workspace as everything does: an earlier run leaves them.
  await send(page, '[[tool write_file {"path":"notes.md","content":"# Q3: services 2.1 M, products 1.2 M, north 0.9 M."}]]');
  await over(page, 1);
  await page.goto(`${it.url}/chat`);
  await send(page, ASKED);
  const [turn] = await over(page, 1);
  assert.equal(turn.status, 'completed');
  const tools = await page.locator('details.tool').evaluateAll((all) => all.map((t) => t.className.includes('ok')));
  assert.deepEqual(tools, [true, false, true], 'the notes are there, the budget is not, the summary is written');
  await page.goto(`${it.url}/dispatches/${turn.id}`);
  await page.getByRole('treegrid').getByText('write_file summary.md').waitFor();
  await page.locator('[data-link=live]').waitFor();
  const shot = await page.screenshot();
  if (process.env.UPDATE_PICTURE) writeFileSync(picture, shot);
  assert.ok(readme.includes('](ui/picture.png)'), 'the README shows it');
  const size = (png) => [png.readUInt32BE(16), png.readUInt32BE(20)];
  assert.deepEqual(size(readFileSync(picture)), size(shot), 'UPDATE_PICTURE=1 takes it anew');

  const folder = process.env.CUSTODY_SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  const session = it.json('dispatch', 'get', turn.id).session ?? it.json('dispatch', 'get', turn.id).row?.session;
  const pages = { home: '/', chat: `/chat/${session}`, dispatches: '/dispatches', dispatch: `/dispatches/${turn.id}`, authority: `/dispatches/${turn.id}?tab=authority`, audit: '/audit', event: '/audit/7', runners: '/runners', health: '/health', docs: '/docs', contract: '/docs/unit.v1', api: '/docs/api' };
  const modes = { desktop: {}, dark: { colorScheme: 'dark' }, phone: { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true } };
  const state = await context.storageState();
  for (const [mode, options] of Object.entries(modes)) {
    const other = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', storageState: state, ...options });
    for (const [name, path] of Object.entries(pages)) {
      const one = await other.newPage();
      await one.goto(it.url + path);
      await one.locator('[data-link=live]').waitFor();
      await one.locator('.skeleton').waitFor({ state: 'detached', timeout: 5_000 }).catch(() => {});
      await one.waitForTimeout(300);
      await one.screenshot({ path: join(folder, `${name}-${mode}.png`) });
      await one.close();
    }
    await other.close();
  }
});
