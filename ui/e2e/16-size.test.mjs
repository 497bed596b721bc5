// Check 16: 20,000 rows of audit, a timeline of 5,000 steps, a conversation of 500 turns that goes on streaming. Frames
// stay below 50 ms at the 95th percentile, the page below 3,000 nodes, and the heap does not grow by 50 MB.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { below, bestOf } from './support/measure.mjs';
import { soon } from './support/pages.mjs';
import { serve } from './support/static.mjs';
import { answer, auditRow, dispatchEvents, installation, iso } from './support/synthetic.mjs';

let server, browser;
before(async () => {
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A context is closed when its round is over, also one that was too slow. */
const contexts = [];
const measured = (name, round) =>
  test(name, () =>
    bestOf(async () => {
      try {
        await round();
      } finally {
        await contexts.pop()?.close();
      }
    }),
  );

async function opened(model, path, ready) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  contexts.push(context);
  const control = await answer(context, model);
  const page = await context.newPage();
  await page.goto(server.url + path);
  await page.locator(ready).first().waitFor({ timeout: 30_000 });
  await page.locator('[data-link=live]').waitFor();
  const cdp = await context.newCDPSession(page);
  return { control, page, cdp };
}
const nodes = (page) => page.evaluate(() => document.querySelectorAll('*').length);
const heap = async (cdp) => {
  await cdp.send('HeapProfiler.collectGarbage');
  return (await cdp.send('Runtime.getHeapUsage')).usedSize;
};
/** Times between frames while `act` goes on. */
async function frames(page, act) {
  await page.evaluate(() => {
    globalThis.frameTimes = [];
    let last = performance.now();
    const tick = (now) => {
      globalThis.frameTimes.push(now - last);
      last = now;
      globalThis.frameLoop = requestAnimationFrame(tick);
    };
    globalThis.frameLoop = requestAnimationFrame(tick);
  });
  await act();
  const times = await page.evaluate(() => {
    cancelAnimationFrame(globalThis.frameLoop);
    return globalThis.frameTimes.slice(2).sort((a, b) => a - b);
  });
  return { p50: times[times.length >> 1], p95: times[Math.floor(times.length * 0.95)], count: times.length };
}
/** In the page: how long it takes until every turn that is seen has its words. */
const seenIsWhole = () =>
  new Promise((done) => {
    const began = performance.now();
    const log = document.querySelector('[role=log]');
    const look = () => {
      const { top, bottom } = log.getBoundingClientRect();
      const seen = [...log.querySelectorAll('article')].filter((turn) => {
        const at = turn.getBoundingClientRect();
        return at.bottom > top && at.top < bottom;
      });
      if (seen.length > 0 && seen.every((turn) => turn.querySelector('.words'))) done(performance.now() - began);
      else requestAnimationFrame(look);
    };
    look();
  });
function within(name, { p50, p95, count }, inPage, grown) {
  console.log(`${name}: frames p50 ${p50.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms (${count}); ${inPage} nodes; heap +${(grown / 1_048_576).toFixed(1)} MiB`);
  assert.ok(count > 30, `${count} frames`);
  assert.ok(inPage < 3_000, `${inPage} nodes`);
  assert.ok(grown < 50 * 1_048_576, `the heap grew by ${grown} bytes`);
  below(50, p95, `${name}: p95 of a frame`);
}

measured('20,000 rows of audit', async () => {
  const audit = Array.from({ length: 20_000 }, (_, i) => auditRow(i + 1));
  const model = installation({ audit, head: 20_000 });
  const { control, page, cdp } = await opened(model, '/audit?checkpoints=1', '[role=row].item');
  const list = page.locator('[role=rowgroup]');
  for (let i = 0; i < 40 && !(await page.getByText('20,000 events').isVisible()); i++) {
    await page.getByRole('button', { name: 'Read older ones' }).click({ timeout: 2_000 }).catch(() => {});
    await page.waitForTimeout(50);
  }
  await page.getByText('20,000 events').waitFor();
  const before = await heap(cdp);
  const found = await frames(page, async () => {
    for (let i = 0; i < 40; i++) {
      await list.evaluate((e) => e.scrollBy(0, 4_000));
      await page.waitForTimeout(30);
    }
    await list.evaluate((e) => e.scrollTo(0, e.scrollHeight));
    await list.evaluate((e) => e.scrollTo(0, 0));
    let seq = 20_000;
    for (let tick = 0; tick < 100; tick++) {
      const events = Array.from({ length: 5 }, () => ({ seq: ++seq, type: 'custody.audit.row.v1', time: iso(Date.now()), data: auditRow(seq) }));
      control.push('audit', seq, events);
      await page.waitForTimeout(20);
    }
  });
  await page.getByRole('searchbox', { name: 'Words' }).fill('SUBJECT_NOT_ALLOWED');
  await page.getByRole('status', { name: 'Rows' }).getByText(/^(4|5)\d\d events/).waitFor();
  within('audit', found, await nodes(page), (await heap(cdp)) - before);
});

measured('a timeline of 5,000 steps', async () => {
  const one = dispatchEvents(0, { models: 1 });
  const start = Date.parse(one.events[2].time);
  one.frames = [{ seq: 1, at: start, kind: 'started', pid: 1, resumed: false }];
  for (let i = 0; i < 5_000; i++) {
    one.frames.push({ seq: one.frames.length + 1, at: start + i * 3, kind: 'tool_call', id: `c${i}`, name: 'read_file', args: { path: `src/file-${i}.rs` } });
    one.frames.push({ seq: one.frames.length + 1, at: start + i * 3 + 2, kind: 'tool_result', id: `c${i}`, ok: i % 97 !== 0, text: `line ${i}` });
  }
  const { page, cdp } = await opened(installation({ dispatches: [one] }), `/dispatches/${one.dispatch}`, '[role=treegrid] .item');
  await soon(async () => assert.ok(Number(await page.getByRole('treegrid').getAttribute('aria-rowcount')) > 5_000));
  const before = await heap(cdp);
  const found = await frames(page, async () => {
    const list = page.locator('[role=treegrid] [role=rowgroup]');
    for (let i = 0; i < 60; i++) {
      await list.evaluate((e) => e.scrollBy(0, 2_500));
      await page.waitForTimeout(30);
    }
    await page.locator('[role=treegrid] [role=row][tabindex="0"]').first().focus().catch(() => {});
    for (const key of ['End', 'Home', 'e', 'e', 'e']) {
      await page.keyboard.press(key);
      await page.waitForTimeout(60);
    }
  });
  within('timeline', found, await nodes(page), (await heap(cdp)) - before);
});

measured('a conversation of 500 turns, streaming', async () => {
  const list = Array.from({ length: 500 }, (_, n) => dispatchEvents(n, { session: 's-long', seq: n * 10 + 1, status: n === 499 ? 'running' : 'completed' }));
  const model = installation({ dispatches: list });
  const { control, page, cdp } = await opened(model, '/chat/s-long', 'article[data-dispatch]');
  await page.locator(`article[data-dispatch="${list[499].dispatch}"]`).waitFor();
  await page.waitForTimeout(500);
  const before = await heap(cdp);
  let seq = model.at();
  let frame = list[499].frames.length;
  const stream = async (ticks) => {
    for (let tick = 0; tick < ticks; tick++) {
      const next = [{ seq: ++frame, at: Date.now(), kind: 'text', text: `word ${tick} of a **long** answer that goes on, ` + (tick % 25 === 24 ? '\n\n' : '') }];
      seq++;
      list[499].frames.push(...next);
      control.push(`output/${list[499].dispatch}`, seq, [{ seq, type: 'custody.output.chunk.v1', time: iso(Date.now()), data: { dispatch: list[499].dispatch, attempt: 1, from: frame, to: frame, frames: next } }]);
      await page.waitForTimeout(25);
    }
  };
  const found = await frames(page, () => stream(400));
  await page.getByText('word 399 of a').waitFor();
  within('chat', found, await nodes(page), (await heap(cdp)) - before);
  const log = page.getByRole('log');
  // 37,500 pixels a second, and what the hand stops at is there soon.
  await log.hover();
  const back = await frames(page, async () => {
    for (let i = 0; i < 60; i++) {
      await page.mouse.wheel(0, -1_500);
      await page.waitForTimeout(40);
    }
  });
  const filled = await page.evaluate(seenIsWhole);
  console.log(`chat, reading back: what is seen was whole ${filled.toFixed(0)} ms after the hand stopped`);
  await page.getByRole('button', { name: 'Jump to latest' }).click();
  await page.getByText('word 399 of a').waitFor();
  within('chat, reading back', back, await nodes(page), (await heap(cdp)) - before);
  below(500, filled, 'chat, reading back: what is seen is whole');
});
