// Check 24: Stop is always within reach. It is sent while something that is shown still catches up; a stop that was not
// taken is said where it was asked, and can be asked again.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './support/browser.mjs';
import { until } from './support/installation.mjs';
import { full, NOW, open } from './support/routes.mjs';
import { serve } from './support/static.mjs';
import { answer } from './support/synthetic.mjs';

let server, browser;
before(async () => {
  server = await serve();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A page of the running conversation whose commands are answered by the test. */
async function running(hold, told) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  await context.clock.setFixedTime(NOW);
  const { list, model } = full();
  const control = await answer(context, model, { hold, told });
  return { context, control, list, path: `/chat/${list[39].session}`, id: list[39].dispatch };
}

test('a stop is sent while a topic has not come', async () => {
  const commands = [];
  const { context, path, id } = await running((what) => what === 'health' || what.startsWith('output/'), (frame) => (commands.push(frame), { ok: true }));
  const page = await context.newPage();
  await page.goto(server.url + path);
  await page.locator('[data-link=catching_up]').waitFor();
  const stop = page.getByRole('button', { name: 'Stop', exact: true });
  await stop.click();
  await until('the stop is sent', () => commands.some((c) => c.name === 'dispatch.stop' && c.args.dispatch === id), 5_000);
  await page.getByRole('button', { name: 'Stopping' }).waitFor();
  assert.equal(await page.getByText('Not connected').count(), 0, 'it is connected, and does not say otherwise');
  await context.close();
});

test('a stop that is not taken is said, and asked again', async () => {
  const commands = [];
  const { context, path } = await running(() => false, (frame) => {
    commands.push(frame);
    return commands.length === 1 ? { ok: false, code: 'TIMED_OUT' } : { ok: true };
  });
  const page = await open(context, server.url, path, 'ready');
  const stop = page.getByRole('button', { name: 'Stop', exact: true });
  await stop.click();
  await page.getByRole('alert').getByText('The stop was not taken (TIMED_OUT). Press Stop again.').waitFor();
  await stop.click();
  await page.getByRole('button', { name: 'Stopping' }).waitFor();
  assert.equal(await page.getByRole('alert').getByText('was not taken').count(), 0);
  assert.equal(commands.length, 2);
  assert.notEqual(commands[0].id, commands[1].id);
  await context.close();
});
