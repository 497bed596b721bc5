// What every page must be like, whatever it shows: no violation of axe's rules, nothing that scrolls sideways, every target
// large enough.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa', 'best-practice'];

export const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

/**
 * What breaks axe's rules, in the light and in the dark. In the dark only colours differ, so only they are looked at a second
 * time. `undecided` counts the rules that axe could not decide.
 */
export async function violations(page, undecided = new Map()) {
  await page.evaluate(axe);
  const run = (runOnly) =>
    page.evaluate(async (runOnly) => {
      const { violations, incomplete } = await globalThis.axe.run(document, { runOnly, resultTypes: ['violations', 'incomplete'] });
      const brief = (r) => ({ id: r.id, help: r.help, nodes: r.nodes.slice(0, 3).map((n) => `${n.target.join(' ')}: ${n.failureSummary?.split('\n')[1]?.trim() ?? ''}`) });
      return { violations: violations.map(brief), incomplete: incomplete.map((r) => r.id) };
    }, runOnly);
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await run({ type: 'tag', values: TAGS });
  await page.emulateMedia({ colorScheme: 'dark' });
  const dark = await run({ type: 'rule', values: ['color-contrast', 'link-in-text-block'] });
  for (const rule of [...light.incomplete, ...dark.incomplete]) undecided.set(rule, (undecided.get(rule) ?? 0) + 1);
  return [...light.violations, ...dark.violations.map((v) => ({ ...v, scheme: 'dark' }))];
}

export const sideways = (page) =>
  page.evaluate(() => {
    const wide = [document.documentElement, document.querySelector('main')].filter((e) => e && e.scrollWidth > e.clientWidth + 1);
    return wide.map((e) => `${e.tagName} ${e.scrollWidth} > ${e.clientWidth}`);
  });

/** Targets below 24 pixels that are not words in a sentence (WCAG 2.2, 2.5.8, the inline exception). */
export const small = (page) =>
  page.evaluate(() => {
    const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest('[inert], dialog:not([open])');
    return [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [role=tab], [role=option]')]
      .filter((e) => seen(e) && !(e.tagName === 'A' && getComputedStyle(e).display === 'inline'))
      .map((e) => {
        // The label of a checkbox is part of its target.
        const r = (e.closest('label') ?? e).getBoundingClientRect();
        return { what: `${e.tagName} ${e.getAttribute('aria-label') ?? e.textContent?.trim().slice(0, 30)}`, w: r.width, h: r.height };
      })
      .filter(({ what, w, h }) => w > 0 && (w < 23.9 || h < 23.9) && !what.includes('Skip to the page'))
      .map(({ what, w, h }) => `${what} ${Math.round(w)}×${Math.round(h)}`);
  });
