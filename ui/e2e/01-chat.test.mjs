// Check 1: a prompt becomes a container, the container is gone, the answer is whole; the second turn goes on from the
// session file, in another container.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { over, send, signIn, soon, turns } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

test('two turns of one conversation', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, 'What is 2 and 2?');
  const [first] = await over(page, 1);
  assert.equal(first.status, 'completed');
  assert.match(first.words, /You said: What is 2 and 2\?. I have seen 1 user turns\./);
  await until('the address names the session', () => /\/chat\/s-/.test(page.url()));

  await send(page, 'And 3 and 3?');
  const [, second] = await over(page, 2);
  assert.match(second.words, /You said: And 3 and 3\?. I have seen 2 user turns\./, 'the agent remembers the first turn');

  const session = it.json('session', 'show', page.url().split('/').pop());
  const rows = session.turns;
  assert.equal(rows.length, 2);
  assert.notEqual(rows[0].container, rows[1].container, 'each turn has a container of its own');
  assert.equal(rows[1].resumed_from, rows[0].left, 'the second resumed from the file that the first left');
  assert.equal((await turns(page)).length, 2);
  await page.close();
});

test('a tool line says what was used and who allowed it', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[tool write_file {"path":"notes.md","content":"hello"}]]');
  const [turn] = await over(page, 1);
  assert.equal(turn.status, 'completed');
  const line = page.locator('details.tool');
  assert.match(await line.textContent(), new RegExp(`write_file.*notes\\.md.*allowed: ${it.subject}`, 's'));
  await line.locator('summary').click();
  await line.getByText('"content": "hello"').waitFor();
  await page.close();
});

test('a follow-up into a container that stays is its next turn, and its words are there after a reload', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await page.getByRole('combobox', { name: /^Container/ }).selectOption('stay');
  await send(page, 'What is 4 and 4?');
  await page.locator('article .words').getByText('I have seen 1 user turns.').waitFor({ timeout: 60_000 });
  await page.getByText('the container stays for a follow-up').waitFor();
  await page.getByRole('button', { name: 'Say' }).waitFor();
  await send(page, 'And 5 and 5?');
  await page.locator('article .words').getByText('You said: And 5 and 5?. I have seen 2 user turns.').waitFor({ timeout: 60_000 });
  await page.locator('[data-follow-up="1"]').getByText('And 5 and 5?').waitFor();
  assert.equal((await turns(page)).length, 1, 'it is no dispatch of its own');
  await page.reload();
  await page.locator('[data-follow-up="1"]').getByText('And 5 and 5?').waitFor();
  const [turn] = await turns(page);
  assert.equal(turn.status, 'running');
  await page.getByRole('button', { name: 'Stop' }).click();
  await over(page, 1);
  const row = it.json('dispatch', 'get', turn.id);
  assert.equal((row.row ?? row).follow_ups, 1);
  // The container has ended: what is said now begins another one, in the same session.
  await page.getByRole('combobox', { name: /^Container/ }).selectOption('each');
  await send(page, 'And 6 and 6?');
  const all = await over(page, 2);
  assert.match(all[1].words, /You said: And 6 and 6\?/);
  await page.close();
});

test('a stop ends the container and says so, and a follow-up waits its turn', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[words 4000 50]]');
  await page.locator('article .words').getByText('w3').waitFor({ timeout: 60_000 });
  await send(page, 'After that, say hello.');
  await page.locator('article[data-status=queued], [data-outbox]').first().waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  const all = await over(page, 2);
  assert.equal(all[0].status, 'ended');
  assert.match(await page.locator('article').first().textContent(), /was stopped on request/);
  assert.equal(all[1].status, 'completed');
  assert.match(all[1].words, /After that, say hello/);
  await page.close();
});

test('before the first message a person reads what the web chat may do, and agrees to these words', async () => {
  const added = it.custody('user', 'add', 'u_jane', '--name', 'Jane');
  const key = /ck_\S+/.exec(added.out + added.err)[0];
  const page = await (await browser.newContext()).newPage();
  await signIn(page, it.url, key, '/chat?say=Hello', { agree: false });
  const words = page.getByRole('region', { name: 'Before your first message' });
  await words.getByText('u_jane lets user:web-chat').waitFor();
  await words.getByText('Workspaces: default as rw.').waitFor();
  const digest = await words.locator('code').textContent();
  await soon(async () => assert.ok(await page.getByRole('button', { name: 'Send' }).isDisabled()));
  await page.getByLabel('Message', { exact: true }).press('Enter');
  assert.equal(it.json('grant', 'ls').filter((g) => g.subject === 'u_jane').length, 0, 'nothing is given by reading, and nothing is sent');
  // A script is told the same.
  const told = await page.evaluate(async () => {
    const unit = { identity: { subject: 'u_jane', launcher: 'user:web-chat' }, runner: 'custody-agent', workspaces: [{ id: 'default', mode: 'rw' }], trigger: 'message', start: { entrypoint: { inline: 'Hello' } } };
    const answer = await fetch('/api/v1/dispatches', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ id: 'm-1', unit }) });
    return { status: answer.status, code: (await answer.json()).code };
  });
  assert.deepEqual(told, { status: 409, code: 'CONSENT_NEEDED' });
  await words.getByRole('button', { name: 'I agree' }).press('Enter');
  await words.waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'say', 'the focus goes where the person goes on');
  await page.keyboard.press('Enter');
  const [turn] = await over(page, 1);
  assert.match(turn.words, /You said: Hello/);
  const [grant] = it.json('grant', 'ls').filter((g) => g.subject === 'u_jane');
  const shown = it.json('grant', 'get', grant.grant);
  assert.ok(JSON.stringify(shown).includes(digest), 'the consent names the digest that was shown');
  await page.close();
});
