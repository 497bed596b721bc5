// Check 4: the network goes away without a word. An open websocket is not closed by that, so the heartbeat's deadline must
// say it: within 25 s the pill leaves Live, it comes back by itself, and what was sent meanwhile is sent once.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { live, over, send, signIn } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

test('a socket that hears nothing is not live', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  // The browser itself is not told, as when a cable is pulled further away: only frames stop.
  let deaf = false;
  let tries = 0;
  await page.routeWebSocket('**/api/v1/ws', (ws) => {
    tries++;
    const server = ws.connectToServer();
    ws.onMessage((m) => void (deaf || server.send(m)));
    server.onMessage((m) => void (deaf || ws.send(m)));
  });
  await signIn(page, it.url, it.key, '/chat');
  await send(page, 'first');
  await over(page, 1);
  deaf = true;
  const began = Date.now();
  await send(page, 'into the silence');
  await page.locator('[data-link=reconnecting], [data-link=connecting]').waitFor({ timeout: 27_000 });
  const left = Date.now() - began;
  assert.ok(left <= 26_000, `the pill left Live after ${left} ms`);
  // It tries again by itself, into the same silence, and is not fooled by a connection on which nothing is heard.
  await until('another try', () => tries >= 2);
  await until('that try is given up too', () => tries >= 3);
  assert.ok(!(await page.locator('[data-link=live]').isVisible()), 'an open socket is no live connection');
  deaf = false;
  await live(page);
  const all = await over(page, 2);
  assert.match(all[1].words, /into the silence/);
  assert.equal(it.json('dispatch', 'ls').length, 2, 'sent once');
});

test('a browser that knows that it is offline says so at once', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await context.setOffline(true);
  await page.locator('[data-link=offline]').waitFor({ timeout: 3_000 });
  await send(page, 'written offline');
  await page.locator('[data-outbox=queued]').waitFor();
  await context.setOffline(false);
  await live(page);
  const [turn] = await over(page, 1);
  assert.match(turn.words, /written offline/);
  await until('the outbox is empty', async () => (await page.evaluate(() => localStorage.getItem('custody.outbox'))) === null);
});
