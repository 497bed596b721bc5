// Markdown as tokens, never as HTML. Words that still come are read again only from the last two blocks on, and a block
// whose source did not change keeps its object, so that a page draws only what is new.
import { Lexer, type Token } from 'marked';

export interface Lexed {
  readonly text: string;
  readonly tokens: readonly Token[];
}

export const EMPTY: Lexed = { text: '', tokens: [] };
/** Blocks at the end that the next words may still change. */
const OPEN_BLOCKS = 2;

export function lex(text: string, before: Lexed = EMPTY): Lexed {
  if (text === before.text) return before;
  const keep = text.startsWith(before.text) ? before.tokens.slice(0, Math.max(0, before.tokens.length - OPEN_BLOCKS)) : [];
  const from = keep.reduce((sum, token) => sum + token.raw.length, 0);
  // The lexer turns tabs and line ends into its own; only where raw text adds up can a part be read alone.
  const exact = keep.map((token) => token.raw).join('') === text.slice(0, from);
  const fresh = new Lexer({ gfm: true }).lex(exact ? text.slice(from) : text);
  const base = exact ? keep : [];
  const rest = fresh.map((token, i) => {
    const old = before.tokens[base.length + i];
    return old?.raw === token.raw && old.type === token.type ? old : token;
  });
  return { text, tokens: [...base, ...rest] };
}

/** Where a link may lead. Everything else is shown as words. */
const SCHEMES = new Set(['http:', 'https:', 'mailto:']);

export interface Target {
  readonly href: string;
  readonly host: string;
  readonly outside: boolean;
}

export function target(href: string): Target | null {
  let url: URL;
  try {
    url = new URL(href);
  } catch {
    return null;
  }
  if (!SCHEMES.has(url.protocol)) return null;
  return { href: url.href, host: url.host || url.pathname, outside: true };
}
