// Check 3: the server, NATS, and both are killed in mid-stream. The pill says what is going on, no word is missing or
// doubled, what was typed is still there, what was sent meanwhile is sent once, and decisions wait.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { live, over, send, signIn, soon } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

/** Every state that the pill was in. */
const record = (page) =>
  page.evaluate(() => {
    globalThis.pill = [];
    const look = () => {
      const now = document.querySelector('[data-link]')?.dataset.link;
      if (now && globalThis.pill.at(-1) !== now) globalThis.pill.push(now);
    };
    new MutationObserver(look).observe(document.body, { subtree: true, attributes: true, childList: true, attributeFilter: ['data-link'] });
    look();
  });
const expected = (n) => Array.from({ length: n }, (_, i) => `w${i + 1}`).join(' ');

// A box that lost its gateway may say so between two words.
const flat = (words) => words.replaceAll(/\s+/g, ' ');

test('kill -9 of the server in mid-stream', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[words 150 100]]');
  await page.locator('.words').getByText('w10 ').waitFor({ timeout: 60_000 });
  await record(page);
  await page.getByLabel('Message', { exact: true }).fill('a draft that must stay');
  await it.down('SIGKILL');
  await page.locator('[data-link=reconnecting]').waitFor();
  await soon(async () => assert.ok(await page.getByRole('button', { name: /Stop/ }).isDisabled(), 'a stop waits for the connection'));
  await it.up();
  await live(page);
  await soon(async () => assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'a draft that must stay'));
  const [turn] = await over(page, 1, 120_000);
  assert.equal(flat(turn.words), expected(150), 'no word is missing and none is there twice');
  const states = await page.evaluate(() => globalThis.pill);
  assert.ok(states.indexOf('reconnecting') > states.indexOf('live'), `${states}`);
  assert.equal(states.at(-1), 'live');
  await page.reload();
  await soon(async () => assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'a draft that must stay', 'also after a reload'));
  await page.close();
});

test('a message that is written while the server is away is sent once when it is back', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, 'first');
  await over(page, 1);
  const before = it.json('dispatch', 'ls').length;
  await it.down('SIGKILL');
  await page.locator('[data-link=reconnecting]').waitFor();
  await send(page, 'written in the dark');
  await page.locator('[data-outbox=queued]').waitFor();
  const place = page.url();
  await page.reload().catch(() => {});
  await it.up();
  await page.goto(place);
  await live(page);
  const all = await over(page, 2);
  assert.match(all[1].words, /You said: written in the dark/);
  await until('the outbox is empty', async () => (await page.evaluate(() => localStorage.getItem('custody.outbox'))) === null);
  assert.equal(it.json('dispatch', 'ls').length, before + 1, 'one dispatch, not two');
  await page.close();
});

test('kill -9 of NATS in mid-stream', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[words 120 100]]');
  await page.locator('.words').getByText('w10 ').waitFor({ timeout: 60_000 });
  process.kill(it.natsPid(), 'SIGKILL');
  const [turn] = await over(page, 1, 120_000);
  assert.equal(flat(turn.words), expected(120));
  await live(page);
  await page.close();
});
