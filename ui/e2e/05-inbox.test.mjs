// Check 5: a decision names the version and the digest that are on the screen, what cannot be undone takes a second yes, what
// changed or was decided elsewhere is told and not decided, and nothing is decided without a connection: on made-up answers.
// And on a real installation: what the person read is what reaches the upstream server, once, and nothing else does.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation, until } from './support/installation.mjs';
import { mailServer } from './support/mail.mjs';
import { signIn, soon } from './support/pages.mjs';
import { contextIn, open } from './support/routes.mjs';
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

/** A page at a card, and what it sends as decisions. */
async function at(card, answer = () => ({ json: { card, seq: 900, changed: true } })) {
  const { context, control } = await contextIn(browser, 'ready');
  const sent = [];
  await context.route('**/api/v1/inbox/*/decide', (route) => {
    sent.push(route.request().postDataJSON());
    return route.fulfill(answer(sent.length));
  });
  const page = await open(context, server.url, `/inbox/${card}`, 'ready', control);
  await page.getByRole('group', { name: 'Exact arguments' }).waitFor();
  return { context, control, page, sent };
}

test('what cannot be undone takes a second yes, for exactly what was shown', async () => {
  const { context, page, sent } = await at('d-7f3a-t2');
  const shown = page.getByRole('group', { name: 'Exact arguments' });
  await soon(async () => assert.match(await shown.textContent(), /"to": "bob@acme\.test"/));
  const digest = await shown.getAttribute('data-digest');
  await page.getByRole('button', { name: 'Approve' }).click();
  assert.equal(sent.length, 0, 'once is not enough');
  await page.getByRole('button', { name: 'Yes, it cannot be undone' }).click();
  await page.waitForResponse((r) => r.url().endsWith('/inbox/d-7f3a-t2')).catch(() => {});
  assert.deepEqual(sent, [{ decision: 'approve', version: 1, args_digest: digest }]);
  await context.close();
});

test('an edit is a next version, a rejection has a reason, a deferral a time', async () => {
  const { context, page, sent } = await at('d-80b1-t1');
  await page.getByRole('button', { name: 'Edit' }).click();
  const field = page.getByLabel(/Arguments of the next version/);
  await field.fill('{"path": ');
  await page.getByRole('button', { name: 'Put this version forward' }).click();
  await page.getByRole('alert').getByText('Not yet').waitFor();
  assert.equal(sent.length, 0, 'what is no JSON is not sent');
  await field.fill('{"path":"board.md","text":"short"}');
  await page.getByRole('button', { name: 'Put this version forward' }).click();
  await page.getByRole('button', { name: 'Reject' }).click();
  await page.getByLabel('Why').fill('Not now');
  await page.locator('form').getByRole('button', { name: 'Reject' }).click();
  await page.getByRole('button', { name: 'Defer' }).click();
  await page.locator('form').getByRole('button', { name: 'Defer' }).click();
  await page.getByRole('button', { name: 'Approve' }).waitFor();
  assert.deepEqual(sent.slice(0, 2), [
    { decision: 'edit', version: 2, args: { path: 'board.md', text: 'short' } },
    { decision: 'reject', version: 2, reason: 'Not now' },
  ]);
  assert.equal(sent[2].decision, 'defer');
  assert.ok(Number.isInteger(sent[2].until));
  await context.close();
});

test('who comes second is told who was first', async () => {
  const problem = { type: '/docs/errors#CONFLICT', title: 'It is not in a state for this', status: 409, code: 'APPROVAL_DECIDED', detail: 'u_omar approved it' };
  const { context, page } = await at('d-80b1-t1', () => ({ status: 409, json: problem }));
  await page.getByRole('button', { name: 'Approve' }).click();
  await page.getByRole('alert').getByText('Somebody decided already').waitFor();
  await page.getByRole('alert').getByText('u_omar approved it').waitFor();
  await context.close();
});

test('without a connection nothing is decided', async () => {
  const { context, control, page } = await at('d-80b1-t1');
  control.cut();
  await page.locator('[data-link=reconnecting]').waitFor();
  for (const name of ['Approve', 'Edit', 'Reject', 'Defer']) await soon(async () => assert.ok(await page.getByRole('button', { name, exact: true }).isDisabled(), name));
  await context.close();
});

test('keys move through the list and open each decision', async () => {
  const { context, page, sent } = await at('d-7f3a-t2');
  await page.keyboard.press('j');
  await page.waitForURL('**/inbox/d-80b1-t1');
  await page.getByRole('region', { name: 'Card d-80b1-t1' }).getByRole('group', { name: 'Exact arguments' }).waitFor();
  await page.keyboard.press('r');
  await page.getByLabel('Why').waitFor();
  await page.getByRole('button', { name: 'Leave it' }).click();
  const decided = page.waitForResponse('**/inbox/d-80b1-t1/decide');
  await page.keyboard.press('a');
  await decided;
  assert.equal(sent.at(-1).decision, 'approve');
  await context.close();
});

test('nothing in the arguments is hidden from who decides', async () => {
  const { context, page } = await at('d-80b1-t1');
  await context.route('**/api/v1/inbox/d-80b1-t1', async (route) => {
    const row = { card: 'd-80b1-t1', dispatch: 'd-80b1', subject: 'u_admin', launcher: 'web', approvers: ['u_admin'], tool: 'mail.send', scope: 'mail:send', effect: 'write', input_trust: 'untrusted', rule: 'gate', version: 2, args_digest: `sha256:${'9be0'.repeat(16)}`, state: 'waiting', open: true, until: null, expires_at: Date.UTC(2027, 0, 1), by: null, reason: null, opened_at: '2026-11-22T23:00:00.000Z', first_seq: 1, last_seq: 1 };
    const args = { to: 'bob@acme.test\u202Emoc.live', note: '<img src=x onerror=alert(1)>\u200B' };
    // A number that no browser holds exactly is shown as the server wrote it.
    await route.fulfill({ json: { as_of: 1, row, args, text: JSON.stringify(args, null, 2).replace('{', '{\n  "amount": 9007199254740993,') } });
  });
  await page.reload();
  const text = await page.getByRole('group', { name: 'Exact arguments' }).textContent();
  assert.match(text, /bob@acme\.test\\u\{202e\}moc\.live/);
  assert.match(text, /9007199254740993/);
  assert.match(text, /<img src=x onerror=alert\(1\)>\\u\{200b\}/);
  assert.equal(await page.locator('main img').count(), 0);
  await context.close();
});

/** The socket of a dispatch's box, on the host's side. */
function socketOf(home, dispatch) {
  const find = (folder) => {
    if (!existsSync(folder)) return null;
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.name === 'gw.sock') return path;
      const below = entry.isDirectory() ? find(path) : null;
      if (below) return below;
    }
    return null;
  };
  return find(join(home, 's/runs', dispatch));
}

/** Calls a tool as the agent in the box does. */
const call = (socketPath, name, args) =>
  new Promise((done, failed) => {
    const asked = request({ socketPath, path: '/mcp', method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json' } }, (response) => {
      const chunks = [];
      response.on('data', (c) => chunks.push(c));
      response.on('end', () => done(JSON.parse(Buffer.concat(chunks).toString('utf8'))));
    });
    asked.on('error', failed);
    asked.end(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } }));
  });

test('what a person reads on the page is what is done, once, and nothing else is', async () => {
  const mail = await mailServer();
  const it = await installation({ config: `[tools.servers.mail]\nurl = "${mail.url}"\n` });
  const context = await browser.newContext();
  try {
    const ok = (...args) => {
      const ran = it.custody(...args);
      assert.equal(ran.code, 0, ran.err);
    };
    ok('tool', 'add', mail.document);
    ok('tool', 'accept', 'mail__send');
    ok('grant', 'issue', '--launcher', 'cli', '--workspace', 'default:rw', '--tool', 'mail__send', '--dispatches', '10', '--yes');
    const { dispatch } = it.json('run', '--detach', '--tool', 'mail__send', '[[hold]]');
    await until('the agent runs', () => it.model.holding > 0);
    const box = socketOf(it.home, dispatch);
    const propose = async (text) => {
      const answer = await call(box, 'mail__send', { to: 'bob@acme.test', text });
      assert.equal(answer.result?.structuredContent?.status, 'pending', JSON.stringify(answer));
      return answer.result.structuredContent.card;
    };
    const page = await context.newPage();
    await signIn(page, it.url, it.key, '/inbox');
    await page.getByText('Nothing waits for you').waitFor();
    const read = async (card) => {
      await page.locator(`[data-card="${card}"]`).click();
      const region = page.getByRole('region', { name: `Card ${card}` });
      await region.getByRole('group', { name: 'Exact arguments' }).waitFor();
      return region;
    };
    const yes = async (region) => {
      await region.getByRole('button', { name: 'Approve' }).click();
      await region.getByRole('button', { name: 'Yes, it cannot be undone' }).click();
    };

    // It comes to the open page by itself, and is made once.
    const first = await propose('One.');
    const one = await read(first);
    await soon(async () => assert.match(await one.getByRole('group', { name: 'Exact arguments' }).textContent(), /"text": "One\."/));
    assert.equal(mail.sent().length, 0);
    await yes(one);
    await until('it was sent', () => mail.sent().length === 1);
    assert.deepEqual(mail.sent(), [{ text: 'One.', to: 'bob@acme.test' }]);
    await one.getByText(`by ${it.subject}`).first().waitFor();

    // Edited: only the next version, and only after a yes to it.
    const second = await propose('Two.');
    const two = await read(second);
    await two.getByRole('button', { name: 'Edit' }).click();
    await two.getByLabel(/Arguments of the next version/).fill('{"to":"bob@acme.test","text":"Two and a half."}');
    await two.getByRole('button', { name: 'Put this version forward' }).click();
    await two.getByRole('group', { name: 'Exact arguments' }).getByText('Two and a half.').waitFor();
    assert.equal(mail.sent().length, 1);
    await yes(two);
    await until('the edited one was sent', () => mail.sent().length === 2);
    assert.equal(mail.sent()[1].text, 'Two and a half.');

    // Decided at the command line while it is open here: told, and not decided again.
    const third = await propose('Three.');
    const three = await read(third);
    ok('inbox', 'reject', third, '--reason', 'Not now.');
    await three.getByText('It has changed since you read it').waitFor();
    await soon(async () => assert.ok(await three.getByRole('button', { name: 'Approve' }).isDisabled()));
    const digest = it.json('inbox', 'show', third).row.args_digest;
    const late = await page.evaluate(
      async ([card, args_digest]) => {
        const answer = await fetch(`/api/v1/inbox/${card}/decide`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ decision: 'approve', version: 1, args_digest }) });
        return [answer.status, (await answer.json()).code];
      },
      [third, digest],
    );
    assert.deepEqual(late, [409, 'APPROVAL_DECIDED']);

    // Rejected on the page.
    const fourth = await propose('Four.');
    const four = await read(fourth);
    await four.getByRole('button', { name: 'Reject' }).click();
    await four.getByLabel('Why').fill('Wrong addressee');
    await four.locator('form').getByRole('button', { name: 'Reject' }).click();
    await until('it is rejected', () => it.json('inbox', 'show', fourth).row.state === 'rejected');
    assert.equal(mail.sent().length, 2);
    it.model.release();
  } finally {
    await context.close();
    await it.end();
    await mail.close();
  }
});
