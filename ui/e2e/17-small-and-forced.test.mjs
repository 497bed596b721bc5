// Check 17: a phone (360 by 740, touch), 200 % zoom, forced colours, reduced motion. Nothing scrolls sideways, every
// target has 24 pixels, every action can be reached.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { PHONE, sideways, small } from './support/looks.mjs';
import { contextIn, full, open, ROUTES } from './support/routes.mjs';
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

/** 1280 by 800 at 200 %. */
const ZOOMED = { viewport: { width: 640, height: 400 }, deviceScaleFactor: 2 };

for (const [name, options] of [['phone', PHONE], ['zoomed', ZOOMED]]) {
  test(`${name}: nothing scrolls sideways, every target is large enough`, async () => {
    const { context } = await contextIn(browser, 'ready', options);
    const found = {};
    for (const [route, path] of Object.entries(ROUTES(full()))) {
      const page = await open(context, server.url, path, 'ready');
      const problems = [...(await sideways(page)), ...(await small(page))];
      if (problems.length > 0) found[route] = problems;
      await page.close();
    }
    await context.close();
    assert.deepEqual(found, {});
  });
}

test('a phone reaches every page and the actions on them', async () => {
  const { context } = await contextIn(browser, 'ready', PHONE);
  const page = await open(context, server.url, '/', 'ready');
  const bar = page.getByRole('navigation', { name: 'Main pages' });
  for (const name of ['Inbox', 'Chat', 'Dispatches', 'Home']) {
    await bar.getByRole('link', { name }).tap();
    await page.waitForFunction((n) => document.title.startsWith(n) || document.querySelector('main')?.ariaLabel?.startsWith(n) || document.title.startsWith('New chat'), name);
  }
  for (const name of ['Audit', 'Grants', 'Runners', 'Health', 'Reference']) {
    await bar.getByRole('button', { name: 'More' }).tap();
    await bar.getByRole('link', { name }).tap();
    await page.getByRole('heading', { level: 1, name }).waitFor();
  }
  await bar.getByRole('link', { name: 'Chat' }).tap();
  await page.getByRole('button', { name: 'Sessions' }).tap();
  await page.getByRole('complementary', { name: 'Sessions' }).getByRole('link').nth(3).tap();
  await page.getByRole('log').waitFor();
  const composer = page.getByLabel('Message', { exact: true });
  const box = await composer.boundingBox();
  assert.ok(box.y + box.height < 740, 'the composer is in view');
  await page.getByRole('link', { name: 'Details' }).first().tap();
  await page.getByRole('treegrid').waitFor();
  await page.goto(`${server.url}/audit`);
  await page.getByRole('button', { name: 'More filters' }).tap();
  await page.getByLabel('Person').waitFor();
  await page.goto(`${server.url}/dispatches/${full().list[39].dispatch}`);
  await page.getByRole('button', { name: 'Stop' }).tap();
  await context.close();
});

test('forced colours keep states and bars apart from the ground', async () => {
  const { context } = await contextIn(browser, 'ready', { forcedColors: 'active' });
  const page = await open(context, server.url, `/dispatches/${full().list[35].dispatch}`, 'ready');
  const drawn = await page.evaluate(() => ({
    tag: getComputedStyle(document.querySelector('.tag')).borderTopStyle,
    bar: getComputedStyle(document.querySelector('.bar')).backgroundColor,
    ground: getComputedStyle(document.body).backgroundColor,
  }));
  assert.equal(drawn.tag, 'solid');
  assert.notEqual(drawn.bar, drawn.ground);
  await context.close();
});

test('reduced motion: nothing moves by itself', async () => {
  const { context } = await contextIn(browser, 'ready');
  const page = await open(context, server.url, `/chat/${full().list[39].session}`, 'ready');
  const moving = await page.evaluate(() => document.getAnimations().filter((a) => a.playState === 'running' && (a.effect?.getComputedTiming().iterations ?? 1) > 1).length);
  assert.equal(moving, 0);
  await context.close();
});
