// Figure: how long a word takes from the agent to the page. The worker notes when it read the word (a frame's `at`), the
// page when it was drawn; both are the clock of one machine. Between them: chunk, OUTPUT, tail, bridge, fold, screen.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { installation } from './support/installation.mjs';
import { over, send, signIn } from './support/pages.mjs';

let it, browser;
before(async () => {
  it = await installation();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await it?.end();
});

const WORDS = 200;

test('from an agent’s byte to the page', async () => {
  const page = await browser.newPage();
  await signIn(page, it.url, it.key, '/chat');
  await page.evaluate(() => {
    // Word n was drawn at this time, Unix milliseconds.
    globalThis.drawn = [];
    const look = () => {
      const words = [...document.querySelectorAll('article .words')].map((w) => w.textContent).join(' ');
      const seen = (words.match(/\bw\d+\b/g) ?? []).length;
      if (seen <= globalThis.drawn.length) return;
      requestAnimationFrame(() => {
        const now = performance.timeOrigin + performance.now();
        while (globalThis.drawn.length < seen) globalThis.drawn.push(now);
      });
    };
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  });
  await send(page, `[[words ${WORDS} 50]]`);
  const [turn] = await over(page, 1);
  const drawn = await page.evaluate(() => globalThis.drawn);
  assert.equal(drawn.length, WORDS, 'every word was drawn while it streamed');
  const output = await page.evaluate(async (id) => (await fetch(`/api/v1/dispatches/${id}/output`)).json(), turn.id);
  const frames = output.chunks.flatMap((chunk) => chunk.frames).filter((f) => f.kind === 'text');
  const said = frames.flatMap((f) => (f.text.match(/\bw\d+\b/g) ?? []).map((word) => [Number(word.slice(1)), f.at]));
  assert.equal(said.length, WORDS);
  const took = said.map(([n, at]) => drawn[n - 1] - at).sort((a, b) => a - b);
  const at = (q) => took[Math.min(took.length - 1, Math.floor(took.length * q))];
  console.log(`from an agent's byte to the page: p50 ${at(0.5).toFixed(0)} ms, p99 ${at(0.99).toFixed(0)} ms, most ${took.at(-1).toFixed(0)} ms (${took.length} words, 20 a second)`);
  assert.ok(took[0] >= -1, 'nothing is drawn before it is said');
  assert.ok(at(0.99) < 2_000, `p99 is ${at(0.99)} ms`);
  await page.close();
});
