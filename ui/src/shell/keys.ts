// Single keys that work anywhere outside of a field. A person can switch them off (WCAG 2.1.4).
import { recall } from '../bridge/keep.ts';
import { go, PAGES } from '../router.svelte.ts';

export interface Actions {
  palette(): void;
  help(): void;
}

/** How long `g` waits for its second key. */
const SECOND_KEY_MS = 1_500;

export const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** Whether a page may take this key as a command: no field has it, no dialog is open, and single keys are not switched off. */
export const single = (event: KeyboardEvent): boolean =>
  !event.ctrlKey && !event.metaKey && !event.altKey && !event.defaultPrevented && !typing(event.target) && recall<boolean>('keys', true) && document.querySelector('dialog[open]') === null;

/** The page's regions in the order of F6. */
const regions = (): HTMLElement[] =>
  [...document.querySelectorAll<HTMLElement>('header .search, nav a.here, [data-region], main')].filter(
    (r) => r.offsetParent !== null || r.tagName === 'MAIN',
  );

export function installKeys(actions: Actions): () => void {
  let second = -Infinity;
  const down = (event: KeyboardEvent) => {
    if (event.defaultPrevented) return;
    const { key } = event;
    if ((event.ctrlKey || event.metaKey) && !event.altKey && key.toLowerCase() === 'k') {
      event.preventDefault();
      actions.palette();
      return;
    }
    if (key === 'F6') {
      event.preventDefault();
      const all = regions();
      const at = all.findIndex((r) => r === document.activeElement || (r.dataset['region'] !== undefined && r.contains(document.activeElement)));
      all[(at + (event.shiftKey ? -1 : 1) + all.length) % all.length]?.focus();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || !recall<boolean>('keys', true)) return;
    if (document.querySelector('dialog[open]')) return;
    if (performance.now() - second < SECOND_KEY_MS) {
      second = -Infinity;
      const page = PAGES.find((p) => p.key === key);
      if (page?.paths[0] !== undefined) {
        event.preventDefault();
        go(page.paths[0]);
        return;
      }
    }
    if (key === 'g') second = performance.now();
    else if (key === '?') {
      event.preventDefault();
      actions.help();
    } else if (key === '/') {
      const field = document.querySelector<HTMLElement>('main [data-filter]');
      if (field) {
        event.preventDefault();
        field.focus();
      }
    }
  };
  addEventListener('keydown', down);
  return () => removeEventListener('keydown', down);
}
