// The audit tail's filters: the same as `custody tail`'s. Values of one field are alternatives, different fields narrow.
import type { audit } from '../../contracts/index.ts';

export interface Filter {
  readonly kind: readonly string[];
  readonly outcome: readonly string[];
  readonly subject: readonly string[];
  readonly launcher: readonly string[];
  readonly dispatch: readonly string[];
  readonly since: string;
  readonly until: string;
  readonly text: string;
  readonly checkpoints: boolean;
}

const list = (query: URLSearchParams, name: string): string[] => (query.get(name) ?? '').split(',').map((s) => s.trim()).filter(Boolean);

export const parse = (query: URLSearchParams): Filter => ({
  kind: list(query, 'kind'),
  outcome: list(query, 'outcome'),
  subject: list(query, 'subject'),
  launcher: list(query, 'launcher'),
  dispatch: list(query, 'dispatch'),
  since: query.get('since') ?? '',
  until: query.get('until') ?? '',
  text: query.get('q') ?? '',
  checkpoints: query.get('checkpoints') === '1',
});

const PARTS: readonly (keyof Filter)[] = ['kind', 'outcome', 'subject', 'launcher', 'dispatch'];

export const isEmpty = (f: Filter): boolean =>
  PARTS.every((p) => f[p] instanceof Array && f[p].length === 0) && f.since === '' && f.until === '' && f.text === '';

/** A test for one row, made once for many. */
export function matcher(f: Filter): (row: audit.Row) => boolean {
  const words = f.text.toLowerCase().split(/\s+/).filter(Boolean);
  const since = moment(f.since);
  const until = moment(f.until);
  const any = (wanted: readonly string[], value: string | undefined) => wanted.length === 0 || (value !== undefined && wanted.includes(value));
  return (row) => {
    if (row.kind === 'checkpoint' && !f.checkpoints && !f.kind.includes('checkpoint')) return false;
    if (!any(f.kind, row.kind) || !any(f.outcome, row.outcome) || !any(f.subject, row.subject) || !any(f.launcher, row.launcher)) return false;
    if (f.dispatch.length > 0 && !f.dispatch.some((d) => row.dispatch?.startsWith(d))) return false;
    if (since !== null && !since(row, true)) return false;
    if (until !== null && !until(row, false)) return false;
    if (words.length === 0) return true;
    const text = `${row.type} ${row.outcome} ${row.subject ?? ''} ${row.launcher ?? ''} ${row.scope ?? ''} ${row.dispatch ?? ''} ${row.object}`.toLowerCase();
    return words.every((w) => text.includes(w));
  };
}

/** `seq:10421`, or a time as the browser reads it. What cannot be read filters nothing. */
function moment(text: string): ((row: audit.Row, after: boolean) => boolean) | null {
  const seq = /^seq:(\d+)$/.exec(text);
  if (seq) {
    const n = Number(seq[1]);
    return (row, after) => (after ? row.seq >= n : row.seq <= n);
  }
  const at = Date.parse(text);
  if (text === '' || Number.isNaN(at)) return null;
  return (row, after) => (after ? Date.parse(row.time) >= at : Date.parse(row.time) <= at);
}

/** The same view on the command line. */
export function command(f: Filter): string {
  const flags = PARTS.flatMap((p) => {
    const value = f[p];
    return value instanceof Array && value.length > 0 ? [`--${p} ${value.join(',')}`] : [];
  });
  if (f.since) flags.push(`--since ${quote(f.since)}`);
  if (f.until) flags.push(`--until ${quote(f.until)}`);
  if (f.checkpoints) flags.push('--checkpoints');
  const grep = f.text ? ` | grep -i -- ${quote(f.text)}` : '';
  return `custody tail ${flags.join(' ')}`.trim() + grep;
}

const quote = (text: string): string => (/^[\w.:/@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
