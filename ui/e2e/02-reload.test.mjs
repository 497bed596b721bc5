// Check 2: a reload in mid-stream, a second tab and the command line show the same words; nothing is dispatched twice;
// another person is told "not found or not yours".
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { live, over, send, signIn, turns } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

test('reload, second tab, other person', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[words 120 60]]');
  await page.locator('.words').getByText('w8 ').waitFor({ timeout: 60_000 });
  await until('the address names the session', () => /\/chat\/s-/.test(page.url()));
  const tab = await context.newPage();
  await tab.goto(page.url());
  await live(tab);
  for (let i = 0; i < 3; i++) {
    await page.reload();
    await live(page);
    await page.locator('.words').getByText('w8 ').waitFor();
  }
  const [mine] = await over(page, 1);
  const [theirs] = await over(tab, 1);
  const expected = Array.from({ length: 120 }, (_, i) => `w${i + 1}`).join(' ');
  assert.equal(mine.words, expected);
  assert.equal(theirs.words, expected);
  assert.equal((await turns(page)).length, 1);
  const logs = it.custody('dispatch', 'logs', mine.id);
  assert.ok(logs.out.includes(expected), 'the log has the same words');
  assert.equal(it.json('dispatch', 'ls').length, 1, 'one dispatch');

  const added = it.custody('user', 'add', 'u_omar', '--name', 'Omar');
  assert.equal(added.code, 0, added.err);
  const key = /ck_\S+/.exec(added.out + added.err)[0];
  const other = await (await browser.newContext()).newPage();
  await signIn(other, it.url, key, new URL(page.url()).pathname);
  await other.getByText('Not found or not yours').waitFor();
  await other.goto(`${it.url}/dispatches/${mine.id}`);
  await other.getByText('Not found or not yours').waitFor();
  await other.goto(`${it.url}/dispatches`);
  await other.getByText('Nothing has run here yet').waitFor();
});
