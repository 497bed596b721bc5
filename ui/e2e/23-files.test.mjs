// Check 23: the Files tab of a dispatch shows what the run changed, line by line, out of the workspace's own repository:
// what landed, what waits and what its owner made of it, what is cut, and nothing to another person.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { over, send, signIn, soon } from './support/pages.mjs';

const LARGE = Array.from({ length: 2_000 }, (_, i) => `line ${i + 1} of a file that is too large for a page`).join('\n');
const write = (path, content) => ({ tool: ['write_file', { path, content }] });
const script = {
  'Begin the plan.': [write('plan.md', 'Launch\nis on\nMonday\n'), { say: 'Done.' }],
  'Move the launch.': [write('plan.md', 'Launch\nis on\nTuesday\n'), write('notes/why.md', 'Monday is a holiday.\n'), { say: 'Done.' }],
  'Write all of it.': [write('all.txt', LARGE), { say: 'Done.' }],
  'Propose a day.': [write('plan.md', 'Launch\nis on\nFriday\n'), { say: 'Done.' }],
  'Propose another.': [write('plan.md', 'Launch\nis on\nSunday\n'), { say: 'Done.' }],
};

let it, browser;
before(async () => {
  it = await installation({ script });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

/** A line of a patch as a person reads it: its numbers, its sign, its text. */
const lines = (change) =>
  change.locator('table.patch tr').evaluateAll((all) =>
    all.slice(1).map((tr) => {
      const [before, now, sign, text] = [...tr.querySelectorAll('td')].map((td) => td.textContent.trim());
      return [before, now, sign, text].join('|');
    }),
  );
const sideways = (page) => page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth + 1);

test('what landed: the commit, its files, its lines, with the keyboard, on a phone, and not for another person', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, 'Begin the plan.');
  await over(page, 1);
  await send(page, 'Move the launch.');
  const [, turn] = await over(page, 2);
  await page.goto(`${it.url}/dispatches/${turn.id}?tab=files`);
  const change = page.locator('[data-change=default]');
  await change.getByText('Landed', { exact: true }).waitFor();
  await change.getByText('2 files changed').waitFor();
  const commits = it.json('workspace', 'log', 'default');
  assert.equal(commits[0].dispatch, turn.id);
  await change.getByTitle(commits[0].commit).waitFor();
  assert.deepEqual(await lines(change.locator('details').filter({ hasText: 'plan.md' })), [
    '1|1|same|Launch', '2|2|same|is on', '3||−removed|Monday', '|3|+added|Tuesday',
  ]);

  // With keys: closed and opened again, and the focus stays.
  const summary = change.locator('summary').filter({ hasText: 'notes/why.md' });
  await summary.focus();
  await page.keyboard.press('Enter');
  await change.getByText('Monday is a holiday.').waitFor({ state: 'detached' });
  await page.keyboard.press('Enter');
  await change.getByText('Monday is a holiday.').waitFor();
  assert.ok(await summary.evaluate((e) => e === document.activeElement));
  await change.getByRole('table', { name: 'Lines of plan.md' }).waitFor();
  await soon(async () => assert.deepEqual(await change.getByRole('table', { name: 'Lines of plan.md' }).getByRole('columnheader').allTextContents(), ['Line before', 'Line now', 'What became of it', 'Text']));

  await page.setViewportSize({ width: 360, height: 740 });
  assert.equal(await sideways(page), false);
  await page.setViewportSize({ width: 1280, height: 800 });

  const added = it.custody('user', 'add', 'u_omar', '--name', 'Omar');
  const key = /ck_\S+/.exec(added.out + added.err)[0];
  const other = await (await browser.newContext()).newPage();
  await signIn(other, it.url, key, `/dispatches/${turn.id}?tab=files`);
  await other.getByText('Not found or not yours').waitFor();
  const told = await other.evaluate(async (id) => {
    const answer = await fetch(`/api/v1/dispatches/${id}/changes/default`);
    return { status: answer.status, type: answer.headers.get('content-type'), code: (await answer.json()).code };
  }, turn.id);
  assert.deepEqual(told, { status: 404, type: 'application/problem+json', code: 'NOT_FOUND' });
  await other.close();
  await page.close();
});

test('what is too large is cut, and said so with the command that shows it whole', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, 'Write all of it.');
  const [turn] = await over(page, 1);
  await page.goto(`${it.url}/dispatches/${turn.id}?tab=files`);
  const change = page.locator('[data-change=default]');
  await change.getByText('Not all of it is shown').waitFor();
  await change.getByText('1 file changed').waitFor();
  await change.locator('summary').click();
  await soon(async () => assert.equal(await change.locator('table.patch tbody tr').count(), 400, 'a part of the lines is drawn at first'));
  await change.getByRole('button', { name: /^Show all / }).click();
  await soon(async () => {
    const shown = await change.locator('table.patch tbody tr').count();
    assert.ok(shown > 400 && shown < 2_000, `${shown}`);
  });
  const command = (await change.getByText('Its end is not shown here').locator('code').textContent()).split(' ').slice(1);
  const whole = it.custody(...command);
  assert.equal(whole.code, 0, whole.err);
  assert.ok(whole.out.includes('+line 2000 of a file'));
  await page.close();
});

test('what waits for its owner, what the owner lands, and what the owner rejects', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/');
  const propose = async (text) => {
    // Not waited for: the scripted model answers from this very process.
    const ran = it.custody('run', '--detach', '-o', 'json', '--workspace', 'default:propose', text);
    assert.equal(ran.code, 0, ran.err);
    const id = JSON.parse(ran.out).dispatch;
    await page.goto(`${it.url}/dispatches/${id}?tab=files`);
    await page.locator('[data-change=default]').getByText('Waits for the owner').waitFor({ timeout: 60_000 });
    await until('the proposal is recorded', () => it.json('workspace', 'proposals', 'default').some((p) => p.proposal === id));
    return id;
  };
  const change = page.locator('[data-change=default]');
  const first = await propose('Propose a day.');
  await change.getByText('Friday').waitFor();
  const landed = it.custody('workspace', 'land', 'default', first);
  assert.equal(landed.code, 0, landed.err);
  await page.getByRole('button', { name: 'Look again' }).click();
  await change.getByText('Landed later').waitFor();
  await change.getByText('Friday').waitFor();

  const second = await propose('Propose another.');
  assert.equal(it.custody('workspace', 'reject', 'default', second, '--why', 'not on a Sunday').code, 0);
  await page.getByRole('button', { name: 'Look again' }).click();
  await change.getByText('Rejected', { exact: true }).waitFor();
  await soon(async () => assert.equal(await change.locator('details').count(), 0, 'what was rejected is not kept'));
  await page.close();
});

test('a run that is still at work, and one that could write nowhere', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[hold]]');
  await page.locator('article .words').getByText('The first half stands.').waitFor({ timeout: 60_000 });
  const id = await page.locator('article[data-dispatch]').first().getAttribute('data-dispatch');
  await page.goto(`${it.url}/dispatches/${id}?tab=files`);
  await page.getByText('It is still at work.').waitFor();
  it.model.release();
  // Without a reload: its end is heard, and only then it is asked what it changed.
  await page.locator('[data-change=default]').getByText('No change', { exact: true }).waitFor({ timeout: 60_000 });

  const ran = it.custody('run', '--detach', '-o', 'json', '--workspace', 'default:ro', 'Only read.');
  assert.equal(ran.code, 0, ran.err);
  await page.goto(`${it.url}/dispatches/${JSON.parse(ran.out).dispatch}?tab=files`);
  await page.getByText('there was no workspace that it could write').waitFor({ timeout: 60_000 });
  await page.close();
});
