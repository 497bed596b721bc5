// Every page in every state, on made-up answers: for the checks that look at all of them.
import { cards } from './cards.mjs';
import { grants } from './grants.mjs';
import { answer, auditRow, dispatchEvents, installation } from './synthetic.mjs';

export const NOW = Date.UTC(2026, 10, 22, 23, 30, 0);

/** An installation with a bit of everything. */
export function full() {
  const statuses = { 39: 'running', 38: 'stopping', 37: 'refused', 36: 'queued', 33: 'ended' };
  const list = Array.from({ length: 40 }, (_, n) =>
    dispatchEvents(n, { at: NOW - (41 - n) * 3 * 60_000, status: statuses[n] ?? 'completed', session: `s-${Math.floor(n / 3)}` }),
  );
  return { list, model: installation({ dispatches: list, audit: Array.from({ length: 400 }, (_, i) => auditRow(i + 1)), grants: grants(NOW), cards: cards(NOW), head: 812 }) };
}

export const ROUTES = ({ list }) => ({
  home: '/',
  inbox: '/inbox',
  'inbox-card': '/inbox/d-7f3a-t2',
  'inbox-decided': '/inbox/d-79aa-t3?all=1',
  chat: `/chat/${list[35].session}`,
  'new-chat': '/chat',
  dispatches: '/dispatches',
  dispatch: `/dispatches/${list[35].dispatch}`,
  'dispatch-step': `/dispatches/${list[35].dispatch}?span=model-1`,
  'dispatch-running': `/dispatches/${list[39].dispatch}`,
  'dispatch-refused': `/dispatches/${list[37].dispatch}`,
  'dispatch-conversation': `/dispatches/${list[35].dispatch}?tab=conversation`,
  'dispatch-files': `/dispatches/${list[35].dispatch}?tab=files`,
  'dispatch-authority': `/dispatches/${list[35].dispatch}?tab=authority`,
  'dispatch-raw': `/dispatches/${list[35].dispatch}?tab=raw`,
  audit: '/audit',
  'audit-event': '/audit/398',
  grants: '/grants',
  grant: '/grants/g-91c2',
  'grant-asked': '/grants/g-77d0',
  'grant-revoked': '/grants/g-3f10',
  'new-grant': '/grants/new',
  runners: '/runners',
  health: '/health',
  docs: '/docs',
  'docs-contract': '/docs/output.v1',
  'not-found': '/nowhere',
});

/** A context in one state. `ready`: answers; `loading`: none come; `empty`: nothing is there; `error`: refused; `stale`: cut. */
export async function contextIn(browser, state, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: 'reduce', ...options });
  await context.clock.setFixedTime(NOW);
  const { list, model } = full();
  const shown = state === 'empty' ? installation() : model;
  const control = await answer(context, shown, {
    hold: (what) => state === 'loading' && what !== '/me',
    fail: (what) => state === 'error' && what !== '/me',
  });
  return { context, list, control };
}

/** Opens a page of a context and waits until it has drawn what it has. */
export async function open(context, url, path, state, control) {
  const page = await context.newPage();
  // The page before this one may have been left without a server.
  control?.mend();
  await page.goto(url + path);
  await page.locator('main h1, main h2, .skeleton').first().waitFor();
  if (state === 'loading') {
    await page.waitForTimeout(250);
    return page;
  }
  await page.locator('[data-link=live]').waitFor();
  await page.locator('.skeleton').waitFor({ state: 'detached', timeout: 5_000 }).catch(() => {});
  // A virtual list hides its rows until it has measured them.
  await page.waitForFunction(() => [...document.querySelectorAll('main [style*="visibility"]')].every((e) => getComputedStyle(e).visibility !== 'hidden'));
  if (state === 'stale') {
    control.cut();
    await page.locator('[data-link=reconnecting]').waitFor();
  }
  return page;
}
