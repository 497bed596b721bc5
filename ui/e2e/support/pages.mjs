// What a person does on the pages, in their words.
import { until } from './installation.mjs';

export async function signIn(page, url, key, path = '/') {
  await page.goto(url + path);
  await page.getByLabel('Access key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('status', { name: 'Connection' }).getByText('Live').waitFor();
}

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

/** Waits until the newest turn is over. */
export const over = (page, count = 1, ms = 90_000) =>
  until(
    `${count} turns are over`,
    async () => {
      const all = await turns(page);
      return all.length >= count && all.every((t) => ['completed', 'ended', 'refused'].includes(t.status)) ? all : null;
    },
    ms,
  );
