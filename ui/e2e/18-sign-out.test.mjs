// Check 18: the session ends in mid-stream, by sign-out elsewhere and by its own end. The page says so, nothing more
// comes, and signing in leads back to the same place with the draft.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation } from './support/installation.mjs';
import { live, over, send, signIn, soon } from './support/pages.mjs';

let browser;
before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

const cases = { 'signed out in another tab': { config: '' }, 'the session reached its end': { config: 'session_s = 12\n' } };
for (const [name, { config }] of Object.entries(cases)) {
  test(name, async (t) => {
    const it = await installation({ config });
    t.after(() => it.end());
    const context = await browser.newContext();
    const page = await context.newPage();
    await signIn(page, it.url, it.key, '/chat');
    await send(page, '[[words 200 60]]');
    await page.locator('.words').getByText('w5 ').waitFor({ timeout: 60_000 });
    await page.getByLabel('Message', { exact: true }).fill('not sent yet');
    const place = page.url();
    if (config === '') {
      const tab = await context.newPage();
      await tab.goto(it.url);
      await live(tab);
      await tab.locator('summary[aria-label*="your account"]').click();
      await tab.getByRole('button', { name: 'Sign out' }).click();
    }
    await page.getByText('Your session ended').waitFor({ timeout: 40_000 });
    assert.equal(page.url(), place, 'the address stays');
    await soon(async () => assert.equal(await page.locator('article').count(), 0, 'nothing of the conversation is left on the page'));
    await page.getByLabel('Access key').fill(it.key);
    await page.getByRole('button', { name: 'Sign in' }).click();
    await live(page);
    assert.equal(page.url(), place);
    await soon(async () => assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'not sent yet'));
    if (config === '') {
      const [turn] = await over(page, 1);
      assert.equal(turn.words, Array.from({ length: 200 }, (_, i) => `w${i + 1}`).join(' '), 'the dispatch went on meanwhile');
    }
    await context.close();
  });
}
