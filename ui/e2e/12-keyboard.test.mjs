// Check 12: tours with keys only. At each step something has the focus, it can be seen, and nothing traps it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { soon } from './support/pages.mjs';
import { contextIn, full, open } from './support/routes.mjs';
import { serve } from './support/static.mjs';

let server, browser;
before(async () => {
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** What has the focus, and whether it shows. */
const focus = (page) =>
  page.evaluate(() => {
    const e = document.activeElement;
    if (!e || e === document.body) return { name: 'nothing', seen: false };
    const box = e.getBoundingClientRect();
    const ring = (el) => {
      const s = getComputedStyle(el);
      return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || (s.boxShadow !== 'none' && s.boxShadow !== '');
    };
    // A field without a ring of its own stands in a box that has one.
    let marked = ring(e);
    for (let p = e.parentElement; !marked && p && p.clientWidth < innerWidth; p = p.parentElement) marked = p.matches(':focus-within') && (ring(p) || getComputedStyle(p).borderColor === getComputedStyle(document.documentElement).getPropertyValue('--accent'));
    const row = e.closest('.item');
    marked ||= row !== null && row.matches(':focus-within');
    return { name: `${e.tagName.toLowerCase()} ${e.getAttribute('aria-label') ?? e.textContent?.trim().slice(0, 40) ?? ''}`, seen: marked && box.width > 0 && box.bottom > 0 && box.top < innerHeight };
  });
async function press(page, ...keys) {
  for (const key of keys) {
    await page.keyboard.press(key);
    await page.waitForTimeout(60);
  }
}
const held = async (page, what) => {
  const now = await focus(page);
  assert.ok(now.seen, `${what}: ${now.name} has no visible focus`);
  return now.name;
};

test('from the top: skip link, then every stop can be seen, and Tab leaves the page again', async () => {
  const { context } = await contextIn(browser, 'ready');
  const page = await open(context, server.url, '/dispatches', 'ready');
  await press(page, 'Tab');
  assert.match(await held(page, 'first stop'), /Skip to the page/);
  const seen = new Set();
  for (let i = 0; i < 60; i++) {
    const name = (await focus(page)).name;
    if (name === 'nothing') break;
    seen.add(await held(page, `stop ${i}`));
    await press(page, 'Tab');
  }
  assert.ok(seen.size > 12, `${[...seen]}`);
  await context.close();
});

test('list, object and back', async () => {
  const { context } = await contextIn(browser, 'ready');
  const page = await open(context, server.url, '/', 'ready');
  await press(page, 'g', 'd');
  await page.getByRole('heading', { name: 'Dispatches' }).waitFor();
  await press(page, '/');
  assert.match(await held(page, 'filter'), /input/);
  await page.keyboard.type('Q3');
  await page.waitForFunction(() => location.search === '?q=Q3');
  await press(page, 'Tab', 'Tab');
  await page.evaluate(() => document.activeElement.blur());
  await press(page, 'j');
  assert.match(await held(page, 'row'), /^a Summarise/);
  await press(page, 'j', 'k', 'j');
  await held(page, 'row');
  await press(page, 'Enter');
  await page.getByRole('tablist').waitFor();
  await page.getByRole('tab', { name: 'Timeline' }).focus();
  await press(page, 'ArrowRight');
  assert.match(await held(page, 'tab'), /Conversation/);
  await press(page, 'End');
  assert.match(await held(page, 'last tab'), /Raw/);
  await press(page, 'Home');
  await page.getByRole('treegrid').waitFor();
  await press(page, 'Tab', 'Tab', 'Tab');
  await page.locator('[role=row][tabindex="0"]').focus();
  await press(page, 'ArrowDown', 'ArrowDown', 'End', 'Home');
  await held(page, 'step');
  const rows = await page.locator('[role=treegrid] .item').count();
  await press(page, 'ArrowLeft');
  await soon(async () => assert.equal(await page.locator('[role=treegrid] .item').count(), 1, 'closed'));
  await press(page, 'ArrowRight');
  await soon(async () => assert.equal(await page.locator('[role=treegrid] .item').count(), rows, 'open again'));
  await press(page, 'ArrowDown', 'Enter');
  await page.getByRole('complementary', { name: 'Selected step' }).waitFor();
  assert.match(page.url(), /span=/);
  await page.goBack();
  await context.close();
});

test('palette: by words, and Escape gives the focus back', async () => {
  const { context } = await contextIn(browser, 'ready');
  const page = await open(context, server.url, '/audit', 'ready');
  await page.getByRole('button', { name: 'Verify' }).focus();
  await press(page, 'Control+k');
  await page.getByRole('combobox', { name: /Search/ }).waitFor();
  await page.keyboard.type('nothing that is there');
  await page.getByText('Nothing fits').waitFor();
  await press(page, 'Escape');
  assert.match(await held(page, 'opener'), /Verify/);
  await press(page, 'Control+k');
  await page.keyboard.type('runners');
  await press(page, 'Enter');
  await page.getByRole('heading', { name: 'Runners' }).waitFor();
  await press(page, 'Control+k');
  await page.keyboard.type('398');
  await press(page, 'Enter');
  await page.getByRole('dialog').getByText('Event 398').waitFor();
  await press(page, 'Escape');
  await page.waitForFunction(() => location.pathname === '/audit');
  await context.close();
});

test('chat: write, break a line, send, take up the last message, and walk the regions', async () => {
  const { context } = await contextIn(browser, 'ready');
  const { list } = full();
  const page = await open(context, server.url, `/chat/${list[35].session}`, 'ready');
  await page.getByLabel('Message', { exact: true }).focus();
  await page.keyboard.type('one');
  await press(page, 'Shift+Enter');
  await page.keyboard.type('two');
  await soon(async () => assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'one\ntwo'));
  await press(page, 'Enter');
  await page.locator('[data-outbox]').getByText('one').waitFor();
  await soon(async () => assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), ''));
  await press(page, 'ArrowUp');
  await soon(async () => assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'one\ntwo'));
  await press(page, 'F6');
  const first = await held(page, 'region');
  await press(page, 'F6');
  assert.notEqual(await held(page, 'next region'), first);
  await press(page, 'Control+Shift+o');
  await page.waitForFunction(() => location.pathname === '/chat');
  await context.close();
});

test('single keys can be switched off', async () => {
  const { context } = await contextIn(browser, 'ready');
  const page = await open(context, server.url, '/', 'ready');
  await page.evaluate(() => localStorage.setItem('custody.keys', 'false'));
  await press(page, 'g', 'd');
  await page.waitForTimeout(200);
  assert.equal(new URL(page.url()).pathname, '/');
  await context.close();
});
