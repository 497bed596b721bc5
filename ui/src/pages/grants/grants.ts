// What the server says of a grant, and where it stands now: whether one has ended is the reader's to say.
import type { grant } from '../../contracts/index.ts';
import type { Tone } from '../../words.ts';

export type Terms = Omit<grant.Grant, 'consent' | 'redelegation_depth'>;

export interface GrantRow {
  readonly grant: string;
  readonly status: string;
  readonly subject: string;
  readonly launcher: string;
  readonly terms: Terms | null;
  readonly consent: { readonly method: string; readonly at: string; readonly statement_digest: string } | null;
  readonly statement?: string;
  readonly parent: string | null;
  readonly by: string;
  readonly why: string | null;
  readonly issued_at: string | null;
  readonly issued_seq: number | null;
  readonly revoked_at: string | null;
  readonly revoked_by: string | null;
  readonly revoked_why: string | null;
  readonly uses: number;
  readonly last_used_at: string | null;
  readonly last_dispatch: string | null;
  readonly cost_micros: number;
  readonly last_seq: number;
}

export interface Draft {
  readonly terms: Terms;
  readonly statement: string;
  readonly statement_digest: string;
}

export type Standing = 'requested' | 'early' | 'valid' | 'ending' | 'ended' | 'revoked';

/** So long before its end a grant is shown as ending. */
const SOON_MS = 14 * 86_400_000;

export function standing(row: GrantRow, now: number): Standing {
  if (row.status === 'revoked') return 'revoked';
  if (row.status !== 'issued') return 'requested';
  const ends = Date.parse(row.terms?.expires ?? '');
  if (ends <= now) return 'ended';
  if (Date.parse(row.terms?.not_before ?? '') > now) return 'early';
  return ends - now < SOON_MS ? 'ending' : 'valid';
}

export const STANDING: Readonly<Record<Standing, { readonly word: string; readonly tone: Tone }>> = {
  requested: { word: 'Asked for', tone: 'wait' },
  early: { word: 'Not yet', tone: 'wait' },
  valid: { word: 'Valid', tone: 'ok' },
  ending: { word: 'Ends soon', tone: 'wait' },
  ended: { word: 'Ended', tone: 'off' },
  revoked: { word: 'Revoked', tone: 'bad' },
};

const MODES = { ro: 'reads', rw: 'writes', propose: 'proposes in' } as const;

/** Workspaces and tools in one short line. */
export function scope(terms: Terms | null): string {
  if (terms === null) return '';
  const spaces = terms.workspaces.map((w) => `${MODES[w.mode]} ${w.id}`).join(', ');
  const tools = terms.tools.length === 0 ? 'no tool' : terms.tools.length === 1 ? (terms.tools[0] ?? '') : `${terms.tools.length} tools`;
  return [spaces || 'no workspace', tools].join(' · ');
}

/** The launcher without what kind it is. */
export const short = (launcher: string): string => launcher.split(':').slice(1).join(':') || launcher;
