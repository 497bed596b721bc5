// Debian's Chromium, driven without a browser download. One browser a test file, one context a person.
import { chromium } from 'playwright-core';

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export async function launch() {
  const browser = await chromium.launch({ executablePath: process.env.CUSTODY_CHROMIUM ?? '/usr/bin/chromium', args: ARGS });
  await clickWhatStandsStill(browser);
  return browser;
}

/** How long a thing must have stood where it is before it is clicked, in milliseconds. */
const STILL_MS = 150;
const MOVES_MS = 10_000;

/**
 * A click is a press and a release. A page that is filled from a live log may move what is under the hand between the two
 * while the machine is busy, and then nothing was clicked; a person sees that and waits. So does each click here.
 */
async function clickWhatStandsStill(browser) {
  const page = await browser.newPage();
  const locators = Object.getPrototypeOf(page.locator('body'));
  await page.close();
  if (locators.clicksAtOnce) return;
  locators.clicksAtOnce = locators.click;
  locators.click = async function click(options) {
    await this.waitFor({ timeout: options?.timeout });
    await this.evaluate(
      (element, [still, most]) =>
        new Promise((done) => {
          const began = performance.now();
          let since = began;
          let was = '';
          const look = () => {
            const now = performance.now();
            const { x, y, width, height } = element.getBoundingClientRect();
            const is = `${x} ${y} ${width} ${height}`;
            if (is !== was) [was, since] = [is, now];
            if (!element.isConnected || now - since >= still || now - began >= most) done();
            else requestAnimationFrame(look);
          };
          look();
        }),
      [STILL_MS, MOVES_MS],
    );
    return this.clicksAtOnce(options);
  };
}

/** Everything that a page asked of another origin, and every breach of its policy. Both must stay empty. */
export async function watch(context, origin) {
  const outside = [];
  const breaches = [];
  const own = new URL(origin).host;
  await context.route('**/*', (route) => {
    const url = new URL(route.request().url());
    if (url.host === own || url.protocol === 'data:' || url.protocol === 'blob:') return route.fallback();
    outside.push(url.href);
    return route.abort();
  });
  await context.exposeBinding('__breach', (_source, text) => void breaches.push(text));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (e) => globalThis.__breach(`${e.violatedDirective}: ${e.blockedURI} ${e.sample}`));
  });
  return { outside, breaches };
}
