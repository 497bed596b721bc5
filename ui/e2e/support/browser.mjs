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

export const launch = () => chromium.launch({ executablePath: process.env.CUSTODY_CHROMIUM ?? '/usr/bin/chromium', args: ARGS });

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
