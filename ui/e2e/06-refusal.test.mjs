// Check 6: a refused launcher, a session that ended and a forged one. The page names the rule, the audit has the row, and
// nothing ran.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { live, signIn, soon } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

test('a launcher that may not act for a person', async () => {
  assert.equal(it.custody('launcher', 'register', 'calendar', '--subject', 'u_jane').code, 0);
  const refused = it.custody('run', '--launcher', 'calendar', '--as', 'u_bob', 'Hi');
  assert.equal(refused.code, 5, refused.err);
  const id = /d-[a-z0-9]+/.exec(refused.err)[0];
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, `/dispatches/${id}`);
  await page.getByText('Refused by rule SUBJECT_NOT_ALLOWED').waitFor();
  await page.getByText('Nothing of it ran').waitFor();
  await page.getByRole('tab', { name: 'Authority' }).click();
  await page.getByRole('tabpanel').getByText('launcher calendar may not act for u_bob').waitFor();

  await page.goto(`${it.url}/audit?outcome=refused`);
  const row = page.getByRole('row').filter({ hasText: 'SUBJECT_NOT_ALLOWED' });
  await row.first().waitFor();
  await row.first().getByRole('link').first().click();
  await page.getByRole('dialog').getByText('Refused by rule SUBJECT_NOT_ALLOWED').waitFor();

  await page.goto(`${it.url}/dispatches?status=refused`);
  await page.locator(`[data-id="${id}"]`).waitFor();
  const events = it.json('audit', 'why', id).events ?? [];
  assert.ok(events.every((e) => e.type !== 'custody.run.claimed.v1'), 'no runtime claimed it');
  await page.close();
});

test('a launcher without a grant is refused, works under one that is given on the page, and is refused again when it is taken back', async () => {
  assert.equal(it.custody('launcher', 'register', 'planner', '--subject', it.subject).code, 0);
  // Not waited for: the scripted model answers from this very process.
  const run = () => it.custody('run', '--detach', '--launcher', 'planner', 'Hello');
  const refused = run();
  assert.equal(refused.code, 5, refused.err);
  const id = /d-[a-z0-9]+/.exec(refused.err)[0];
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, `/dispatches/${id}`);
  await page.getByText('Refused by rule GRANT_MISSING').waitFor();
  await page.getByRole('link', { name: 'Give it one' }).click();
  await soon(async () => assert.equal(await page.getByLabel('Launcher', { exact: true }).inputValue(), 'planner'));
  await page.getByRole('combobox', { name: /^It is/ }).selectOption('user');
  await page.getByRole('combobox', { name: 'Access to workspace 1' }).selectOption('rw');
  await page.getByRole('button', { name: 'Read it in words' }).click();
  const words = page.getByRole('region', { name: 'What you would agree to' });
  await words.getByText(`${it.subject} lets user:planner`).waitFor();
  await words.getByText('Workspaces: default as rw.').waitFor();
  assert.equal(it.json('grant', 'ls').filter((g) => g.launcher.endsWith(':planner')).length, 0, 'nothing is given by reading');
  await words.getByRole('button', { name: 'I agree, give it' }).click();
  await page.waitForURL(/\/grants\/g-/);
  await page.getByText('Valid', { exact: true }).waitFor();
  await page.getByText('in a signed-in browser').waitFor();

  const ran = run();
  assert.equal(ran.code, 0, ran.err);
  await page.reload();
  await page.getByText('1 time, last').waitFor();
  await page.getByRole('button', { name: 'Revoke' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Why').fill('The planner is not used any more.');
  await dialog.getByRole('button', { name: 'Revoke' }).click();
  await page.getByText(`Revoked by ${it.subject}`).waitFor();
  const after = run();
  assert.equal(after.code, 5, after.err);
  assert.match(after.err, /GRANT_REVOKED/);
  await page.goto(`${it.url}/audit?kind=grant`);
  await page.getByRole('row').filter({ hasText: 'grant.revoked' }).first().waitFor();
  await page.close();
});

test('a runner that is not there is refused in the chat, with the rule and the words kept', async () => {
  const page = await browser.newPage();
  await page.addInitScript(() => localStorage.setItem('custody.choice', JSON.stringify({ runner: 'no-such-runner', workspace: 'default', mode: 'rw' })));
  await signIn(page, it.url, it.key, '/chat');
  await page.getByLabel('Message', { exact: true }).fill('Who runs this?');
  await page.keyboard.press('Enter');
  const card = page.getByRole('group', { name: 'Refusal' });
  await card.waitFor();
  await soon(async () => assert.match(await card.textContent(), /RUNNER/));
  await soon(async () => assert.ok(await page.getByText('Who runs this?').first().isVisible()));
  await soon(async () => assert.ok(await card.getByRole('button', { name: 'Run again' }).isVisible()));
  await page.close();
});

test('a session that ended and one that was made up', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await signIn(page, it.url, it.key, '/dispatches');
  const cookies = await context.cookies();
  const before = it.json('dispatch', 'ls').length;
  await context.clearCookies();
  await context.addCookies(cookies.map((c) => ({ ...c, value: 'x'.repeat(c.value.length) })));
  const forged = await page.evaluate(async () => {
    const answer = await fetch('/api/v1/dispatches');
    return { status: answer.status, code: (await answer.json()).code };
  });
  assert.deepEqual(forged, { status: 401, code: 'NOT_SIGNED_IN' });
  await page.reload();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  await page.getByLabel('Access key').fill('ck_' + 'A'.repeat(43));
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').getByText('not known here').waitFor();
  await page.getByLabel('Access key').fill(it.key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await live(page);
  await until('the same page', () => page.url().endsWith('/dispatches'));
  assert.equal(it.json('dispatch', 'ls').length, before, 'nothing ran');
});
