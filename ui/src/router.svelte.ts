// Addresses. The table of pages is data: the navigation, the palette and the titles are made from it, and each page is
// loaded when it is first opened. Filters, tabs and selection live in the query, so a link is the whole view.
import type { Component } from 'svelte';

export interface Page {
  readonly name: string;
  /** `/chat/:session`: a part that begins with a colon is a parameter. */
  readonly paths: readonly string[];
  readonly title: string;
  /** Second key after `g`. */
  readonly key?: string;
  readonly icon?: IconName;
  readonly load: () => Promise<{ readonly default: View }>;
}
/** A page that has no parameters takes none. */
export type View = Component<PageProps> | Component<Record<string, never>>;
export interface PageProps {
  readonly params: Readonly<Record<string, string>>;
}
type IconName = 'home' | 'chat' | 'runs' | 'audit' | 'box' | 'pulse' | 'book' | 'key' | 'tray';

export const PAGES: readonly Page[] = [
  { name: 'home', paths: ['/'], title: 'Home', key: 'h', icon: 'home', load: () => import('./pages/Home.svelte') },
  { name: 'inbox', paths: ['/inbox', '/inbox/:card'], title: 'Inbox', key: 'i', icon: 'tray', load: () => import('./pages/inbox/Inbox.svelte') },
  { name: 'chat', paths: ['/chat', '/chat/:session'], title: 'Chat', key: 'c', icon: 'chat', load: () => import('./pages/chat/Chat.svelte') },
  { name: 'dispatches', paths: ['/dispatches'], title: 'Dispatches', key: 'd', icon: 'runs', load: () => import('./pages/Dispatches.svelte') },
  { name: 'dispatch', paths: ['/dispatches/:id'], title: 'Dispatch', load: () => import('./pages/dispatch/Dispatch.svelte') },
  { name: 'audit', paths: ['/audit', '/audit/:seq'], title: 'Audit', key: 'a', icon: 'audit', load: () => import('./pages/audit/Audit.svelte') },
  { name: 'grants', paths: ['/grants'], title: 'Grants', key: 'g', icon: 'key', load: () => import('./pages/grants/Grants.svelte') },
  { name: 'new-grant', paths: ['/grants/new'], title: 'Give a grant', load: () => import('./pages/grants/NewGrant.svelte') },
  { name: 'grant', paths: ['/grants/:id'], title: 'Grant', load: () => import('./pages/grants/Grant.svelte') },
  { name: 'runners', paths: ['/runners'], title: 'Runners', key: 'u', icon: 'box', load: () => import('./pages/Runners.svelte') },
  { name: 'health', paths: ['/health'], title: 'Health', key: 'e', icon: 'pulse', load: () => import('./pages/Health.svelte') },
  { name: 'docs', paths: ['/docs', '/docs/:topic'], title: 'Reference', key: 'r', icon: 'book', load: () => import('./pages/Docs.svelte') },
];

/** The page of a path, and what its parameters are. */
export function match(path: string): { readonly page: Page; readonly params: Record<string, string> } | null {
  const parts = path.replace(/\/+$/, '').split('/').slice(1);
  for (const page of PAGES) {
    for (const pattern of page.paths) {
      const wanted = pattern.replace(/\/+$/, '').split('/').slice(1);
      if (wanted.length !== parts.length) continue;
      const params: Record<string, string> = {};
      const fits = wanted.every((want, i) => {
        const part = parts[i] ?? '';
        if (!want.startsWith(':')) return want === part;
        if (part === '') return false;
        params[want.slice(1)] = decode(part);
        return true;
      });
      if (fits) return { page, params };
    }
  }
  return null;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const here = () => ({ path: location.pathname, query: location.search, hash: location.hash });
let place = $state.raw(here());

export const route = {
  get path(): string {
    return place.path;
  },
  get query(): URLSearchParams {
    return new URLSearchParams(place.query);
  },
  get hash(): string {
    return place.hash;
  },
};

/** Goes to an address of ours. */
export function go(to: string, options: { readonly replace?: boolean } = {}): void {
  const url = new URL(to, location.href);
  if (url.origin !== location.origin) return;
  const same = url.pathname === location.pathname;
  if (url.href !== location.href) history[options.replace === true ? 'replaceState' : 'pushState'](null, '', url);
  place = here();
  if (!same) document.querySelector('main')?.scrollTo(0, 0);
}

/** Changes parameters of the query; an empty value takes one away. Typing in a filter makes no history. */
export function setQuery(changes: Readonly<Record<string, string | null>>, options: { readonly push?: boolean } = {}): void {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === '') url.searchParams.delete(name);
    else url.searchParams.set(name, value);
  }
  go(url.pathname + url.search + url.hash, { replace: options.push !== true });
}

/** Links of ours are followed without leaving the page; the browser keeps what it does with modifier keys. */
export function listen(): () => void {
  const moved = () => {
    place = here();
  };
  const clicked = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || link.target !== '' || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (link.pathname.startsWith('/api/') || (link.hash !== '' && link.pathname === location.pathname && link.search === location.search)) return;
    event.preventDefault();
    go(link.href);
  };
  addEventListener('popstate', moved);
  document.addEventListener('click', clicked);
  return () => {
    removeEventListener('popstate', moved);
    document.removeEventListener('click', clicked);
  };
}
