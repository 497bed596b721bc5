// What a person does on the pages, in their words.
import { until } from './installation.mjs';

/** Signs in, and agrees to what the web chat may do unless the test does that itself. */
export async function signIn(page, url, key, path = '/', { agree = true } = {}) {
  await page.goto(url + path);
  await page.getByLabel('Access key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('status', { name: 'Connection' }).getByText('Live').waitFor();
  if (!agree) return;
  const agreed = await page.evaluate(async () => {
    const { state, terms, statement_digest } = await (await fetch('/api/v1/consent')).json();
    if (state !== 'needed') return false;
    const answer = await fetch('/api/v1/grants', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ terms, statement_digest }) });
    if (!answer.ok) throw new Error(await answer.text());
    return true;
  });
  if (!agreed) return;
  // What the page asked before shows what was before.
  await page.reload();
  await page.getByRole('status', { name: 'Connection' }).getByText('Live').waitFor();
}

/** Holds this assertion as soon as the page has got there: a page is drawn after what changed it. */
export const soon = (holds, ms = 10_000) => until('it holds', async () => (await holds(), true), ms);

export const live = (page, timeout = 60_000) => page.locator('[data-link=live]').waitFor({ timeout });

export async function send(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

/** The turns of the open conversation: id, status, what was asked, what was answered. */
export const turns = (page) =>
  page.locator('article[data-dispatch]').evaluateAll((all) =>
    all.map((a) => ({
      id: a.dataset.dispatch,
      status: a.dataset.status,
      asked: a.querySelector('.bubble')?.textContent ?? '',
      words: [...a.querySelectorAll('.words')].map((w) => w.textContent.trim()).join('\n'),
    })),
  );

/** What a page shows of a conversation and of its own connection: what the error of a wait says. */
const seen = async (page) => {
  const said = await page.evaluate(() => ({
    link: document.querySelector('[data-link]')?.dataset.link ?? null,
    alerts: [...document.querySelectorAll('[role=alert]')].map((e) => e.textContent.trim()).filter(Boolean),
    agent: document.querySelector('[aria-label=Agent]')?.textContent ?? null,
    outbox: [...document.querySelectorAll('[data-outbox]')].map((e) => `${e.dataset.outbox}: ${e.textContent.trim().slice(0, 80)}`),
    buttons: [...document.querySelectorAll('form[aria-label=Composer] button')].map((b) => `${b.textContent.trim()}${b.disabled ? ' (disabled)' : ''}`),
  }));
  const all = (await turns(page)).map((t) => `${t.id} ${t.status}, ${t.words.length} characters: …${t.words.slice(-40)}`);
  return JSON.stringify({ at: page.url(), turns: all, ...said });
};

/** Waits until this many turns are there and all of them are over; what it saw last is in its error. */
export async function over(page, count = 1, ms = 90_000) {
  try {
    return await until(
      `${count} turns are over`,
      async () => {
        const all = await turns(page);
        return all.length >= count && all.every((t) => ['completed', 'ended', 'refused'].includes(t.status)) ? all : null;
      },
      ms,
    );
  } catch (error) {
    throw new Error(`${error.message}; the page shows ${await seen(page).catch((e) => e.message)}`);
  }
}
