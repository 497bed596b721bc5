// Check 11: axe on every page, light and dark, in each of five states. No violation; what it could not decide is listed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, describe, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { contextIn, full, open, ROUTES } from './support/routes.mjs';
import { serve } from './support/static.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice'];
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

/** In the dark only colours differ, so only they are looked at a second time. */
async function look(page) {
  await page.evaluate(axe);
  const run = (runOnly) =>
    page.evaluate(async (runOnly) => {
      const { violations, incomplete } = await globalThis.axe.run(document, { runOnly, resultTypes: ['violations', 'incomplete'] });
      const brief = (r) => ({ id: r.id, help: r.help, nodes: r.nodes.slice(0, 3).map((n) => `${n.target.join(' ')}: ${n.failureSummary?.split('\n')[1]?.trim() ?? ''}`) });
      return { violations: violations.map(brief), incomplete: incomplete.map((r) => r.id) };
    }, runOnly);
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await run({ type: 'tag', values: TAGS });
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await run({ type: 'rule', values: ['color-contrast', 'link-in-text-block'] });
  for (const rule of [...light.incomplete, ...dark.incomplete]) undecided.set(rule, (undecided.get(rule) ?? 0) + 1);
  return [...light.violations, ...dark.violations.map((v) => ({ ...v, scheme: 'dark' }))];
}

// Nothing here is measured, so two states at a time.
describe('states', { concurrency: 2 }, () => {
  for (const state of ['ready', 'loading', 'empty', 'error', 'stale']) {
    test(state, async () => {
      const { context, control } = await contextIn(browser, state);
      const found = {};
      for (const [name, path] of Object.entries(ROUTES(full()))) {
        const page = await open(context, server.url, path, state, control);
        const violations = await look(page);
        if (violations.length > 0) found[name] = violations;
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
