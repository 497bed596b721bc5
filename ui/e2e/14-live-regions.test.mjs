// Check 14: what a screen reader hears of a streamed turn: that work began and that the answer is there. Never the words.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation } from './support/installation.mjs';
import { over, send, signIn } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

test('a streamed turn is announced at its beginning and its end', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, 'first');
  await over(page, 1);
  await page.evaluate(() => {
    globalThis.heard = [];
    const live = '[role=status], [role=alert], [aria-live]:not([aria-live=off])';
    new MutationObserver((all) => {
      for (const { target } of all) {
        const e = target instanceof Element ? target : target.parentElement;
        const region = e?.closest(live);
        if (!region || region.closest('[aria-live=off]')) continue;
        const text = region.textContent.trim().replaceAll(/\s+/g, ' ');
        if (text && globalThis.heard.at(-1) !== text) globalThis.heard.push(text);
      }
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await send(page, '[[words 60 40]]');
  await over(page, 2);
  await page.getByRole('status', { name: 'Agent' }).getByText('Reply ready').waitFor({ state: 'attached' });
  const heard = await page.evaluate(() => globalThis.heard);
  assert.ok(heard.some((h) => h.startsWith('Working')), `${heard}`);
  assert.ok(heard.some((h) => h.startsWith('Reply ready')), `${heard}`);
  assert.ok(heard.length <= 4, `${heard.length} announcements: ${heard}`);
  assert.ok(!heard.some((h) => /\bw\d+\b/.test(h)), `words were read out: ${heard}`);
});
