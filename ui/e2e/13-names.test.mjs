// Check 13: what a screen reader finds on each page, as a file that is reviewed like code. UPDATE_SNAPSHOTS=1 writes them.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { contextIn, full, open, ROUTES } from './support/routes.mjs';
import { until } from './support/installation.mjs';
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

// A contract's own words change with the contract, which has its own review.
const pages = Object.entries(ROUTES(full())).filter(([name]) => name !== 'docs-contract' && name !== 'docs');
for (const [name, path] of pages) {
  test(name, async () => {
    const { context } = await contextIn(browser, 'ready', { timezoneId: 'UTC' });
    const page = await open(context, server.url, path, 'ready');
    const look = async () => `${await page.locator('body').ariaSnapshot()}\n`.replaceAll(server.url, 'http://custody.test');
    // Lists draw their rows when they have measured them: what is compared has stood still.
    let found = await look();
    await until('the page stands still', async () => {
      const before = found;
      await page.waitForTimeout(300);
      found = await look();
      return found === before;
    });
    const file = join(import.meta.dirname, 'snapshots', `${name}.yml`);
    if (process.env.UPDATE_SNAPSHOTS) writeFileSync(file, found);
    assert.ok(existsSync(file), `${file} is missing; run with UPDATE_SNAPSHOTS=1 and look at it`);
    assert.equal(found, readFileSync(file, 'utf8'));
    await context.close();
  });
}
