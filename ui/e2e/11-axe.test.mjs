// Check 11: axe on every page, light and dark, in each of five states. No violation; what it could not decide is listed.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { violations } from './support/looks.mjs';
import { contextIn, full, open, ROUTES } from './support/routes.mjs';
import { serve } from './support/static.mjs';

let server, browser;
const undecided = new Map();
before(async () => {
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  for (const [rule, n] of undecided) console.log(`axe could not decide ${rule} on ${n} pages`);
});

const look = (page) => violations(page, undecided);

// Nothing here is measured, so two states at a time.
describe('states', { concurrency: 2 }, () => {
  for (const state of ['ready', 'loading', 'empty', 'error', 'stale']) {
    test(state, async () => {
      const { context, control } = await contextIn(browser, state);
      const found = {};
      for (const [name, path] of Object.entries(ROUTES(full()))) {
        const page = await open(context, server.url, path, state, control);
        const broken = await look(page);
        if (broken.length > 0) found[name] = broken;
        await page.close();
      }
      await context.close();
      assert.deepEqual(found, {});
    });
  }
});

test('sign-in, palette, keys, account and verification', async () => {
  const { context } = await contextIn(browser, 'ready');
  const page = await open(context, server.url, '/dispatches', 'ready');
  for (const press of ['Control+k', '?']) {
    await page.keyboard.press(press);
    await page.locator('dialog[open]').waitFor();
    assert.deepEqual(await look(page), [], press);
    await page.keyboard.press('Escape');
    // What is pressed before it is gone is pressed in it.
    await page.locator('dialog[open]').waitFor({ state: 'detached' });
  }
  await page.locator('summary[aria-label*="your account"]').click();
  assert.deepEqual(await look(page), [], 'account');
  await page.goto(`${server.url}/audit`);
  await page.getByRole('button', { name: 'Verify' }).click();
  await page.getByText('The log is intact').waitFor();
  assert.deepEqual(await look(page), [], 'verification');
  await context.route('**/api/v1/me', (r) => r.fulfill({ status: 401, json: { code: 'NOT_SIGNED_IN', status: 401, title: 'Sign in first' } }));
  await page.goto(server.url);
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  assert.deepEqual(await look(page), [], 'sign-in');
  await context.close();
});
